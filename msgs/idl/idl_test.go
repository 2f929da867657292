package idl

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	s, err := Parse("pkg", "Thing", "msg", `# A thing
# of two lines.

uint8 A=1 # first
string NAME=a # b
float64[9] k  # row-major
# above it
Other[] others
std_msgs/msg/Header[<=3] headers
string<=10[] names
int32[] list [1, 2]
string text "a # b"
`, ROS2)
	// A default that holds # is cut there, as rosidl_adapter does.
	if err != nil {
		t.Fatal(err)
	}
	if s.Comment != "A thing of two lines." || s.FullName() != "pkg/msg/Thing" {
		t.Errorf("%q %s", s.Comment, s.FullName())
	}
	if want := []Constant{{Type{Name: "uint8"}, "A", "1", "first"}, {Type{Name: "string"}, "NAME", "a", "b"}}; !reflect.DeepEqual(s.Constants, want) {
		t.Errorf("constants %+v", s.Constants)
	}
	var got []string
	for _, f := range s.Fields {
		got = append(got, f.Type.String()+" "+f.Name+"|"+f.Default+"|"+f.Comment)
	}
	want := []string{"float64[9] k||row-major", "pkg/Other[] others||above it", "std_msgs/Header[<=3] headers||", "string<=10[] names||", "int32[] list|[1, 2]|", `string text|"a|b"`}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("fields\n%q\nexpected\n%q", got, want)
	}
}

func TestRulesOfROS1(t *testing.T) {
	s, err := Parse("pkg", "Thing", "msg", "Header header\ntime t\nduration[2] d\nHeader[] more\nfloat64[] D", ROS1)
	if err != nil || s.Fields[0].Type.Key() != "std_msgs/Header" || s.Fields[3].Type.Key() != "std_msgs/Header" {
		t.Errorf("%+v, %v", s, err)
	}
	if s, err = Parse("pkg", "Thing", "msg", "string NAME=a # b", ROS1); err != nil || s.Constants[0].Value != "a # b" {
		t.Errorf("a string constant goes to the end of the line: %+v, %v", s, err)
	}
	s, err = Parse("pkg", "Thing", "msg", "Header header", ROS2)
	if err != nil || s.Fields[0].Type.Key() != "pkg/Header" {
		t.Errorf("ROS 2 has no such rule: %+v, %v", s, err)
	}
}

func TestParseErrors(t *testing.T) {
	for _, tc := range []struct {
		gen        Generation
		text, want string
	}{
		{ROS1, "uint8", "line 1"},
		{ROS1, "\nuint8 a\nuint8 a", "line 3"},
		{ROS1, "uint8 1a", `"1a" is no name`},
		{ROS1, "uint8 a 3", "text behind"},
		{ROS1, "wstring a", "not of this generation"},
		{ROS1, "uint8[<=3] a", "array size"},
		{ROS1, "string<=3 a", "cannot be bounded"},
		{ROS1, "uint8[0] a", "array size"},
		{ROS1, "uint8[-1] a", "array size"},
		{ROS1, "uint8[99999999999] a", "array size"},
		{ROS1, "uint8[ a", "closing bracket"},
		{ROS1, "uint8 A=256", "is no uint8"},
		{ROS1, "int8 A=x", "is no int8"},
		{ROS1, "float32 A=one", "is no float32"},
		{ROS1, "bool A=maybe", "is no bool"},
		{ROS1, "time A=1", "no type time"},
		{ROS1, "Header A=1", "built-in type"},
		{ROS1, "a/b/c/d e", "too many slashes"},
		{ROS1, "uint8\x00 a", "is no name"},
		{ROS2, "time a", "not of this generation"},
		{ROS2, "float64[9] K", "no field name of ROS 2"},
		{ROS2, "float64 a__b", "no field name of ROS 2"},
		{ROS2, "float64 a_", "no field name of ROS 2"},
		{ROS2, "float64 _a", "no field name of ROS 2"},
		{ROS2, "uint8 lower=1", "no constant's name of ROS 2"},
		{ROS2, "string<=0 a", "string bound"},
		{ROS2, "int32<=3 a", "cannot be bounded"},
	} {
		_, err := Parse("pkg", "Thing", "msg", tc.text, tc.gen)
		var p *ParseError
		if !errors.As(err, &p) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q: %v, expected %q", tc.text, err, tc.want)
		}
	}
	if _, err := Parse("pkg", "Thing", "msg", strings.Repeat("#", maxText+1), ROS1); err == nil {
		t.Error("a text of more than a megabyte was read")
	}
}

// Errors in a service name the line of its file.
func TestSections(t *testing.T) {
	parts := Sections("a\n---\nb\nc\n --- \r\n")
	want := []Section{{"a\n", 1}, {"b\nc\n", 3}, {"", 6}}
	if !reflect.DeepEqual(parts, want) {
		t.Errorf("%+v", parts)
	}
	err := NewSet(ROS1).Add("pkg", "Serve", "srv", "uint8 a\n---\nuint8 b\nuint8 b\n")
	if err == nil || !strings.Contains(err.Error(), "line 4") {
		t.Errorf("%v, expected line 4", err)
	}
	for kind, text := range map[string]string{"srv": "uint8 a", "action": "uint8 a\n---\n"} {
		if err := NewSet(ROS1).Add("pkg", "Serve", kind, text); err == nil {
			t.Errorf("a %s of %q was taken", kind, text)
		}
	}
}

func TestCheck(t *testing.T) {
	for name, texts := range map[string]map[string]string{
		"refers to pkg/Missing": {"A": "Missing m"},
		"holds itself":          {"A": "B b", "B": "A[] a"},
	} {
		set := NewSet(ROS2)
		for n, text := range texts {
			if err := set.Add("pkg", n, "msg", text); err != nil {
				t.Fatal(err)
			}
		}
		if err := set.Check(); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, expected %q", err, name)
		}
	}
}

// Sixty messages, each of which holds the next twice: a walk over all paths would never end.
func TestDiamonds(t *testing.T) {
	set := NewSet(ROS1)
	name := func(i int) string { return "M" + strings.Repeat("x", i) }
	for i := range 60 {
		if err := set.Add("pkg", name(i), "msg", name(i+1)+" a\n"+name(i+1)+" b"); err != nil {
			t.Fatal(err)
		}
	}
	if err := set.Add("pkg", name(60), "msg", "uint8 v"); err != nil {
		t.Fatal(err)
	}
	if err := set.Check(); err != nil {
		t.Fatal(err)
	}
	if text, err := set.Definition("pkg/" + name(0)); err != nil || strings.Count(text, "MSG: ") != 60 {
		t.Errorf("%d dependencies, %v", strings.Count(text, "MSG: "), err)
	}
}

func FuzzAdd(f *testing.F) {
	f.Add("srv", "uint8 A=1\n---\nstring s # c")
	f.Add("action", "Other o\n---\nint8 a\n---\nfloat32[<=3] f")
	f.Add("msg", "string C=a # b\nfloat64[9] k\nN n")
	f.Fuzz(func(_ *testing.T, kind, text string) {
		for _, gen := range []Generation{ROS1, ROS2} {
			set := NewSet(gen)
			if set.Add("p", "N", kind, text) != nil || set.Check() != nil {
				continue
			}
			for _, key := range set.Keys() {
				_, _ = set.MD5(key)
				_, _ = set.TypeHash(key)
				_, _ = set.Definition(key)
			}
		}
	})
}
