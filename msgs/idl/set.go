package idl

import (
	"crypto/md5"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Set is a collection of definitions of one generation that refer to each other.
type Set struct {
	Generation Generation
	specs      map[string]*Spec     // by "pkg/Name"
	services   map[string][2]string // "pkg/Name" to keys of request and response
	actions    map[string]bool      // "pkg/Name"
}

// NewSet returns an empty set.
func NewSet(gen Generation) *Set {
	return &Set{Generation: gen, specs: map[string]*Spec{}, services: map[string][2]string{}, actions: map[string]bool{}}
}

// Add reads one definition of kind "msg", "srv" or "action". Services and actions become several messages, named as ROS 2
// names them: Ask_Request, Ask_Goal, Ask_SendGoal_Request and so on.
func (s *Set) Add(pkg, name, kind, text string) error {
	if kind == "msg" {
		_, err := s.add(pkg, name, kind, text)
		return err
	}
	if len(text) > maxText {
		return &ParseError{pkg + "/" + name, 1, "", fmt.Sprintf("%d bytes, at most %d are read", len(text), maxText)}
	}
	parts := Sections(text)
	if kind == "srv" {
		if len(parts) != 2 {
			return &ParseError{pkg + "/" + name, 1, "", fmt.Sprintf("a service has 2 parts split by ---, this has %d", len(parts))}
		}
		return s.addService(pkg, name, "srv", parts[0], parts[1])
	}
	if kind != "action" || len(parts) != 3 {
		return &ParseError{pkg + "/" + name, 1, "", fmt.Sprintf("an action has 3 parts split by ---, this %s has %d", kind, len(parts))}
	}
	for i, suffix := range []string{"_Goal", "_Result", "_Feedback"} {
		if err := s.addSection(pkg, name+suffix, "action", parts[i]); err != nil {
			return err
		}
	}
	s.actions[pkg+"/"+name] = true
	if s.Generation == ROS1 {
		return nil // actionlib's messages are not spoken
	}
	uuid := "unique_identifier_msgs/UUID goal_id\n"
	derived := func(text string) Section { return Section{Text: text, Line: 1} }
	if err := s.addService(pkg, name+"_SendGoal", "action", derived(uuid+name+"_Goal goal"), derived("bool accepted\nbuiltin_interfaces/Time stamp")); err != nil {
		return err
	}
	if err := s.addService(pkg, name+"_GetResult", "action", derived(uuid), derived("int8 status\n"+name+"_Result result")); err != nil {
		return err
	}
	_, err := s.add(pkg, name+"_FeedbackMessage", "action", uuid+name+"_Feedback feedback")
	return err
}

func (s *Set) add(pkg, name, kind, text string) (*Spec, error) {
	spec, err := Parse(pkg, name, kind, text, s.Generation)
	if err != nil {
		return nil, err
	}
	if _, dup := s.specs[spec.Key()]; dup {
		return nil, &ParseError{spec.Key(), 1, "", "defined twice"}
	}
	s.specs[spec.Key()] = spec
	return spec, nil
}

// addSection adds a part of a service or action; errors name the line of the whole text.
func (s *Set) addSection(pkg, name, kind string, part Section) error {
	_, err := s.add(pkg, name, kind, part.Text)
	var p *ParseError
	if errors.As(err, &p) {
		p.Line += part.Line - 1
	}
	return err
}

func (s *Set) addService(pkg, name, kind string, request, response Section) error {
	for i, part := range []Section{request, response} {
		if err := s.addSection(pkg, name+[]string{"_Request", "_Response"}[i], kind, part); err != nil {
			return err
		}
	}
	if s.Generation == ROS2 {
		event := fmt.Sprintf("service_msgs/ServiceEventInfo info\n%s_Request[<=1] request\n%s_Response[<=1] response", name, name)
		if _, err := s.add(pkg, name+"_Event", kind, event); err != nil {
			return err
		}
	}
	s.services[pkg+"/"+name] = [2]string{pkg + "/" + name + "_Request", pkg + "/" + name + "_Response"}
	return nil
}

// AddBundle reads several definitions of a package: a line "=== kind/Name" before each.
func (s *Set) AddBundle(pkg, text string) error {
	for i, part := range strings.Split("\n"+text, "\n=== ") {
		if i == 0 {
			continue
		}
		head, body, _ := strings.Cut(part, "\n")
		kind, name, ok := strings.Cut(strings.TrimSpace(head), "/")
		if !ok {
			return fmt.Errorf("bundle of %s: heading %q, expected kind/Name", pkg, head)
		}
		if err := s.Add(pkg, name, kind, body); err != nil {
			return err
		}
	}
	return nil
}

// Spec finds a message by "pkg/Name".
func (s *Set) Spec(key string) (*Spec, bool) {
	spec, ok := s.specs[key]
	return spec, ok
}

// HasService and HasAction tell whether a name ("pkg/Name") is a service's or an action's; it may be both.
func (s *Set) HasService(key string) bool { _, ok := s.services[key]; return ok }
func (s *Set) HasAction(key string) bool  { return s.actions[key] }

// Keys lists all messages in order.
func (s *Set) Keys() []string { return slices.Sorted(maps.Keys(s.specs)) }

// Check makes sure that every type that is referred to is there, and that no message holds itself.
func (s *Set) Check() error {
	for _, key := range s.Keys() {
		if _, err := s.closure(key); err != nil {
			return err
		}
	}
	return nil
}

// closure lists the messages that a message refers to, itself left out, in the order of first use (as ROS 1's gendeps).
func (s *Set) closure(key string) ([]string, error) {
	var order []string
	met, done, open := map[string]bool{}, map[string]bool{}, map[string]bool{}
	var walk func(key, from string) error
	walk = func(key, from string) error {
		spec, ok := s.specs[key]
		if !ok {
			return fmt.Errorf("definition of %s refers to %s, which is not known", from, key)
		}
		if open[key] {
			return fmt.Errorf("definition of %s holds itself", key)
		}
		if done[key] {
			return nil
		}
		open[key] = true
		defer func() { delete(open, key); done[key] = true }()
		for _, f := range spec.Fields {
			if f.Type.Builtin() {
				continue
			}
			k := f.Type.Key()
			if !met[k] {
				met[k] = true
				order = append(order, k)
			}
			if err := walk(k, key); err != nil {
				return err
			}
		}
		return nil
	}
	return order, walk(key, key)
}

// MD5 is ROS 1's sum of a message or service.
func (s *Set) MD5(key string) (string, error) {
	if parts, ok := s.services[key]; ok {
		req, err := s.md5Text(parts[0])
		if err != nil {
			return "", err
		}
		res, err := s.md5Text(parts[1])
		if err != nil {
			return "", err
		}
		return sum(req + res), nil
	}
	text, err := s.md5Text(key)
	if err != nil {
		return "", err
	}
	return sum(text), nil
}

func sum(text string) string {
	h := md5.Sum([]byte(text))
	return hex.EncodeToString(h[:])
}

func (s *Set) md5Text(key string) (string, error) {
	spec, ok := s.specs[key]
	if !ok {
		return "", fmt.Errorf("message type %s is not known", key)
	}
	var lines []string
	for _, c := range spec.Constants {
		lines = append(lines, c.Type.Name+" "+c.Name+"="+c.Value)
	}
	for _, f := range spec.Fields {
		if f.Type.Builtin() {
			lines = append(lines, f.Type.Name+f.Type.suffix()+" "+f.Name)
			continue
		}
		// An embedded message stands by its own sum, whether array or not.
		inner, err := s.MD5(f.Type.Key())
		if err != nil {
			return "", err
		}
		lines = append(lines, inner+" "+f.Name)
	}
	return strings.TrimSpace(strings.Join(lines, "\n")), nil
}

func (t Type) suffix() string {
	switch t.Kind {
	case Fixed:
		return fmt.Sprintf("[%d]", t.Size)
	case Bounded:
		return fmt.Sprintf("[<=%d]", t.Size)
	case Unbounded:
		return "[]"
	}
	return ""
}

// Definition is the text of a message with those it refers to, as bags and ROS 1 headers carry it.
func (s *Set) Definition(key string) (string, error) {
	if parts, ok := s.services[key]; ok {
		req, err := s.Definition(parts[0])
		if err != nil {
			return "", err
		}
		res, err := s.Definition(parts[1])
		return req + "---\n" + res, err
	}
	spec, ok := s.specs[key]
	if !ok {
		return "", fmt.Errorf("message type %s is not known", key)
	}
	deps, err := s.closure(key)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	b.WriteString(spec.Text + "\n")
	for _, d := range deps {
		fmt.Fprintf(&b, "\n%s\nMSG: %s\n%s\n", strings.Repeat("=", 80), d, s.specs[d].Text)
	}
	return b.String(), nil
}

// description is REP-2011's type description in the form that is hashed: default values are not part of it.
type description struct {
	TypeName string      `json:"type_name"`
	Fields   []fieldDesc `json:"fields"`
}

type fieldDesc struct {
	Name string   `json:"name"`
	Type typeDesc `json:"type"`
}

type typeDesc struct {
	TypeID     int    `json:"type_id"`
	Capacity   int    `json:"capacity"`
	StringCap  int    `json:"string_capacity"`
	NestedName string `json:"nested_type_name"`
}

// Offsets of the field type ids by how many values a field holds, and the ids of bounded strings.
const (
	idNested    = 1
	idFixed     = 48
	idBounded   = 96
	idUnbounded = 144
	idBoundStr  = 4 // string 17 becomes 21, wstring 18 becomes 22
)

func (s *Set) describe(spec *Spec) description {
	d := description{TypeName: spec.FullName(), Fields: []fieldDesc{}}
	for _, f := range spec.Fields {
		t := typeDesc{StringCap: f.Type.Bound}
		if f.Type.Builtin() {
			t.TypeID = builtins[f.Type.Name]
			if f.Type.Bound > 0 {
				t.TypeID += idBoundStr
			}
		} else {
			t.TypeID = idNested
			t.NestedName = s.specs[f.Type.Key()].FullName()
		}
		switch f.Type.Kind {
		case Fixed:
			t.TypeID += idFixed
		case Bounded:
			t.TypeID += idBounded
		case Unbounded:
			t.TypeID += idUnbounded
		}
		t.Capacity = f.Type.Size
		d.Fields = append(d.Fields, fieldDesc{f.Name, t})
	}
	if len(d.Fields) == 0 {
		// What rosidl puts into an empty structure.
		d.Fields = append(d.Fields, fieldDesc{"structure_needs_at_least_one_member", typeDesc{TypeID: builtins["uint8"]}})
	}
	return d
}

// TypeHash is ROS 2's RIHS01 hash of a message or service.
func (s *Set) TypeHash(key string) (string, error) {
	top, roots, err := s.top(key)
	if err != nil {
		return "", err
	}
	return s.hash(top, roots, nil)
}

// ActionHash is ROS 2's RIHS01 hash of an action, which may have the name of a service.
func (s *Set) ActionHash(key string) (string, error) {
	if !s.actions[key] {
		return "", fmt.Errorf("action type %s is not known", key)
	}
	pkg, name, _ := strings.Cut(key, "/")
	top := description{TypeName: pkg + "/action/" + name}
	var roots []string
	var services []description
	for _, f := range [][2]string{{"goal", "_Goal"}, {"result", "_Result"}, {"feedback", "_Feedback"}, {"send_goal_service", "_SendGoal"}, {"get_result_service", "_GetResult"}, {"feedback_message", "_FeedbackMessage"}} {
		top.nest(f[0], top.TypeName+f[1])
		d, parts, err := s.top(key + f[1])
		if err != nil {
			return "", err
		}
		if roots = append(roots, parts...); len(parts) > 1 {
			services = append(services, d)
		}
	}
	return s.hash(top, roots, services)
}

// hash is that of a description with all that its roots refer to, and with the services of an action.
func (s *Set) hash(top description, roots []string, refs []description) (string, error) {
	referenced := map[string]bool{}
	for _, r := range roots {
		deps, err := s.closure(r)
		if err != nil {
			return "", err
		}
		for _, d := range append(deps, r) {
			referenced[d] = true
		}
	}
	for k := range referenced {
		if d := s.describe(s.specs[k]); d.TypeName != top.TypeName { // a message does not refer to itself
			refs = append(refs, d)
		}
	}
	slices.SortFunc(refs, func(a, b description) int { return strings.Compare(a.TypeName, b.TypeName) })
	if refs == nil {
		refs = []description{}
	}
	b, err := json.Marshal(struct {
		Type       description   `json:"type_description"`
		Referenced []description `json:"referenced_type_descriptions"`
	}{top, refs})
	if err != nil {
		return "", err
	}
	h := sha256.Sum256(spaced(b))
	return "RIHS01_" + hex.EncodeToString(h[:]), nil
}

// nest adds a field that holds another type.
func (d *description) nest(field, typ string) {
	d.Fields = append(d.Fields, fieldDesc{field, typeDesc{TypeID: idNested, NestedName: typ}})
}

// top is the description of what is hashed, with the messages that it refers to.
func (s *Set) top(key string) (description, []string, error) {
	pkg, name, _ := strings.Cut(key, "/")
	if spec, ok := s.specs[key]; ok {
		return s.describe(spec), []string{key}, nil
	}
	if _, ok := s.services[key]; ok {
		kind := s.specs[key+"_Request"].Kind
		d := description{TypeName: pkg + "/" + kind + "/" + name}
		d.nest("request_message", d.TypeName+"_Request")
		d.nest("response_message", d.TypeName+"_Response")
		d.nest("event_message", d.TypeName+"_Event")
		return d, []string{key + "_Request", key + "_Response", key + "_Event"}, nil
	}
	return description{}, nil, fmt.Errorf("type %s is not known", key)
}

// spaced turns compact JSON into the form that rosidl hashes: ", " and ": " outside strings.
func spaced(b []byte) []byte {
	var out []byte
	inString := false
	for _, c := range b {
		if c == '"' {
			inString = !inString // names hold no escapes
		}
		out = append(out, c)
		if !inString && (c == ',' || c == ':') {
			out = append(out, ' ')
		}
	}
	return out
}
