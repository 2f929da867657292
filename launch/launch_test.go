// Package launch_test reads the launch files, parameters and rviz configurations as their programs would.
package launch_test

import (
	"encoding/json"
	"encoding/xml"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"

	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2"
)

// file is what the XML forms of both generations share.
type file struct {
	XMLName xml.Name `xml:"launch"`
	Args    []struct {
		Name        string  `xml:"name,attr"`
		Default     *string `xml:"default,attr"`
		Doc         string  `xml:"doc,attr"`
		Description string  `xml:"description,attr"`
	} `xml:"arg"`
	Nodes []struct {
		Name      string `xml:"name,attr"`
		Namespace string `xml:"namespace,attr"`
		Pkg       string `xml:"pkg,attr"`
		Args      string `xml:"args,attr"`
		Remap     []struct {
			From string `xml:"from,attr"`
			To   string `xml:"to,attr"`
		} `xml:"remap"`
		Param []struct {
			Name string `xml:"name,attr"`
		} `xml:"param"`
	} `xml:"node"`
}

func readXML(t *testing.T, name string) (f file) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := xml.Unmarshal(text, &f); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return f
}

// inputs are the names that a user has to remap, as one generation writes them.
func inputs(private string) []string {
	return []string{private + "image", private + "image/compressed", private + "camera_info", private + "map_points", private + "depth", private + "depth/compressedDepth"}
}

func TestXML(t *testing.T) {
	for name, private := range map[string]string{"stllm.launch": "~", "stllm.launch.xml": "~/"} {
		f := readXML(t, name)
		for _, a := range f.Args {
			if a.Default == nil || a.Doc+a.Description == "" {
				t.Errorf("%s: argument %s has no default or no description", name, a.Name)
			}
		}
		var from []string
		for _, r := range f.Nodes[0].Remap {
			from = append(from, r.From)
		}
		if !slices.Equal(from, inputs(private)) {
			t.Errorf("%s remaps %v", name, from)
		}
		for _, p := range f.Nodes[0].Param {
			if _, ok := params.Lookup(p.Name); !ok && p.Name != "" {
				t.Errorf("%s sets %s, which is no parameter", name, p.Name)
			}
		}
		used(t, name, f)
	}
}

// used compares the arguments that a file declares with those that it refers to.
func used(t *testing.T, name string, f file) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	refers := map[string]bool{}
	for _, m := range regexp.MustCompile(`\$\((?:arg|var) (\w+)\)`).FindAllStringSubmatch(string(text), -1) {
		refers[m[1]] = true
	}
	for _, a := range f.Args {
		if !refers[a.Name] {
			t.Errorf("%s: argument %s has no effect", name, a.Name)
		}
		delete(refers, a.Name)
	}
	for a := range refers {
		t.Errorf("%s refers to %s, which it does not declare", name, a)
	}
}

// What a launch file renames for rviz are the topics of the configuration that it opens, all of them.
func TestRvizFollowsLaunch(t *testing.T) {
	for name, generation := range map[string]string{"stllm.launch": "ros1", "stllm.launch.xml": "ros2"} {
		want := map[string]bool{}
		for _, d := range displays(t, generation) {
			if d.topic != "" {
				want[d.topic] = true
			}
			if d.transport != "" {
				want[d.topic+"/"+d.transport] = true
			}
		}
		got := map[string]bool{}
		for _, r := range readXML(t, name).Nodes[1].Remap {
			got[r.From] = true
		}
		if !maps.Equal(got, want) {
			t.Errorf("%s renames %v, its displays have %v", name, got, want)
		}
	}
}

