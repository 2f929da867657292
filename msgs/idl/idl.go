// Package idl reads ROS interface definitions (.msg, .srv, .action) of both generations and computes from one parse what
// names a type on the wire: ROS 1 MD5 sums (roslib gentools) and ROS 2 type hashes (REP-2011, RIHS01).
package idl

import (
	"fmt"
	"strconv"
	"strings"
)

// Generation is the dialect of a definition.
type Generation int

// The generations.
const (
	ROS1 Generation = 1
	ROS2 Generation = 2
)

// ArrayKind says how many values a field holds.
type ArrayKind int

// The kinds.
const (
	Single    ArrayKind = iota
	Fixed               // [n]
	Bounded             // [<=n], ROS 2
	Unbounded           // []
)

// Type of a field or constant.
type Type struct {
	Package string // empty for built-in types
	Name    string // "uint8", "string", "time" or a message name
	Kind    ArrayKind
	Size    int // of Fixed and Bounded
	Bound   int // of string<=n, 0: none
}

// Builtin tells whether the type is no message.
func (t Type) Builtin() bool { return t.Package == "" }

// Key is "pkg/Name" of a message type.
func (t Type) Key() string { return t.Package + "/" + t.Name }

// String is the type as definitions write it: "float64[9]", "string<=256", "geometry_msgs/Point[]".
func (t Type) String() string {
	name := t.Name
	if !t.Builtin() {
		name = t.Key()
	}
	if t.Bound > 0 {
		name += fmt.Sprintf("<=%d", t.Bound)
	}
	return name + t.suffix()
}

// SameWire tells whether two types have the same bytes on the wire: byte, char and uint8 do, and bounds have none.
func (t Type) SameWire(o Type) bool {
	for _, x := range []*Type{&t, &o} {
		x.Bound = 0
		if x.Kind == Bounded {
			x.Kind, x.Size = Unbounded, 0
		}
		if x.Builtin() && (x.Name == "byte" || x.Name == "char") {
			x.Name = "uint8"
		}
	}
	return t == o
}

// Field is one member.
type Field struct {
	Type    Type
	Name    string
	Default string // ROS 2, as written
	Comment string // what stands behind it, or else in the lines directly above
}

// Constant is a named value.
type Constant struct {
	Type    Type
	Name    string
	Value   string // as written
	Comment string // as of a field
}

// Spec is one message (or one part of a service or action).
type Spec struct {
	Package   string
	Name      string // "Image", "Ask_Request", "Ask_Goal"
	Kind      string // "msg", "srv", "action"
	Fields    []Field
	Constants []Constant
	Comment   string // the lines at the top, before the first entry
	Text      string // definition without comments, one entry a line, in the order of the source
}

// Key is "pkg/Name".
func (s *Spec) Key() string { return s.Package + "/" + s.Name }

// FullName is ROS 2's "pkg/msg/Name".
func (s *Spec) FullName() string { return s.Package + "/" + s.Kind + "/" + s.Name }

// builtins maps the built-in types to ROS 2's field type ids (type_description_interfaces/msg/FieldType); 0: ROS 1 alone.
var builtins = map[string]int{
	"int8": 2, "uint8": 3, "int16": 4, "uint16": 5, "int32": 6, "uint32": 7, "int64": 8, "uint64": 9, "float32": 10,
	"float64": 11, "bool": 15, "byte": 16, "char": 3, "string": 17, "wstring": 18, "time": 0, "duration": 0,
}

// ParseError says where a definition is wrong.
type ParseError struct {
	Type string
	Line int
	Text string
	Why  string
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("definition of %s line %d (%q): %s", e.Type, e.Line, e.Text, e.Why)
}

// maxText bounds a definition: the longest published one has a few kilobytes.
const maxText = 1 << 20

// maxArray is the largest fixed array or bound of a sequence that is taken for real.
const maxArray = 1 << 30

