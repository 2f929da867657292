package ros1

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
)

// master is a real rosmaster on a free loopback port.
type master struct {
	t    *testing.T
	port string
	cmd  *exec.Cmd
}

// tools are Debian's ROS 1 command line tools, which the tests use as peers.
func newMaster(t *testing.T) *master {
	t.Helper()
	for _, tool := range []string{"/usr/bin/rosmaster", "/usr/bin/rostopic", "/usr/bin/rosservice"} {
		if _, err := os.Stat(tool); err != nil {
			t.Skipf("%s is not here: apt-get install ros-core (make test does it where it can)", tool)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m := &master{t: t, port: portOf(l.Addr())}
	l.Close()
	t.Setenv("ROS_MASTER_URI", m.uri())
	t.Setenv("ROS_IP", "127.0.0.1")
	t.Setenv("ROS_HOSTNAME", "")
	t.Setenv("ROS_LOG_DIR", t.TempDir())
	m.start()
	t.Cleanup(m.stop)
	return m
}

func (m *master) uri() string { return "http://127.0.0.1:" + m.port + "/" }

func (m *master) start() {
	m.t.Helper()
	m.cmd = exec.Command("/usr/bin/rosmaster", "--core", "-p", m.port, "-w", "3")
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	eventually(m.t, "rosmaster listens", func() bool {
		c, err := net.DialTimeout("tcp", "127.0.0.1:"+m.port, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

func (m *master) stop() {
	_ = m.cmd.Process.Kill()
	_ = m.cmd.Wait()
}

// eventually waits for something that a peer does; the deadline is generous, since nothing is timed here.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(40 * time.Second); !ok(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited 40 s in vain: %s", what)
		}
	}
}

func (m *master) node(name string) *Node {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(m.t.Context(), 30*time.Second)
	defer cancel()
	n, err := New(ctx, Config{Name: name, WatchMaster: 200 * time.Millisecond, Log: zerolog.Nop()})
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { n.Close() })
	return n
}

// tool runs a ROS tool; it is killed when the test ends.
func (m *master) tool(args ...string) *exec.Cmd {
	cmd := exec.CommandContext(m.t.Context(), args[0], args[1:]...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (m *master) output(args ...string) string {
	m.t.Helper()
	out, err := m.tool(args...).CombinedOutput()
	if err != nil {
		m.t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return string(out)
}

func TestWithRealPeers(t *testing.T) {
	m := newMaster(t)
	n := m.node("stllm")
	qos := transport.DefaultQoS()

	got := make(chan string, 100)
	if _, err := n.Subscribe("~question_text", &msgs.String{}, qos, func(r transport.Received) {
		got <- r.Msg.(*msgs.String).Data + " from " + r.Source
	}); err != nil {
		t.Fatal(err)
	}
	latched, err := n.Advertise("~answer_text", &msgs.String{}, transport.StaticQoS())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Serve("~clear_window", transport.Service{
		Type:    "std_srvs/Trigger",
		Request: func() msgs.Message { return &msgs.TriggerRequest{} },
		Handle: func(context.Context, msgs.Message) (msgs.Message, error) {
			return &msgs.TriggerResponse{Success: true, Message: "cleared"}, nil
		},
	}); err != nil {
		t.Fatal(err)
	}

	t.Run("rostopic pub reaches us", func(t *testing.T) {
		pub := m.tool("/usr/bin/rostopic", "pub", "-r", "5", "/stllm/question_text", "std_msgs/String", "where is the sink?")
		if err := pub.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = pub.Process.Kill(); _ = pub.Wait() }()
		select {
		case s := <-got:
			if !strings.HasPrefix(s, "where is the sink? from /rostopic") {
				t.Errorf("got %q", s)
			}
		case <-time.After(40 * time.Second):
			t.Fatal("nothing came within 40 s")
		}
	})
	t.Run("rostopic echo hears a latched answer late", func(t *testing.T) {
		if err := latched.Publish(&msgs.String{Data: "behind you"}); err != nil {
			t.Fatal(err)
		}
		if out := m.output("/usr/bin/rostopic", "echo", "-n", "1", "/stllm/answer_text"); !strings.Contains(out, "behind you") {
			t.Errorf("rostopic echo printed %q", out)
		}
	})
	t.Run("rosservice call", func(t *testing.T) {
		if out := m.output("/usr/bin/rosservice", "call", "/stllm/clear_window"); !strings.Contains(out, "cleared") {
			t.Errorf("rosservice printed %q", out)
		}
	})
	t.Run("rosnode info", func(t *testing.T) {
		out := m.output("/usr/bin/rosnode", "info", "/stllm")
		for _, want := range []string{"/stllm/answer_text [std_msgs/String]", "/stllm/question_text", "/stllm/clear_window", "Pid:"} {
			if !strings.Contains(out, want) {
				t.Errorf("rosnode info lacks %q:\n%s", want, out)
			}
		}
	})
	t.Run("a restarted master", func(t *testing.T) {
		m.stop()
		eventually(t, "the loss is reported", func() bool { return sawEvent(n, transport.EventMasterLost) })
		m.start()
		eventually(t, "everything is registered again", func() bool { return sawEvent(n, transport.EventMasterBack) })
		if out := m.output("/usr/bin/rostopic", "echo", "-n", "1", "/stllm/answer_text"); !strings.Contains(out, "behind you") {
			t.Errorf("after the restart rostopic echo printed %q", out)
		}
	})
	t.Run("wrong type is reported", func(t *testing.T) {
		pub := m.tool("/usr/bin/rostopic", "pub", "-r", "5", "/stllm/question_text", "std_msgs/Bool", "true")
		if err := pub.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = pub.Process.Kill(); _ = pub.Wait() }()
		eventually(t, "the mismatch is reported", func() bool { return sawEvent(n, transport.EventTypeMismatch) })
	})
}

func sawEvent(n *Node, kind transport.EventKind) bool {
	for {
		select {
		case e := <-n.Events():
			if e.Kind == kind {
				return true
			}
		default:
			return false
		}
	}
}

// A cloud of 64 MB goes whole; goroslib itself stops at 16.
func TestLargeMessages(t *testing.T) {
	m := newMaster(t)
	a, b := m.node("talker"), m.node("listener")
	pub, err := a.Advertise("/map/points", &msgs.PointCloud2{}, transport.StaticQoS())
	if err != nil {
		t.Fatal(err)
	}
	cloud := &msgs.PointCloud2{Height: 1, Width: 4 << 20, PointStep: 16, Data: make([]byte, 64<<20)}
	for i := range cloud.Data {
		cloud.Data[i] = byte(i * 7)
	}
	if err := pub.Publish(cloud); err != nil {
		t.Fatal(err)
	}
	got := make(chan *msgs.PointCloud2, 1)
	sub, err := b.Subscribe("/map/points", &msgs.PointCloud2{}, transport.StaticQoS(), func(r transport.Received) {
		got <- r.Msg.(*msgs.PointCloud2)
	})
	if err != nil {
		t.Fatal(err)
	}
	select {
	case c := <-got:
		if string(c.Data) != string(cloud.Data) || c.Width != cloud.Width {
			t.Error("the cloud came changed")
		}
	case <-time.After(60 * time.Second):
		t.Fatalf("no cloud within 60 s; %+v", sub.Stats())
	}
	if s := sub.Stats(); s.Messages != 1 || s.Peers != 1 || s.Bytes < 64<<20 {
		t.Errorf("counters %+v", s)
	}
}

// A slow answer holds up only its caller, and ends when the caller hangs up.
func TestServiceCallerLeaves(t *testing.T) {
	m := newMaster(t)
	n := m.node("stllm")
	ended := make(chan error, 1)
	if _, err := n.Serve("~slow", transport.Service{
		Type:    "std_srvs/Trigger",
		Request: func() msgs.Message { return &msgs.TriggerRequest{} },
		Handle: func(ctx context.Context, _ msgs.Message) (msgs.Message, error) {
			<-ctx.Done()
			ended <- ctx.Err()
			return nil, ctx.Err()
		},
	}); err != nil {
		t.Fatal(err)
	}
	call := m.tool("/usr/bin/rosservice", "call", "/stllm/slow")
	if err := call.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the call arrives", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.srvs["/stllm/slow"].calls.Load() == 1
	})
	_ = call.Process.Kill()
	_ = call.Wait()
	select {
	case <-ended:
	case <-time.After(40 * time.Second):
		t.Fatal("the caller left 40 s ago, its call still runs")
	}
}

func TestNoMaster(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 1200*time.Millisecond)
	defer cancel()
	_, err := New(ctx, Config{Master: "http://127.0.0.1:1/", Host: "127.0.0.1", Log: zerolog.Nop()})
	if err == nil || !strings.Contains(err.Error(), "roscore") {
		t.Errorf("%v, expected a word on roscore", err)
	}
	for _, bad := range []string{"ftp://x", "http://", "localhost:11311"} {
		if _, err := New(ctx, Config{Master: bad}); err == nil || !strings.Contains(err.Error(), "ROS_MASTER_URI") {
			t.Errorf("%s: %v", bad, err)
		}
	}
}