// stub stands for launch and launch_ros and prints what the file makes of them.
const stub = `
import json, os, runpy, sys, types

def text(v):
    if isinstance(v, (list, tuple)):
        return "".join(text(x) for x in v)
    return v if isinstance(v, str) else v.text

def module(name, **content):
    m = sys.modules[name] = types.ModuleType(name)
    for k, v in content.items():
        setattr(m, k, v)

class Text:
    def __init__(self, text): self.text = text

class Record:
    def __init__(self, *args, **kw): self.args, self.kw = args, kw

class Argument(Record): pass
class Node(Record): pass

module("launch", LaunchDescription=lambda actions: actions)
module("launch.actions", DeclareLaunchArgument=Argument)
module("launch.conditions", IfCondition=lambda v: v)
module("launch.substitutions", LaunchConfiguration=lambda n: Text("$(var %s)" % n), PathJoinSubstitution=lambda p: Text("/".join(text(x) for x in p)))
module("launch_ros")
module("launch_ros.actions", Node=Node)
module("launch_ros.substitutions", FindPackageShare=lambda p: Text("$(find-pkg-share %s)" % p))
actions = runpy.run_path(sys.argv[1])["generate_launch_description"]()
nodes = [a for a in actions if isinstance(a, Node)]
print(json.dumps({
    "args": {a.args[0]: text(a.kw["default_value"]) for a in actions if isinstance(a, Argument)},
    "remaps": [[f, text(t)] for n in nodes for f, t in n.kw["remappings"]],
    "names": [[text(n.kw["namespace"]), text(n.kw["name"])] for n in nodes],
    "command": [text(a) for a in nodes[0].kw["arguments"]],
    "set": sorted(nodes[0].kw["parameters"][1]),
    "file": text(nodes[0].kw["parameters"][0]),
    "undocumented": [a.args[0] for a in actions if isinstance(a, Argument) and not a.kw["description"]],
}))
`

// The Python file and the XML file of ROS 2 are the same launch.
func TestPythonAndXMLAgree(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not here: apt-get install python3")
	}
	out, err := exec.Command(python, "-c", stub, "stllm.launch.py").Output()
	if err != nil {
		if failed, ok := err.(*exec.ExitError); ok {
			t.Fatalf("%v\n%s", err, failed.Stderr)
		}
		t.Fatal(err)
	}
	var py struct {
		Args         map[string]string
		Remaps       [][2]string
		Command, Set []string
		Names        [][2]string
		File         string
		Undocumented []string
	}
	if err := json.Unmarshal(out, &py); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	f := readXML(t, "stllm.launch.xml")
	args := map[string]string{}
	for _, a := range f.Args {
		args[a.Name] = *a.Default
	}
	if !maps.Equal(args, py.Args) || len(py.Undocumented) > 0 {
		t.Errorf("arguments of XML %v\nof Python %v, undocumented %v", args, py.Args, py.Undocumented)
	}
	var remaps [][2]string
	var names [][2]string
	for _, n := range f.Nodes {
		if n.Namespace != "$(var namespace)" { // all in one, so that relative names that are given mean the same topics
			t.Errorf("%s is in the namespace %q", n.Name, n.Namespace)
		}
		for _, r := range n.Remap {
			remaps = append(remaps, [2]string{r.From, r.To})
		}
		names = append(names, [2]string{n.Namespace, n.Name})
	}
	if !slices.Equal(remaps, py.Remaps) || !slices.Equal(names, py.Names) {
		t.Errorf("nodes of XML %v remap %v\nof Python %v %v", names, remaps, py.Names, py.Remaps)
	}
	if command := strings.Join(py.Command, " "); command != f.Nodes[0].Args {
		t.Errorf("command of XML %q, of Python %q", f.Nodes[0].Args, command)
	}
	var set []string
	for _, p := range f.Nodes[0].Param {
		if p.Name != "" {
			set = append(set, p.Name)
		}
	}
	slices.Sort(set)
	if !slices.Equal(set, py.Set) || py.File != "$(var params)" {
		t.Errorf("parameters of XML %v, of Python %v and %s", set, py.Set, py.File)
	}
}