// Parse reads the text of one message.
func Parse(pkg, name, kind, text string, gen Generation) (*Spec, error) {
	s := &Spec{Package: pkg, Name: name, Kind: kind}
	fail := func(line int, l, why string) error { return &ParseError{s.Key(), line, l, why} }
	if len(text) > maxText {
		return nil, fail(1, "", fmt.Sprintf("%d bytes, at most %d are read", len(text), maxText))
	}
	seen := map[string]bool{}
	var kept, above []string
	for i, raw := range strings.Split(text, "\n") {
		line := i + 1
		l := strings.TrimSpace(strings.ReplaceAll(raw, "\r", ""))
		comment, hasComment := "", false
		if gen == ROS1 && isStringConstant(l) {
			// ROS 1: a string constant's value goes to the end of the line, "#" included
		} else if l, comment, hasComment = strings.Cut(l, "#"); hasComment {
			l, comment = strings.TrimSpace(l), strings.TrimSpace(strings.TrimLeft(comment, "#"))
		}
		if l == "" {
			if !hasComment {
				above = nil
			} else if above = append(above, comment); len(kept) == 0 {
				s.Comment, above = strings.TrimSpace(s.Comment+" "+comment), nil
			}
			continue
		}
		if comment == "" {
			comment = strings.Join(above, " ")
		}
		above = nil
		typ, rest, ok := strings.Cut(strings.ReplaceAll(l, "\t", " "), " ")
		rest = strings.TrimSpace(rest)
		if !ok || rest == "" {
			return nil, fail(line, l, "expected \"type name\" or \"type NAME=value\"")
		}
		t, err := parseType(typ, pkg, gen)
		if err != nil {
			return nil, fail(line, l, err.Error())
		}
		if n, v, isConst := strings.Cut(rest, "="); isConst && !strings.ContainsAny(strings.TrimSpace(n), " \"'[") {
			c := Constant{Type: t, Name: strings.TrimSpace(n), Value: strings.TrimSpace(v), Comment: comment}
			if !t.Builtin() || t.Kind != Single {
				return nil, fail(line, l, "a constant has a built-in type and is no array")
			}
			if err := checkConstant(c, gen); err != nil {
				return nil, fail(line, l, err.Error())
			}
			if seen[c.Name] {
				return nil, fail(line, l, "the name is used twice")
			}
			seen[c.Name] = true
			s.Constants = append(s.Constants, c)
			kept = append(kept, typ+" "+c.Name+"="+c.Value)
			continue
		}
		f := Field{Type: t, Name: rest, Comment: comment}
		if n, d, has := strings.Cut(rest, " "); has {
			if gen == ROS1 {
				return nil, fail(line, l, "text behind the field's name")
			}
			f.Name, f.Default = n, strings.TrimSpace(d)
		}
		if err := checkField(f.Name, gen); err != nil {
			return nil, fail(line, l, err.Error())
		}
		if seen[f.Name] {
			return nil, fail(line, l, "the name is used twice")
		}
		seen[f.Name] = true
		s.Fields = append(s.Fields, f)
		kept = append(kept, typ+" "+rest)
	}
	s.Text = strings.Join(kept, "\n")
	return s, nil
}

func isStringConstant(l string) bool {
	rest, ok := strings.CutPrefix(l, "string ")
	if !ok {
		return false
	}
	eq, hash := strings.IndexByte(rest, '='), strings.IndexByte(rest, '#')
	return eq > 0 && (hash < 0 || eq < hash)
}

func checkIdentifier(name string) error {
	for i, c := range name {
		if !(c == '_' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || i > 0 && c >= '0' && c <= '9') {
			return fmt.Errorf("%q is no name", name)
		}
	}
	if name == "" {
		return fmt.Errorf("the name is missing")
	}
	return nil
}

// checkField follows genmsg (ROS 1: letters of either case) and rosidl_adapter (ROS 2: snake case).
func checkField(name string, gen Generation) error {
	if err := checkIdentifier(name); err != nil {
		return err
	}
	if gen == ROS2 && (name[0] == '_' || strings.ToLower(name) != name || strings.Contains(name, "__") || strings.HasSuffix(name, "_")) {
		return fmt.Errorf("%q is no field name of ROS 2: lower case letters, digits and single underscores, a letter first", name)
	}
	return nil
}

