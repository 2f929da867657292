package params

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/testdata"
)

// Every field has one row, every row one field, and every default is valid.
func TestTable(t *testing.T) {
	p := Default()
	if err := p.Validate(); err != nil {
		t.Fatal(err)
	}
	seen := map[any]string{}
	names := map[string]bool{}
	for i := range table {
		d := &table[i]
		if names[d.Name] {
			t.Errorf("%s is listed twice", d.Name)
		}
		names[d.Name] = true
		if other, ok := seen[d.field(&p)]; ok {
			t.Errorf("%s has the field of %s", d.Name, other)
		}
		seen[d.field(&p)] = d.Name
		if d.Doc == "" || d.Section == "" || !strings.HasSuffix(d.Doc, ".") {
			t.Errorf("%s is not documented", d.Name)
		}
		v, err := d.convert(d.Default)
		if err != nil || v != d.Default {
			t.Errorf("%s: default %v (%T) becomes %v (%T), %v", d.Name, d.Default, d.Default, v, v, err)
		}
		if d.Kind == String && len(d.Values) == 0 && d.load(&p) != d.Default {
			t.Errorf("%s: field is %v", d.Name, d.load(&p))
		}
	}
	if fields := reflect.TypeFor[Parameters]().NumField(); fields != len(table) {
		t.Errorf("%d fields, %d rows", fields, len(table))
	}
	for _, q := range []interface{ Validate() error }{p.QoSImage(), p.QoSCameraInfo(), p.QoSTF(), p.QoSTFStatic(), p.QoSMap(), p.QoSQuestion(), p.QoSAnswer(), p.QoSMarkers(), p.QoSPath()} {
		if err := q.Validate(); err != nil {
			t.Errorf("%+v: %v", q, err)
		}
	}
}

func TestSet(t *testing.T) {
	for _, c := range []struct {
		name  string
		value any
		want  any
		err   string
	}{
		{"tf_timeout", 0.25, 0.25, ""},
		{"tf_timeout", "0.25", 0.25, ""},
		{"tf_timeout", 1, 1.0, ""},
		{"tf_timeout", -1, nil, "parameter tf_timeout is -1, expected a number, 0 to 60 s"},
		{"tf_timeout", "soon", nil, `parameter tf_timeout is "soon", expected a number`},
		{"tf_timeout", "NaN", nil, "expected a number"},
		{"tf_timeout", true, nil, "is true, expected a number"},
		{"tf_timeout", nil, nil, "is empty, expected a number"},
		{"frames", 8.0, int64(8), ""},
		{"frames", 8.5, nil, "parameter frames is 8.5, expected a whole number, 0 to 1024 frames"},
		{"frames", "12", int64(12), ""},
		{"frames", uint64(1) << 63, nil, "expected a whole number"},
		{"do_sample", "on", true, ""},
		{"do_sample", "maybe", nil, `is "maybe", expected true or false`},
		{"image_transport", "raw", "raw", ""},
		{"image_transport", "theora", nil, `is "theora", expected one of auto, raw, compressed`},
		{"fixed_frame", "", nil, `is "", expected the name of a frame`},
		{"fixed_frame", "a\nb", nil, "expected"},
		{"fixed_fame", "odom", nil, `there is no parameter "fixed_fame"; the nearest name is "fixed_frame"`},
	} {
		p := Default()
		err := p.Set(c.name, c.value)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s=%v: %v, expected %q", c.name, c.value, err, c.err)
			}
			if p != Default() {
				t.Errorf("%s=%v: a refused value changed something", c.name, c.value)
			}
			continue
		}
		if got, gerr := p.Get(c.name); err != nil || gerr != nil || got != c.want {
			t.Errorf("%s=%v: %v (%T), %v %v, expected %v", c.name, c.value, got, got, err, gerr, c.want)
		}
	}
}

func TestChange(t *testing.T) {
	p := Default()
	if err := p.Change("window_duration", 12); err != nil || p.WindowDuration != 12 {
		t.Errorf("%v, %v", p.WindowDuration, err)
	}
	if err := p.Change("fixed_frame", "map"); err != nil {
		t.Errorf("the same value: %v", err)
	}
	if err := p.Change("fixed_frame", "odom"); err == nil || !strings.Contains(err.Error(), "restart the node") {
		t.Errorf("read-only: %v", err)
	}
	if err := p.Change("tf_timeout", 11); err == nil || !strings.Contains(err.Error(), "at most tf_cache (10.0)") {
		t.Errorf("against another: %v", err)
	}
	before := p
	if err := p.ChangeAll(map[string]any{"frames": 4, "top_p": 2}); err == nil || p != before {
		t.Errorf("all or none: %v", err)
	}
	if err := p.ChangeAll(map[string]any{"frames": 4, "nonsense": 2}); err == nil || p != before {
		t.Errorf("unknown: %v", err)
	}
	if err := p.ChangeAll(map[string]any{"frames": 3, "window_max_frames": 3}); err != nil || p.Frames != 3 || p.WindowMaxFrames != 3 {
		t.Errorf("two that only fit together: %v", err)
	}
	if err := p.ChangeAll(map[string]any{"window_max_frames": 600}); err != nil {
		t.Error(err)
	}
	if err := p.ChangeAll(map[string]any{"frames": 4, "top_p": 0.5}); err != nil || p.Frames != 4 || p.TopP != 0.5 {
		t.Errorf("%v", err)
	}
}

