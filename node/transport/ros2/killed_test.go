package ros2

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2/dds"
)

// TestVictim is the other process of TestKilledPeer: it sends images without a pause and calls a service, until it is killed.
func TestVictim(t *testing.T) {
	domain, err := strconv.Atoi(os.Getenv("STLLM_TEST_VICTIM"))
	if err != nil {
		t.Skip("is started by TestKilledPeer")
	}
	n, err := New(Config{Name: "victim", Domain: &domain, Range: "LOCALHOST"})
	if err != nil {
		t.Fatal(err)
	}
	p := speak(t, n, "image", &msgs.Image{}, transport.DefaultQoS())
	c := newClient(t, n.participant, "/stllm/go", "std_srvs/Trigger", "srv")
	data, err := msgs.CDR.Marshal(&msgs.TriggerRequest{})
	if err != nil {
		t.Fatal(err)
	}
	image := &msgs.Image{Height: 1080, Width: 1920, Encoding: "rgb8", Step: 5760, Data: noise(1080 * 5760)}
	for i := 0; ; i++ {
		say(t, p, image)
		if i%50 == 0 { // a request may come before the server knows of this process
			if err := c.w.WriteRelated(data, c.r.GUID(), 0); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// A peer that is killed while it sends and waits for an answer: its calls end when its lease is over, and others are heard.
func TestKilledPeer(t *testing.T) {
	if os.Getenv("STLLM_LONG") == "" {
		t.Skip("waits for a lease of 20 s: set STLLM_LONG=1")
	}
	n := testNode(t, Config{})
	ended := make(chan struct{}, maxCalls)
	closer, err := n.Serve("~go", transport.Service{Type: "std_srvs/Trigger", Request: func() msgs.Message { return &msgs.TriggerRequest{} },
		Handle: func(ctx context.Context, _ msgs.Message) (msgs.Message, error) {
			<-ctx.Done()
			ended <- struct{}{}
			return nil, ctx.Err()
		}})
	if err != nil {
		t.Fatal(err)
	}
	s, got := closer.(*server), make(chan int, 1000)
	if _, err := n.Subscribe("image", &msgs.Image{}, transport.DefaultQoS(), func(r transport.Received) { got <- len(r.Msg.(*msgs.Image).Data) }); err != nil {
		t.Fatal(err)
	}
	victim := exec.Command(os.Args[0], "-test.run=^TestVictim$")
	victim.Env = append(os.Environ(), "STLLM_TEST_VICTIM="+strconv.Itoa(testDomain()))
	victim.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := victim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = victim.Process.Kill(); _ = victim.Wait() })
	for range 3 {
		if size := next(t, "image", got); size != 1080*5760 {
			t.Errorf("an image of %d bytes", size)
		}
	}
	eventually(t, "its call runs", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.calls) > 0 })
	var writer dds.GUID // of the request, so of the process that is killed
	s.mu.Lock()
	for r := range s.calls {
		writer = r.from
	}
	s.mu.Unlock()
	if err := victim.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	next(t, "the end of its call", ended)
	eventually(t, "its calls are over", func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.calls) == 0 })
	eventually(t, "its endpoints are forgotten", func() bool {
		for _, d := range n.graph.on("rt/image", dds.KindWriter) {
			if d.GUID.Prefix() == writer.Prefix() {
				return false
			}
		}
		return !n.graph.present(writer)
	})
	for len(got) > 0 {
		<-got
	}
	p := speak(t, testNode(t, Config{Name: "other"}), "image", &msgs.Image{}, transport.DefaultQoS())
	eventually(t, "match", func() bool { return p.Stats().Peers == 1 })
	say(t, p, &msgs.Image{Data: noise(7)})
	if size := next(t, "image of another", got); size != 7 {
		t.Errorf("an image of %d bytes", size)
	}
}
