package ros1

import (
	"reflect"
	"testing"
)

func TestParseArguments(t *testing.T) {
	a, err := ParseArguments([]string{"--model", "nano", "~image:=/cam/image", "_fixed_frame:=odom", "__name:=eyes", "__ns:=/robot", "__log:=/tmp/x.log", "bag.bag"})
	if err != nil {
		t.Fatal(err)
	}
	want := Arguments{Name: "eyes", Namespace: "/robot", Remaps: map[string]string{"~image": "/cam/image"},
		Params: map[string]string{"fixed_frame": "odom"}, Rest: []string{"--model", "nano", "bag.bag"}}
	if !reflect.DeepEqual(a, want) {
		t.Errorf("got %+v\nexpected %+v", a, want)
	}
	for _, bad := range []string{":=x", "__name:=a/b", "__name:="} {
		if _, err := ParseArguments([]string{bad}); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestResolve(t *testing.T) {
	r, err := newResolver("robot", "eyes", map[string]string{"~image": "/cam/image", "map_points": "cloud"})
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"~image": "/cam/image", "~answer": "/robot/eyes/answer", "map_points": "/robot/cloud", "/tf": "/tf", "image": "/robot/image",
		"~/answer": "/robot/eyes/answer",
	} {
		if got, err := r.resolve(in); err != nil || got != want {
			t.Errorf("%s: %s (%v), expected %s", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "/", "a b", "1x", "a//b", "~"} {
		if got, err := r.resolve(bad); err == nil {
			t.Errorf("%q was accepted as %s", bad, got)
		}
	}
	if _, err := newResolver("/", "a/b c", nil); err == nil {
		t.Error("a node name with a space was accepted")
	}
}
