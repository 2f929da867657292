package ros2

import (
	"reflect"
	"testing"
)

func TestParseArguments(t *testing.T) {
	a, err := ParseArguments([]string{"node", "--model", "nano", "--ros-args", "-r", "__node:=eyes", "--remap", "__ns:=/robot1",
		"-r", "~/image:=/cam/image", "-p", "fixed_frame:=odom", "-p", "eyes:queue:=3", "-p", "other:x:=1", "-p", "/robot1/eyes:y:=2", "-r", "other:a:=b",
		"-r", "rostopic://chat:=rostopic://talk", "-r", "stllm:__ns:=/robot1", "-r", "other:__node:=no", "--", "middle", "--ros-args", "--params-file", "a.yaml", "--log-level", "debug", "--", "tail"})
	if err != nil {
		t.Fatal(err)
	}
	want := Arguments{
		Name: "eyes", Namespace: "/robot1", Remaps: map[string]string{"~/image": "/cam/image", "rostopic://chat": "rostopic://talk"},
		Params: map[string]string{"fixed_frame": "odom", "queue": "3", "y": "2"}, ParamFiles: []string{"a.yaml"}, LogLevel: "debug",
		Rest: []string{"node", "--model", "nano", "middle", "tail"},
	}
	if !reflect.DeepEqual(a, want) {
		t.Errorf("got %+v\nexpected %+v", a, want)
	}
	for _, bad := range [][]string{{"--ros-args", "-r"}, {"--ros-args", "-r", "x"}, {"--ros-args", "-r", "other:x"}, {"--ros-args", "-p", ":=3"}, {"--ros-args", "--nonsense"}} {
		if _, err := ParseArguments(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestResolve(t *testing.T) {
	r, err := newResolver("/robot1/", "eyes", map[string]string{"~/image": "/cam/image", "map_points": "cloud", "rostopic://t": "t2", "rosservice://s": "s2"})
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"~/image": "/cam/image", "~image": "/cam/image", "map_points": "/robot1/cloud", "/map_points": "/map_points",
		"~/answer": "/robot1/eyes/answer", "/tf": "/tf", "~": "/robot1/eyes", "t": "/robot1/t2", "s": "/robot1/s",
	} {
		if got, err := r.resolve(in); err != nil || got != want {
			t.Errorf("%s: got %s (%v), expected %s", in, got, err, want)
		}
	}
	for in, want := range map[string]string{"t": "/robot1/t", "s": "/robot1/s2", "map_points": "/robot1/cloud"} {
		if got, err := r.service(in); err != nil || got != want {
			t.Errorf("service %s: got %s (%v), expected %s", in, got, err, want)
		}
	}
	for _, bad := range []string{"", "a//b", "a/", "/1x", "a b", "~/"} {
		if got, err := r.resolve(bad); err == nil {
			t.Errorf("%q was accepted as %s", bad, got)
		}
	}
}

func TestWireNames(t *testing.T) {
	if got := wireTopic("/a/b"); got != "rt/a/b" {
		t.Error(got)
	}
	if q, r := wireService("/stllm/ask"); q != "rq/stllm/askRequest" || r != "rr/stllm/askReply" {
		t.Error(q, r)
	}
	if got := wireType("std_msgs/String", "msg"); got != "std_msgs::msg::dds_::String_" {
		t.Error(got)
	}
}

func TestROSType(t *testing.T) {
	for wire, want := range map[string]string{
		wireType("std_msgs/String", "msg"):        "std_msgs/msg/String",
		wireType("stllm_msgs/Ask_Goal", "action"): "stllm_msgs/action/Ask_Goal",
		"HelloWorld": "HelloWorld",
		"a::b_":      "a::b_",
	} {
		if got := rosType(wire); got != want {
			t.Errorf("%s: got %s, expected %s", wire, got, want)
		}
	}
}