func TestLoad(t *testing.T) {
	for _, c := range []struct {
		name, yaml, err string
		frames          int64
	}{
		{"flat", "frames: 4\nwindow_duration: 3\n", "", 4},
		{"wildcard", "/**:\n  ros__parameters:\n    frames: 5\n", "", 5},
		{"by name", "stllm:\n  ros__parameters:\n    frames: 6\nother:\n  ros__parameters:\n    frames: 7\n", "", 6},
		{"by full name", "/ns/stllm:\n  ros__parameters: {frames: 6}\n/stllm:\n  ros__parameters: {frames: 7}\n", "", 6},
		{"namespace", "ns:\n  stllm:\n    ros__parameters: {frames: 9}\n", "", 9},
		{"in order", "/**:\n  ros__parameters: {frames: 2}\n/ns/*:\n  ros__parameters: {frames: 3}\n", "", 3},
		{"other nodes' names are not ours to check", "other:\n  ros__parameters:\n    nonsense: 1\n", "", 0},
		{"empty", "", "", 0},
		{"comment", "# nothing\n", "", 0},
		{"number as text", "fixed_frame: 12\nmodel: off\n", "", 0},
		{"unknown", "frames: 1\nframs: 4\n", `p.yaml:2: there is no parameter "frams"; the nearest name is "frames"`, 0},
		{"range", "/**:\n  ros__parameters:\n    frames: 9999\n", "p.yaml:3: parameter frames is 9999, expected a whole number, 0 to 1024 frames", 0},
		{"type", "frames: [1, 2]\n", "p.yaml:1: parameter frames is a YAML sequence, expected a single value", 0},
		{"nan", "top_p: .nan\n", "p.yaml:1: parameter top_p is", 0},
		{"against another", "frames: 0\ntf_timeout: 20\n", "p.yaml:2: parameter tf_timeout is 20.0, expected at most tf_cache (10.0)", 0},
		{"list", "- frames\n", "p.yaml:1: expected `name: value` lines", 0},
		{"no ros__parameters", "/**:\n  frames: 3\n", "p.yaml:2: expected ros__parameters under", 0},
		{"broken", "frames: [1\n", "p.yaml: not YAML", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := Default()
			err := p.Load([]byte(c.yaml), "p.yaml", "/ns/stllm")
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("%v, expected %q", err, c.err)
				}
				if p != Default() {
					t.Error("a refused file changed something")
				}
				return
			}
			if err != nil || p.Frames != c.frames {
				t.Errorf("frames %d, %v", p.Frames, err)
			}
		})
	}
}

func TestROS1Arguments(t *testing.T) {
	p := Default()
	rest, err := p.ROS1Arguments([]string{"node", "_frames:=3", "__name:=x", "image:=/cam", "_model:=/m:=n"})
	if err != nil || p.Frames != 3 || p.Model != "/m:=n" || len(rest) != 3 {
		t.Errorf("%v %v %v %v", p.Frames, p.Model, rest, err)
	}
	var wrong *Error
	if _, err := p.ROS1Arguments([]string{"_frames:=many"}); !errors.As(err, &wrong) || wrong.Name != "frames" {
		t.Errorf("%v", err)
	}
}

