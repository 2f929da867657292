package main

import (
	"context"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stllm/stllm/node/testdata"
)

// peers is a real rosmaster on loopback and the environment that Debian's ROS tools need to speak stllm_msgs.
type peers struct {
	t   *testing.T
	env []string
}

func newPeers(t *testing.T) *peers {
	t.Helper()
	for _, tool := range []string{"rosmaster", "rostopic", "rosservice", "rosparam", "rosbag"} {
		if _, err := os.Stat("/usr/bin/" + tool); err != nil {
			t.Skipf("/usr/bin/%s is not here: apt-get install ros-core python3-rosbag (make test does it where it can)", tool)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	for k, v := range map[string]string{
		"ROS_MASTER_URI": "http://127.0.0.1:" + strconv.Itoa(port) + "/", "ROS_IP": "127.0.0.1", "ROS_HOSTNAME": "", "ROS_LOG_DIR": t.TempDir(),
	} {
		t.Setenv(k, v)
	}
	p := &peers{t: t, env: append(os.Environ(), "PYTHONPATH="+pythonMessages(t))}
	master := p.start(nil, "rosmaster", "--core", "-p", strconv.Itoa(port), "-w", "3")
	t.Cleanup(func() { _ = master.Process.Kill(); _ = master.Wait() })
	p.until("rosmaster listens", func() bool {
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+strconv.Itoa(port), time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return p
}

// pythonMessages generates stllm_msgs for Python with Debian's genpy, from the same files that catkin builds.
func pythonMessages(t *testing.T) string {
	t.Helper()
	const genmsg, gensrv = "/usr/lib/genpy/genmsg_py.py", "/usr/lib/genpy/gensrv_py.py"
	if _, err := os.Stat(genmsg); err != nil {
		t.Skipf("%s is not here: apt-get install python3-genpy (make test does it where it can)", genmsg)
	}
	dir := t.TempDir()
	defs, err := filepath.Abs("../../../msgs/stllm_msgs")
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range []struct{ kind, generator string }{{"msg", genmsg}, {"srv", gensrv}} {
		out := filepath.Join(dir, "stllm_msgs", g.kind)
		if err := os.MkdirAll(out, 0o755); err != nil {
			t.Fatal(err)
		}
		files, err := filepath.Glob(filepath.Join(defs, g.kind, "*."+g.kind))
		if err != nil || len(files) == 0 {
			t.Fatalf("no *.%s below %s", g.kind, defs)
		}
		common := []string{
			"-p", "stllm_msgs", "-o", out, "-I", "stllm_msgs:" + filepath.Join(defs, "msg"),
			"-I", "std_msgs:/usr/share/std_msgs/msg", "-I", "geometry_msgs:/usr/share/geometry_msgs/msg",
		}
		for _, args := range [][]string{append(files, common...), append([]string{"--initpy"}, common...)} {
			if text, err := exec.Command("/usr/bin/python3", append([]string{g.generator}, args...)...).CombinedOutput(); err != nil {
				t.Fatalf("%s: %v\n%s", g.generator, err, text)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "stllm_msgs", "__init__.py"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// start runs a ROS tool that is killed with the test.
func (p *peers) start(out io.Writer, tool string, args ...string) *exec.Cmd {
	p.t.Helper()
	cmd := exec.CommandContext(p.t.Context(), "/usr/bin/"+tool, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	return cmd
}

// call runs a ROS tool to its end.
func (p *peers) call(tool string, args ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 90*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "/usr/bin/"+tool, args...)
	cmd.Env, cmd.WaitDelay = p.env, time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s %v: %v\n%s", tool, args, err, out)
	}
	return string(out)
}

func (p *peers) until(what string, ok func() bool) {
	p.t.Helper()
	for end := time.Now().Add(90 * time.Second); !ok(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("waited 90 s in vain: %s", what)
		}
	}
}

// TestROS1MainJob is the main job with foreign peers: a master, a bag player with simulated time, an asker and a listener.
func TestROS1MainJob(t *testing.T) {
	bag := testdata.Data(t, "kitchen_a.bag")
	p := newPeers(t)
	p.call("rosparam", "set", "/use_sim_time", "true")

	ctx, stop := context.WithCancel(t.Context())
	log, done := &testdata.Log{}, make(chan int, 1)
	go func() {
		done <- run(ctx, []string{
			"node", "--transport", "ros1", "--wait", "30s", "~image:=/camera/color/image_raw", "~camera_info:=/camera/color/camera_info",
			"~map_points:=/map/points", "_max_new_tokens:=8",
		}, strings.NewReader(""), log, log)
	}()
	t.Cleanup(func() {
		stop()
		select {
		case code := <-done:
			if code != 0 {
				t.Errorf("the node ended with %d:\n%s", code, log)
			}
		case <-time.After(30 * time.Second):
			t.Errorf("the node did not end within 30 s of the signal:\n%s", log)
		}
	})
	p.until("the node has its topics", func() bool {
		out, err := exec.Command("/usr/bin/rosservice", "list").CombinedOutput()
		return err == nil && strings.Contains(string(out), "/stllm/plan")
	})
	answers, diagnostics := &testdata.Log{}, &testdata.Log{}
	p.start(answers, "rostopic", "echo", "/stllm/answer")
	p.start(diagnostics, "rostopic", "echo", "/diagnostics")

	player := &testdata.Log{}
	if err := p.start(player, "rosbag", "play", "--clock", "-d", "2", "-q", bag).Wait(); err != nil {
		t.Fatalf("rosbag play: %v\n%s", err, player)
	}
	p.start(io.Discard, "rostopic", "pub", "-1", "/stllm/question_text", "std_msgs/String", "data: 'where is the sink?'")
	p.until("rostopic echo shows the answer", func() bool { return strings.Contains(answers.String(), "finish_reason") })
	if s := answers.String(); !strings.Contains(s, "nano") {
		t.Errorf("the answer does not name its model:\n%s", s)
	} else if !strings.Contains(s, "error_code: 0\n") {
		t.Errorf("the answer is an error:\n%s\n%s", s, diagnostics)
	}
	if s := p.call("rosservice", "call", "/stllm/plan", "goal: 'tidy the kitchen'"); !strings.Contains(s, "steps:") {
		t.Errorf("plan answered:\n%s", s)
	}
	p.until("/diagnostics names the node", func() bool { return strings.Contains(diagnostics.String(), "stllm") })
}
