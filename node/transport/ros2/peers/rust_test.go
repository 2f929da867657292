package peers_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os/exec"
	"slices"
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
	return lines(t, peers.Rust(t), append([]string{"--domain", strconv.Itoa(peers.Domain()), "--loopback", "--seconds", "60"}, args...)...)
}

// lines runs a program until the test's end.
func lines(t *testing.T, program string, args ...string) <-chan string {
	t.Helper()
	if !dds.Available {
		t.Skip("this test binary was built without Fast DDS (-tags fastdds)")
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, args...)
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
	all := through(t, lines, parts...)
	return all[len(all)-1]
}

// through returns the lines up to one that has all the parts.
func through(t *testing.T, lines <-chan string, parts ...string) (seen []string) {
	t.Helper()
	timeout := time.After(peers.Patience)
	for {
		select {
		case l := <-lines:
			ok := true
			for _, p := range parts {
				ok = ok && strings.Contains(l, p)
			}
			seen = append(seen, l)
			if ok {
				return seen
			}
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
	heard(t, pub, &msgs.String{Data: "grüezi"}, func() { line(t, lines, "received", "grüezi") })

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

// The node's own action with a foreign client and its codec: goal, feedback, status, result; then one that is taken back.
func TestRustAction(t *testing.T) {
	for _, mapping := range []string{"enhanced", "cyclone"} {
		t.Run(mapping, func(t *testing.T) {
			program := peers.Asker(t)
			n := node(t, ros2.Config{Name: "eyes"})
			asked := make(chan msgs.Question, 10)
			if _, err := n.ServeAction("~ask_action", transport.Action{
				Type: "stllm_msgs/Ask", Goal: func() msgs.Message { return &msgs.AskGoal{} }, Result: func() msgs.Message { return &msgs.AskResult{} },
				MaxConcurrent: 1, ResultTimeout: time.Minute,
				Accept: func(m msgs.Message) error {
					if m.(*msgs.AskGoal).Question.Text == "" {
						return errors.New("no text")
					}
					return nil
				},
				Execute: func(ctx context.Context, m msgs.Message, feedback func(msgs.Message)) (msgs.Message, error) {
					q := m.(*msgs.AskGoal).Question
					asked <- q
					answer := msgs.Answer{
						Header: msgs.Header{Stamp: msgs.Time{Sec: 12, Nanosec: 34}, FrameID: "map"}, ID: q.ID, Question: q.Text, Text: "left öf", Label: "left", FinishReason: "stop",
						WindowStartNs: -1, WindowEndNs: 1 << 60, Frames: 32, MapID: "m", ModelID: "nano", NewTokens: 7, ErrorCode: 8,
						Times: []msgs.StageTime{{Stage: "decode", Seconds: 0.25}}, Plan: []msgs.PlanStep{{Text: "open it", Parsed: true, Verb: "open", Object: "it"}},
						FrameEvidence: []msgs.FrameEvidence{{StampNs: 5, Weight: 0.5}}, RegionEvidence: []msgs.RegionEvidence{{Position: msgs.Point{X: 1, Y: -2, Z: 3}, Radius: 0.5, Weight: 1}},
					}
					for i := 0; ; i++ { // until the client, whose ends are found one after the other, has heard enough
						feedback(&msgs.AskFeedback{Stage: "decode", NewTokens: uint32(i), Delta: "grüezi"})
						if q.Text == "where?" && i == 10 {
							answer.ErrorCode = 0
							return &msgs.AskResult{Answer: answer}, nil
						}
						select {
						case <-ctx.Done():
							answer.Text = "so far"
							return &msgs.AskResult{Answer: answer}, context.Cause(ctx)
						case <-time.After(100 * time.Millisecond):
						}
					}
				},
			}); err != nil {
				t.Fatal(err)
			}
			ask := func(words ...string) <-chan string {
				return lines(t, program, append([]string{strconv.Itoa(peers.Domain()), "/eyes/ask_action", mapping}, words...)...)
			}
			said := ask("where?")
			line(t, said, "accepted true")
			if q := receive(t, "the goal", asked); q.Text != "where?" || q.ID != "q7" || q.Deadline != 12.5 || !slices.Equal(q.Choices, []string{"left", "right"}) {
				t.Errorf("%+v", q)
			}
			all := through(t, said, "result ")
			contains(t, strings.Join(all, "\n"), `feedback decode 9 "grüezi"`, "status Executing")
			contains(t, all[len(all)-1], "Succeeded", `header: Header { sec: 12, nanosec: 34, frame_id: "map" }, id: "q7", question: "where?", text: "left öf", task: "", label: "left", error_code: 0`,
				`window_start_ns: -1, window_end_ns: 1152921504606846976, frames: 32`, `model_id: "nano", prompt_tokens: 0, new_tokens: 7, times: [StageTime { stage: "decode", seconds: 0.25 }]`,
				`verb: "open"`, `stamp_ns: 5, weight: 0.5`, `RegionEvidence { x: 1.0, y: -2.0, z: 3.0, radius: 0.5, weight: 1.0 }`)

			said = ask("forever", "cancel")
			line(t, said, "cancel None of 1 goals")
			contains(t, line(t, said, "result "), "Canceled", `text: "so far"`, "error_code: 8")
			line(t, ask(""), "accepted false")
		})
	}
}

// ros2-client reads the graph, and is read, with the gids of its release; gids of the other width it does not read, but topics work.
func TestRustGraph(t *testing.T) {
	for _, c := range []struct {
		name    string
		program func(testing.TB) string
		width   int
		reads   bool
	}{
		{"as of Iron, 16", peers.Rust, 16, true}, {"as of Iron, 24", peers.Rust, 24, false},
		{"as of Humble, 24", peers.RustHumble, 24, true}, {"as of Humble, 16", peers.RustHumble, 16, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			args := func(more ...string) []string {
				return append([]string{"--domain", strconv.Itoa(peers.Domain()), "--loopback", "--seconds", "60"}, more...)
			}
			program := c.program(t)
			n := node(t, ros2.Config{Name: "eyes", Namespace: "/robot1", GidWidth: c.width})
			advertise(t, n, "~answer", &msgs.String{}, transport.DefaultQoS())
			said := lines(t, program, args("graph")...)
			// The two lines come in any order.
			for topic, node := false, !c.reads; !topic || !node; {
				l := line(t, said, "/robot1/eyes")
				topic = topic || strings.Contains(l, "topic rt/robot1/eyes/answer type std_msgs::msg::dds_::String_")
				node = node || strings.HasPrefix(l, "node /robot1/eyes ")
			}
			sub, _ := subscribe(t, n, "/talk", &msgs.String{}, transport.DefaultQoS())
			lines(t, program, args("--node", "talker", "--namespace", "/there", "pub", "/talk", "hello")...)
			for source := ""; source == ""; {
				if source = receive(t, "a message", sub).Source; source != "" && source != "/there/talker" {
					t.Errorf("source %q", source)
				}
			}
		})
	}
}

// Another node of this node's name, with gids of either width.
func TestRustTwin(t *testing.T) {
	for name, program := range map[string]func(testing.TB) string{"iron": peers.Rust, "humble": peers.RustHumble} {
		t.Run(name, func(t *testing.T) {
			n := node(t, ros2.Config{Name: "eyes"})
			lines(t, program(t), "--domain", strconv.Itoa(peers.Domain()), "--loopback", "--seconds", "60", "--node", "eyes", "sub", "/chat")
			for {
				if e := receive(t, "an event", n.Events()); e.Kind == transport.EventNameTaken {
					contains(t, e.Message, "/eyes", "__node:=")
					return
				}
			}
		})
	}
}
