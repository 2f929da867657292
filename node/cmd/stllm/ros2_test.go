package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/testdata"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2"
	"github.com/stllm/stllm/node/transport/ros2/dds"
	foreign "github.com/stllm/stllm/node/transport/ros2/peers"
)

// cycloneCommand is one of the programs in testdata, which find the node on loopback without multicast.
func cycloneCommand(ctx context.Context, python string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, python, args...)
	cmd.Env = append(foreign.CycloneEnvironment(), "PYTHONDONTWRITEBYTECODE=1")
	return cmd
}

// ros2Job is the live node and a second participant that has played a bag to it with simulated time.
type ros2Job struct {
	t    *testing.T
	log  *testdata.Log
	peer *ros2.Node
}

func newROS2Job(t *testing.T, domain string) *ros2Job {
	t.Helper()
	if !dds.Available {
		t.Skip("this test binary was built without Fast DDS (-tags fastdds)")
	}
	path := testdata.Data(t, "kitchen_a_mcap")
	t.Setenv("ROS_DOMAIN_ID", domain)
	t.Setenv("ROS_LOCALHOST_ONLY", "1")
	t.Setenv("ROS_DISTRO", "")
	ctx, stop := context.WithCancel(t.Context())
	j := &ros2Job{t: t, log: &testdata.Log{}}
	done := make(chan int, 1)
	go func() {
		done <- run(ctx, []string{"node", "--transport", "ros2", "--ros-args", "-r", "~/image:=/camera/color/image_raw", "-r", "~/map_points:=/map/points",
			"-r", "~/camera_info:=/camera/color/camera_info", "-p", "use_sim_time:=true", "-p", "max_new_tokens:=8", "--ros-args", "-r", "__ns:=/robot1"},
			strings.NewReader(""), j.log, j.log)
	}()
	t.Cleanup(func() {
		stop()
		select {
		case code := <-done:
			if code != exitOK {
				t.Errorf("the node ended with %d:\n%s", code, j.log)
			}
		case <-time.After(time.Minute):
			t.Errorf("the node did not end within a minute of the signal:\n%s", j.log)
		}
	})
	var err error
	if j.peer, err = ros2.New(ros2.Config{Name: "player", Log: zerolog.Nop()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.peer.Close() })
	j.until("the node is active", func() bool { return strings.Contains(j.log.String(), "ready for questions") })
	j.play(path)
	return j
}

func (j *ros2Job) until(what string, ok func() bool) {
	j.t.Helper()
	for end := time.Now().Add(2 * time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			j.t.Fatalf("%s: not within two minutes\n%s", what, j.log)
		}
	}
}

// play publishes a bag in the time that it was recorded in, as `stllm bag play` does, once the node hears all of it.
func (j *ros2Job) play(path string) {
	j.t.Helper()
	bag, err := bags.Open(path)
	if err != nil {
		j.t.Fatal(err)
	}
	defer bag.Close()
	o := playFlags{rate: 1, clock: true, needTime: 2 * time.Minute}
	for _, c := range bag.Info().Connections {
		o.need = append(o.need, c.Topic)
	}
	p, err := newPlayer(j.peer, bag, o, zerolog.Nop())
	if err != nil {
		j.t.Fatal(err)
	}
	j.until("/clock is heard", func() bool { return p.clock.Stats().Peers > 0 })
	if err := p.awaitSubscribers(j.t.Context()); err != nil {
		j.t.Fatal(err)
	}
	if n, err := p.play(j.t.Context()); err != nil || int64(n) != bag.Info().Messages {
		j.t.Fatalf("%d messages were played: %v", n, err)
	}
}