func TestROS2Arguments(t *testing.T) {
	file := func(text string) string {
		path := filepath.Join(t.TempDir(), "p.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	shared := file("/**:\n  ros__parameters:\n    use_sim_time: true\n    robot_radius: 0.2\n    qos_overrides:\n      /tf: {subscription: {depth: 5}}\n    footprint: [1, 2]\n    frames: 4\n" +
		"/ns/stllm:\n  ros__parameters:\n    frames: 5\n    start_type_description_service: false\n")
	for _, c := range []struct {
		name    string
		files   []string
		values  map[string]string
		want    func(*Parameters)
		foreign string
		err     string
	}{
		{name: "nothing", want: func(*Parameters) {}},
		{name: "shared file", files: []string{shared}, want: func(p *Parameters) { p.UseSimTime, p.Frames = true, 5 },
			foreign: "robot_radius qos_overrides footprint start_type_description_service"},
		{name: "later file wins", files: []string{shared, file("/**/stllm:\n  ros__parameters: {frames: 6}\n")},
			want:    func(p *Parameters) { p.UseSimTime, p.Frames = true, 6 },
			foreign: "robot_radius qos_overrides footprint start_type_description_service"},
		{name: "value wins", files: []string{shared}, values: map[string]string{"frames": "7"}, want: func(p *Parameters) { p.UseSimTime, p.Frames = true, 7 },
			foreign: "robot_radius qos_overrides footprint start_type_description_service"},
		{name: "YAML values", values: map[string]string{"fixed_frame": "'odom'", "model": "/m/a b:c", "image_topic": "~/image", "tf_timeout": "1", "do_sample": "yes", "camera_info_topic": "", "seed": "0x10"},
			want: func(p *Parameters) {
				p.FixedFrame, p.Model, p.ImageTopic, p.TFTimeout, p.DoSample, p.Seed = "odom", "/m/a b:c", "~/image", 1, true, 16
			}},
		{name: "text that looks like a number", values: map[string]string{"fixed_frame": "12", "model": "off"}, want: func(p *Parameters) { p.FixedFrame, p.Model = "12", "off" }},
		{name: "of every node", values: map[string]string{"qos_overrides./tf.subscription.depth": "3"}, want: func(*Parameters) {}, foreign: "qos_overrides./tf.subscription.depth"},
		{name: "typo in our own section", files: []string{file("/ns/stllm:\n  ros__parameters:\n    frams: 5\n")}, err: `p.yaml:3: there is no parameter "frams"`},
		{name: "typo on the command line", values: map[string]string{"frams": "5"}, err: `there is no parameter "frams"`},
		{name: "bad value", values: map[string]string{"frames": "many"}, err: "argument -p frames:=many: parameter frames is"},
		{name: "list", values: map[string]string{"frames": "[1]"}, err: "expected a single YAML value: a whole number"},
		{name: "no file", files: []string{"/nonexistent.yaml"}, err: "read parameters"},
		{name: "bad value in a shared section", files: []string{file("/**:\n  ros__parameters:\n    frames: 9999\n")}, err: "p.yaml:3: parameter frames is 9999"},
		{name: "against another", values: map[string]string{"tf_timeout": "20"}, err: "at most tf_cache"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, want := Default(), Default()
			foreign, err := p.ROS2Arguments(c.files, c.values, "/ns/stllm")
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) || p != want {
					t.Errorf("%v, expected %q", err, c.err)
				}
				return
			}
			var names []string
			for _, f := range foreign {
				names = append(names, f.Name)
			}
			c.want(&want)
			if err != nil || p != want || strings.Join(names, " ") != c.foreign {
				t.Errorf("%v\n%+v\nforeign %v", err, p, names)
			}
		})
	}
}

func FuzzROS2Value(f *testing.F) {
	for _, s := range []string{"1", "'odom'", "[1, 2]", "a: b", "!!binary x", "&a *a", "# c", "|\n x"} {
		f.Add("fixed_frame", s)
		f.Add("frames", s)
	}
	f.Fuzz(func(t *testing.T, name, value string) {
		p := Default()
		if _, err := p.ROS2Arguments(nil, map[string]string{name: value}, "/stllm"); err != nil && p != Default() {
			t.Fatal("a refused value changed something")
		}
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
	})
}

// The shipped file is what the table says; STLLM_WRITE=1 writes it anew.
func TestYAMLIsShipped(t *testing.T) {
	want := RenderYAML()
	path := filepath.Join(testdata.Root(t), "launch", "stllm.yaml")
	if os.Getenv("STLLM_WRITE") == "1" {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, want) {
		t.Errorf("%s differs from the table; STLLM_WRITE=1 go test ./node/params -run YAML writes it anew", path)
	}
	p := Default()
	p.Frames, p.FixedFrame = 7, "odom"
	if err := p.Load(have, path, "/stllm"); err != nil || p != Default() {
		t.Errorf("reading it back: %v\n%+v", err, p)
	}
	if n := bytes.Count(RenderMarkdown(), []byte("\n")); n != len(table)+2 {
		t.Errorf("%d lines of Markdown for %d parameters", n, len(table))
	}
}

func FuzzLoad(f *testing.F) {
	f.Add([]byte("/**:\n  ros__parameters:\n    frames: 5\n"))
	f.Add([]byte("a: &x {b: *x}\n"))
	f.Add(RenderYAML())
	f.Fuzz(func(t *testing.T, data []byte) {
		p := Default()
		if err := p.Load(data, "p.yaml", "/stllm"); err != nil {
			if p != Default() {
				t.Fatal("a refused file changed something")
			}
			return
		}
		if err := p.Validate(); err != nil {
			t.Fatal(err)
		}
	})
}

// Deep nesting costs the parser time that grows with its square: it is refused before.
func TestDeepNesting(t *testing.T) {
	for _, s := range []string{strings.Repeat("[", 100000), strings.Repeat("{a: ", 50000), strings.Repeat("- ", 50000), "x:\n" + strings.Repeat(" ", 5000) + "y: 1"} {
		p := Default()
		if err := p.Load([]byte(s), "p.yaml", "/stllm"); err == nil || !strings.Contains(err.Error(), "deeply") {
			t.Errorf("%.10q…: %v", s, err)
		}
	}
}