// What launch_ros makes of either file (captured from launch 3.7 and launch_ros 0.28) is a command line that the node reads.
func TestCommandLineOfLaunchROS(t *testing.T) {
	made := filepath.Join(t.TempDir(), "launch_params_x")
	if err := os.WriteFile(made, []byte("/robot1/stllm:\n  ros__parameters:\n    autostart: false\n    use_sim_time: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := ros2.ParseArguments([]string{"node", "--transport", "ros2", "--model=", "--ros-args", "--log-level", "info", "--ros-args",
		"-r", "__node:=stllm", "-r", "__ns:=/robot1", "--params-file", "stllm.yaml", "--params-file", made,
		"-r", "~/image:=/cam/image_raw", "-r", "~/image/compressed:=/cam/image_raw/compressed", "-r", "~/camera_info:=/cam/camera_info", "-r", "~/map_points:=/map/points",
		"-r", "~/depth:=/cam/depth", "-r", "~/depth/compressedDepth:=/cam/depth/compressedDepth"})
	if err != nil {
		t.Fatal(err)
	}
	if a.Name != "stllm" || a.Namespace != "/robot1" || len(a.Remaps) != 6 || strings.Join(a.Rest, " ") != "node --transport ros2 --model=" {
		t.Errorf("%+v", a)
	}
	p, want := params.Default(), params.Default()
	want.Autostart, want.UseSimTime = false, true
	foreign, err := p.ROS2Arguments(a.ParamFiles, a.Params, a.Namespace+"/"+a.Name)
	if err != nil || len(foreign) > 0 || p != want {
		t.Errorf("%v, foreign %v, %+v", err, foreign, p)
	}
}

// roslaunch itself reads the ROS 1 file.
func TestRoslaunch(t *testing.T) {
	const roslaunch = "/usr/bin/roslaunch"
	if _, err := os.Stat(roslaunch); err != nil {
		t.Skipf("%s is not here: apt-get install python3-roslaunch (make test does it where it can)", roslaunch)
	}
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		cmd := exec.Command(roslaunch, args...)
		cmd.Env = append(os.Environ(), "ROS_PACKAGE_PATH="+here, "ROS_LOG_DIR="+t.TempDir())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("roslaunch %v: %v\n%s", args, err, out)
		}
		return string(out)
	}
	if out := run("--nodes", "stllm.launch"); strings.TrimSpace(out) != "/stllm" {
		t.Errorf("nodes: %q", out)
	}
	if out := run("--nodes", "stllm.launch", "name:=eyes", "rviz:=true"); !strings.Contains(out, "/eyes\n") || !strings.Contains(out, "/rviz_eyes") {
		t.Errorf("nodes with rviz: %q", out)
	}
	out := run("--args", "stllm", "stllm.launch", "model:=/m", "image:=/cam/image_raw")
	for _, want := range []string{"scripts/stllm node --transport ros1 --model=/m --params ", "stllm.yaml", "~image:=/cam/image_raw ", "~image/compressed:=/cam/image_raw/compressed", "__name:=stllm"} {
		if !strings.Contains(out, want) {
			t.Errorf("command %q lacks %q", out, want)
		}
	}
}

// display is one of rviz's.
type display struct{ name, class, topic, transport, durability, reliability string }

