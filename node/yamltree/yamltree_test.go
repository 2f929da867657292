package yamltree

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestAny(t *testing.T) {
	top, err := Parse([]byte("# a comment\n---\na: &x [1, -2, 2.5, \"3\", yes, true, null]\nb: {c: !!str d}\ne: |\n  two\n  lines\nf: 585.\ng: .inf\nh: 007\n"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := top.Any()
	fields, err2 := top.Fields()
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	delete(got.(map[string]any), "g")
	delete(got.(map[string]any), "f")
	delete(got.(map[string]any), "h")
	want := map[string]any{"a": []any{uint64(1), int64(-2), 2.5, "3", "yes", true, nil}, "b": map[string]any{"c": "d"}, "e": "two\nlines\n"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%#v\nexpected %#v", got, want)
	}
	if names := slices.Sorted(maps.Keys(fields)); !slices.Equal(names, strings.Split("abefgh", "")) || fields["e"].Line != 5 {
		t.Errorf("%v, e in line %d", names, fields["e"].Line)
	}
	if f, err := fields["f"].Number(); err != nil || f != 585 {
		t.Errorf("f is %g, %v", f, err)
	}
	if s, err := fields["h"].Text(); err != nil || s != "007" {
		t.Errorf("h is %q, %v", s, err)
	}
	if s, err := fields["e"].Text(); err != nil || s != "two\nlines\n" {
		t.Errorf("e is %q, %v", s, err)
	}
	if _, err := fields["e"].Number(); err == nil || err.Error() != "line 5: e is not a number" {
		t.Error(err)
	}
	for name, text := range map[string]string{"nothing": "", "a comment": "# x\n", "null": "~"} {
		if top, err := Parse([]byte(text)); err != nil || !top.Empty() {
			t.Errorf("%s: %+v, %v", name, top, err)
		}
	}
}

func TestRefused(t *testing.T) {
	for text, want := range map[string]string{
		"\n" + strings.Repeat("[", 100_000):         "line 2: nested too deeply",
		strings.Repeat("- ", 50_000):                "line 1: nested too deeply",
		"x:\n" + strings.Repeat(" ", 5000) + "y: 1": "line 2: nested too deeply",
		"a: [1": "not YAML",
		"# " + strings.Repeat("[", 1000) + "\na: 1\nb: *x": "line 3: b is not a value",
	} {
		top, err := Parse([]byte(text))
		if err == nil {
			_, err = top.Any()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q…: %v, expected %q", text, err, want)
		}
	}
}

func FuzzAny(f *testing.F) {
	for _, s := range []string{"a: [1, {b: c}]", "links:\n !0 #", "- &a b\n- *a", "? a\n: b", "<<: {a: 1}", "!!binary x", "a: |\n x", "--- >\n x\n...\n%YAML 1.2"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		top, err := Parse(data)
		if err != nil {
			return
		}
		if _, err := top.Any(); err != nil && !strings.HasPrefix(err.Error(), "line ") {
			t.Errorf("%q: %v", data, err)
		}
		_, _ = top.Text()
		_, _ = top.Numbers()
	})
}
