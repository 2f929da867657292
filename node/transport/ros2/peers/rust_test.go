package peers_test

import (
	"bufio"
	"context"
	"io"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2"
	"github.com/stllm/stllm/node/transport/ros2/dds"
	"github.com/stllm/stllm/node/transport/ros2/peers"
)

// rust runs the peer on ros2-client and RustDDS and returns its lines.
func rust(t *testing.T, args ...string) <-chan string {
	t.Helper()
	if !dds.Available {
		t.Skip("this test binary was built without Fast DDS (-tags fastdds)")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, peers.Rust(t), append([]string{"--domain", strconv.Itoa(peers.Domain()), "--loopback", "--seconds", "60"}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines, read := make(chan string, 1000), make(chan struct{})
	go func() {
		defer close(read)
		r := bufio.NewScanner(out)
		for r.Scan() {
			select {
			case lines <- r.Text():
			default: // nobody reads them any more
			}
		}
		_, _ = io.Copy(io.Discard, out)
	}()
	t.Cleanup(func() { cancel(); <-read; _ = cmd.Wait() })
	return lines
}

// line waits for one that has all the parts.
func line(t *testing.T, lines <-chan string, parts ...string) string {
	t.Helper()
	var seen []string
	timeout := time.After(peers.Patience)
	for {
		select {
		case l := <-lines:
			ok := true
			for _, p := range parts {
				ok = ok && strings.Contains(l, p)
			}
			if ok {
				return l
			}
			seen = append(seen, l)
		case <-timeout:
			t.Fatalf("waited %v in vain for a line with %q; the peer said:\n%s", peers.Patience, parts, strings.Join(seen, "\n"))
		}
	}
}

func TestRustTopics(t *testing.T) {
	lines := rust(t, "--node", "rusty", "sub", "/chat")
	n := node(t, ros2.Config{Name: "eyes"})
	pub := advertise(t, n, "/chat", &msgs.String{}, transport.DefaultQoS())
	eventually(t, "the peer's reader has matched", func() bool { return pub.Stats().Peers == 1 })
	if err := pub.Publish(&msgs.String{Data: "grüezi"}); err != nil {
		t.Fatal(err)
	}
	line(t, lines, "received", "grüezi")

	sub, _ := subscribe(t, n, "/talk", &msgs.String{}, transport.DefaultQoS())
	rust(t, "--node", "talker", "pub", "/talk", "hello")
	if m := receive(t, "a message", sub).Msg.(*msgs.String); !strings.HasPrefix(m.Data, "hello ") {
		t.Errorf("%q", m.Data)
	}
	for source := ""; source == ""; { // who it is comes by ros_discovery_info
		if source = receive(t, "a message", sub).Source; source != "" && source != "/talker" {
			t.Errorf("source %q", source)
		}
	}
}

func TestRustServices(t *testing.T) {
	for _, mapping := range []string{"enhanced", "cyclone"} {
		t.Run(mapping, func(t *testing.T) {
			n := node(t, ros2.Config{Name: "eyes"})
			if _, err := n.Serve("/trigger", transport.Service{Type: "std_srvs/Trigger", Request: func() msgs.Message { return &msgs.TriggerRequest{} },
				Handle: func(context.Context, msgs.Message) (msgs.Message, error) {
					return &msgs.TriggerResponse{Success: true, Message: "for " + mapping}, nil
				}}); err != nil {
				t.Fatal(err)
			}
			lines := rust(t, "--mapping", mapping, "--count", "20", "call", "/trigger")
			line(t, lines, "response", "success true", "for "+mapping)
			line(t, lines, "response", "success true", "for "+mapping)
		})
	}
}

func TestRustGraph(t *testing.T) {
	n := node(t, ros2.Config{Name: "eyes", Namespace: "/robot1"})
	advertise(t, n, "~answer", &msgs.String{}, transport.DefaultQoS())
	lines := rust(t, "graph")
	// The two lines come in any order.
	for topic, node := false, false; !topic || !node; {
		l := line(t, lines, "/robot1/eyes")
		topic = topic || strings.Contains(l, "topic rt/robot1/eyes/answer type std_msgs::msg::dds_::String_")
		node = node || strings.HasPrefix(l, "node /robot1/eyes ")
	}
}
