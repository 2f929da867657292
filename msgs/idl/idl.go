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

// Field is one member.
type Field struct {
	Type    Type
	Name    string
	Default string // ROS 2, as written
}

// Constant is a named value.
type Constant struct {
	Type  Type
	Name  string
	Value string // as written
}

// Spec is one message (or one part of a service or action).
type Spec struct {
	Package   string
	Name      string // "Image", "Ask_Request", "Ask_Goal"
	Kind      string // "msg", "srv", "action"
	Fields    []Field
	Constants []Constant
	// Entries keeps the order of fields and constants, which ROS 1's MD5 does not need but a definition's text does.
	Text string // definition without comments, one entry a line
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

// Parse reads the text of one message.
func Parse(pkg, name, kind, text string, gen Generation) (*Spec, error) {
	s := &Spec{Package: pkg, Name: name, Kind: kind}
	fail := func(line int, l, why string) error { return &ParseError{s.Key(), line, l, why} }
	if len(text) > maxText {
		return nil, fail(1, "", fmt.Sprintf("%d bytes, at most %d are read", len(text), maxText))
	}
	seen := map[string]bool{}
	var kept []string
	for i, raw := range strings.Split(text, "\n") {
		line := i + 1
		l := strings.TrimSpace(strings.ReplaceAll(raw, "\r", ""))
		if isStringConstant(l) {
			// a string constant's value goes to the end of the line, "#" included
		} else if j := strings.IndexByte(l, '#'); j >= 0 {
			l = strings.TrimSpace(l[:j])
		}
		if l == "" {
			continue
		}
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
			c := Constant{Type: t, Name: strings.TrimSpace(n), Value: strings.TrimSpace(v)}
			if !t.Builtin() || t.Kind != Single {
				return nil, fail(line, l, "a constant has a built-in type and is no array")
			}
			if err := checkIdentifier(c.Name); err != nil {
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
		f := Field{Type: t, Name: rest}
		if n, d, has := strings.Cut(rest, " "); has {
			if gen == ROS1 {
				return nil, fail(line, l, "text behind the field's name")
			}
			f.Name, f.Default = n, strings.TrimSpace(d)
		}
		if err := checkIdentifier(f.Name); err != nil {
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
		} else if t.Size, err = strconv.Atoi(size); err != nil || t.Size < 0 || t.Size > 1<<31 {
			return t, fmt.Errorf("array size %q is no count", size)
		}
	}
	if name, bound, ok := strings.Cut(base, "<="); ok {
		if gen != ROS2 || name != "string" && name != "wstring" {
			return t, fmt.Errorf("type %q cannot be bounded", base)
		}
		if t.Bound, err = strconv.Atoi(bound); err != nil || t.Bound < 0 {
			return t, fmt.Errorf("string bound %q is no count", bound)
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

// Sections splits a service or action text at its --- lines.
func Sections(text string) []string {
	out := []string{""}
	for _, l := range strings.SplitAfter(text, "\n") {
		if t := strings.TrimSpace(l); len(t) >= 3 && strings.Trim(t, "-") == "" {
			out = append(out, "")
			continue
		}
		out[len(out)-1] += l
	}
	return out
}