// The main job between two participants: a bag with simulated time, a question, the answer; the node's window is looked at
// through /diagnostics where it fails.
func TestROS2MainJob(t *testing.T) {
	j := newROS2Job(t, "94")
	answers, diagnostics := make(chan *msgs.Answer, 10), &testdata.Log{}
	if _, err := j.peer.Subscribe("/robot1/stllm/answer", &msgs.Answer{}, transport.DefaultQoS(), func(r transport.Received) { answers <- r.Msg.(*msgs.Answer) }); err != nil {
		t.Fatal(err)
	}
	if _, err := j.peer.Subscribe("/diagnostics", &msgs.DiagnosticArray{}, transport.DefaultQoS(), func(r transport.Received) {
		for _, s := range r.Msg.(*msgs.DiagnosticArray).Status {
			text, _ := json.Marshal(s)
			_, _ = diagnostics.Write(append(text, '\n'))
		}
	}); err != nil {
		t.Fatal(err)
	}
	ask, err := j.peer.Advertise("/robot1/stllm/question_text", &msgs.String{}, transport.DefaultQoS())
	if err != nil {
		t.Fatal(err)
	}
	j.until("the node listens", func() bool { return ask.Stats().Peers == 1 })
	if err := ask.Publish(&msgs.String{Data: "where is the sink?"}); err != nil {
		t.Fatal(err)
	}
	select {
	case a := <-answers:
		if a.ErrorCode != 0 || a.Frames == 0 || a.Text == "" || a.MapID == "" || a.Question != "where is the sink?" || !strings.Contains(a.ModelID, "nano") {
			t.Errorf("%+v\n%s\n%s", a, diagnostics, j.log)
		}
	case <-time.After(2 * time.Minute):
		t.Fatalf("no answer within two minutes\n%s\n%s", diagnostics, j.log)
	}
	j.until("/diagnostics names the node", func() bool { return strings.Contains(diagnostics.String(), "stllm") })
}

// The same with an asker on another DDS implementation: topics, services and the action.
func TestForeignAsker(t *testing.T) {
	python := cyclonePython(t)
	j := newROS2Job(t, "95")
	asker := cycloneCommand(t.Context(), python, "testdata/asker.py", "/robot1/stllm", "120")
	out, err := asker.Output()
	if err != nil {
		var failed *exec.ExitError
		if errors.As(err, &failed) {
			out = append(out, failed.Stderr...)
		}
		t.Fatalf("%v\n%s\nnode: %s", err, out, j.log)
	}
	said := map[string]string{}
	for line := range strings.Lines(string(out)) {
		what, rest, _ := strings.Cut(strings.Trim(line, "[]\n"), ", ")
		said[strings.Trim(what, `"`)] += rest + "\n"
	}
	for what, want := range map[string]string{
		"topic": `["where is the sink?", 0, "", `, "service": `["where is the table?", 0, "", `, "goal": "true\n",
		"result": `4, ["where is the stove?", 0, "", `, "cancel": "2, 3\n", "unknown": "0\n", "queued": "true, true\n", "results": `[4, "where is the sink, 3?", 0], [4, "where is the sink, 2?", 0`, "cleared": "true\n", "empty": "2\n",
	} {
		if !strings.HasPrefix(said[what], want) {
			t.Errorf("%s: %q, expected %q", what, said[what], want)
		}
	}
	// Whether the model's words can be read as a plan is the model's; that the reply says so is ours.
	if p := said["plan"]; !strings.HasPrefix(p, `true, 0, true, true, "action_planning", `) && !strings.HasPrefix(p, fmt.Sprintf(`false, %d, true, true, "action_planning", `, msgs.AnswerErrorNotAPlan)) {
		t.Errorf("plan: %s%s", p, said["plan says"])
	}
	// The answer streams whole: what came in pieces is the text, and every stage of decoding was told.
	if r := said["result"]; !strings.Contains(r, `], true, [`) || !strings.Contains(r, `"decode"`) {
		t.Errorf("result and feedback: %s", r)
	}
	if s := said["status"]; !strings.Contains(s, "[1, 4") {
		t.Errorf("the status topic did not tell of success: %q", s)
	}
}