// checkConstant tests name and value; strings hold anything.
func checkConstant(c Constant, gen Generation) error {
	if err := checkIdentifier(c.Name); err != nil {
		return err
	}
	if gen == ROS2 && strings.ToUpper(c.Name) != c.Name {
		return fmt.Errorf("%q is no constant's name of ROS 2: upper case letters, digits and underscores", c.Name)
	}
	var err error
	switch name := c.Type.Name; name {
	case "string", "wstring":
	case "time", "duration":
		return fmt.Errorf("a constant has no type %s", name)
	case "bool":
		switch strings.ToLower(c.Value) {
		case "true", "false", "0", "1":
		default:
			err = fmt.Errorf("expected true or false")
		}
	case "float32", "float64":
		_, err = strconv.ParseFloat(c.Value, 64)
	case "uint8", "uint16", "uint32", "uint64":
		_, err = strconv.ParseUint(c.Value, 0, scalarBits[name])
	case "byte", "char": // signed in ROS 1, unsigned in ROS 2
		if _, err = strconv.ParseUint(c.Value, 0, 8); err != nil {
			_, err = strconv.ParseInt(c.Value, 0, 8)
		}
	default:
		_, err = strconv.ParseInt(c.Value, 0, scalarBits[name])
	}
	if err != nil {
		return fmt.Errorf("value %q of constant %s is no %s: %w", c.Value, c.Name, c.Type.Name, err)
	}
	return nil
}

var scalarBits = map[string]int{"int8": 8, "uint8": 8, "int16": 16, "uint16": 16, "int32": 32, "uint32": 32, "int64": 64, "uint64": 64}

func parseType(text, pkg string, gen Generation) (t Type, err error) {
	base := text
	if i := strings.IndexByte(text, '['); i >= 0 {
		if !strings.HasSuffix(text, "]") {
			return t, fmt.Errorf("type %q has no closing bracket", text)
		}
		base = text[:i]
		size := text[i+1 : len(text)-1]
		t.Kind = Fixed
		if rest, ok := strings.CutPrefix(size, "<="); ok && gen == ROS2 {
			t.Kind, size = Bounded, rest
		}
		if size == "" && t.Kind == Fixed {
			t.Kind = Unbounded
		} else if t.Size, err = strconv.Atoi(size); err != nil || t.Size < 1 || t.Size > maxArray {
			return t, fmt.Errorf("array size %q, expected 1 to %d", size, maxArray)
		}
	}
	if name, bound, ok := strings.Cut(base, "<="); ok {
		if gen != ROS2 || name != "string" && name != "wstring" {
			return t, fmt.Errorf("type %q cannot be bounded", base)
		}
		if t.Bound, err = strconv.Atoi(bound); err != nil || t.Bound < 1 {
			return t, fmt.Errorf("string bound %q, expected a number above 0", bound)
		}
		base = name
	}
	if id, ok := builtins[base]; ok {
		if gen == ROS2 && id == 0 || gen == ROS1 && base == "wstring" {
			return t, fmt.Errorf("type %q is not of this generation", base)
		}
		t.Name = base
		return t, nil
	}
	parts := strings.Split(base, "/")
	switch {
	case len(parts) == 1 && base == "Header" && gen == ROS1:
		t.Package, t.Name = "std_msgs", "Header"
	case len(parts) == 1:
		t.Package, t.Name = pkg, base
	case len(parts) == 2:
		t.Package, t.Name = parts[0], parts[1]
	case len(parts) == 3 && parts[1] == "msg":
		t.Package, t.Name = parts[0], parts[2]
	default:
		return t, fmt.Errorf("type %q has too many slashes", base)
	}
	for _, p := range []string{t.Package, t.Name} {
		if err := checkIdentifier(p); err != nil {
			return t, fmt.Errorf("type %q: %w", base, err)
		}
	}
	return t, nil
}

// Section is a part of a service or action.
type Section struct {
	Text string
	Line int // on which it starts, from 1
}

// Sections splits a service or action text at its --- lines.
func Sections(text string) []Section {
	out := []Section{{Line: 1}}
	start := 0
	at := 0
	for i, l := range strings.SplitAfter(text, "\n") {
		if t := strings.TrimSpace(l); len(t) >= 3 && strings.Trim(t, "-") == "" {
			out[len(out)-1].Text = text[start:at]
			start = at + len(l)
			out = append(out, Section{Line: i + 2})
		}
		at += len(l)
	}
	out[len(out)-1].Text = text[start:]
	return out
}