// displays reads an rviz configuration.
func displays(t *testing.T, generation string) (list []display) {
	t.Helper()
	text, err := os.ReadFile("rviz/stllm_" + generation + ".rviz")
	if err != nil {
		t.Fatal(err)
	}
	var cfg struct {
		Manager struct {
			Displays []map[string]any `yaml:"Displays"`
			Global   map[string]any   `yaml:"Global Options"`
		} `yaml:"Visualization Manager"`
	}
	if err := yaml.Unmarshal(text, &cfg); err != nil {
		t.Fatalf("%s: %s", generation, yaml.FormatError(err, false, false))
	}
	if cfg.Manager.Global["Fixed Frame"] != params.Default().FixedFrame {
		t.Errorf("%s: fixed frame %v", generation, cfg.Manager.Global["Fixed Frame"])
	}
	plugins := map[string]string{"ros1": "rviz/", "ros2": "rviz_default_plugins/"}[generation]
	word := func(v any) string {
		s, _ := v.(string)
		return s
	}
	for _, d := range cfg.Manager.Displays {
		class, ours := strings.CutPrefix(word(d["Class"]), plugins)
		if !ours || d["Enabled"] != true {
			t.Errorf("%s: %v", generation, d)
		}
		e := display{name: word(d["Name"]), class: class, transport: word(d["Transport Hint"])}
		for _, key := range []string{"Topic", "Marker Topic", "Image Topic"} {
			switch v := d[key].(type) {
			case string:
				e.topic = v
			case map[string]any:
				e.topic, e.durability, e.reliability = word(v["Value"]), word(v["Durability Policy"]), word(v["Reliability Policy"])
			}
		}
		list = append(list, e)
	}
	return list
}

// The displays of both generations show the same topics, which are those of the program (node/robot's TestInterface), or its
// inputs by the defaults of the launch files; and those of ROS 2 ask for what is offered.
func TestRviz(t *testing.T) {
	input := map[string]string{}
	for _, a := range readXML(t, "stllm.launch.xml").Args {
		input[a.Name] = *a.Default
	}
	p := params.Default()
	words := func(q transport.QoS) (durability, reliability string) {
		durability, reliability = "Volatile", "Best Effort"
		if q.Durability == transport.TransientLocal {
			durability = "Transient Local"
		}
		if q.Reliability == transport.Reliable {
			reliability = "Reliable"
		}
		return durability, reliability
	}
	var want1, want2 []display
	for _, d := range []struct {
		name, class, topic string
		qos                *transport.QoS
	}{
		{"Grid", "Grid", "", nil},
		{"Map", "PointCloud2", input["map_points"], ptr(p.QoSMap())},
		{"TF", "TF", "", nil},
		{"Window path", "Path", "/stllm/window_path", ptr(p.QoSPath())},
		{"Window and evidence", "MarkerArray", "/stllm/markers", ptr(p.QoSMarkers())},
		{"Camera", "Image", input["image"], ptr(p.QoSImage())},
	} {
		e := display{name: d.name, class: d.class, topic: d.topic}
		one := e
		if d.class == "Image" {
			one.transport = "compressed"
		}
		want1 = append(want1, one)
		if d.qos != nil {
			if e.durability, e.reliability = words(*d.qos); e.durability == "Volatile" {
				e.durability = "" // as rviz has it by default
			}
		}
		want2 = append(want2, e)
	}
	if got := displays(t, "ros1"); !slices.Equal(got, want1) {
		t.Errorf("ros1: %+v\nexpected %+v", got, want1)
	}
	if got := displays(t, "ros2"); !slices.Equal(got, want2) {
		t.Errorf("ros2: %+v\nexpected %+v", got, want2)
	}
}

func ptr[T any](v T) *T { return &v }

// Everything that a launch file refers to is installed by the package.
func TestInstalled(t *testing.T) {
	cmake, err := os.ReadFile("CMakeLists.txt")
	if err != nil {
		t.Fatal(err)
	}
	two, one, ok := strings.Cut(string(cmake), "else()")
	if !ok {
		t.Fatal("CMakeLists.txt has no branch for each generation")
	}
	for branch, names := range map[string][]string{two: {"stllm.launch.py", "stllm.launch.xml", "stllm.yaml", "rviz", "scripts/stllm"}, one: {"stllm.launch", "stllm.yaml", "rviz", "scripts/stllm"}} {
		for _, name := range names {
			if !strings.Contains(branch, " "+name+" ") {
				t.Errorf("%s is not installed by %s", name, branch)
			}
			if _, err := os.Stat(name); err != nil {
				t.Error(err)
			}
		}
	}
}
