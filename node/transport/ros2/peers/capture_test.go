package peers_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
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

// What goes over the wire is RTPS to Wireshark, too.
func TestCapture(t *testing.T) {
	tshark, err := exec.LookPath("tshark")
	if err != nil {
		t.Skip("no tshark: apt-get install tshark")
	}
	each(t, func(t *testing.T, start func() *peers.Peer) {
		file := filepath.Join(t.TempDir(), "rtps.pcapng")
		base := 7400 + 250*peers.Domain()
		capture := exec.Command(tshark, "-q", "-i", "lo", "-B", "64", "-f", fmt.Sprintf("udp portrange %d-%d", base, base+249), "-w", file)
		capture.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		said, err := capture.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := capture.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan string, 1)
		begun := make(chan struct{}, 1)
		go func() {
			var all strings.Builder
			b := make([]byte, 4096)
			for {
				n, err := said.Read(b)
				all.Write(b[:n])
				if strings.Contains(all.String(), "Capturing on") {
					select {
					case begun <- struct{}{}:
					default:
					}
				}
				if err != nil {
					ended <- all.String()
					return
				}
			}
		}()
		t.Cleanup(func() { _ = capture.Process.Kill(); _ = capture.Wait() })
		select {
		case s := <-ended:
			t.Skipf("tshark may not capture here: %s", s)
		case <-begun:
		case <-time.After(peers.Patience):
			t.Skip("tshark did not begin to capture")
		}
		// It says so before it does: the file's header is written when packets are taken.
		size := func() int64 {
			st, err := os.Stat(file)
			if err != nil {
				return 0
			}
			return st.Size()
		}
		eventually(t, "tshark takes packets", func() bool { return size() > 0 })

		p := start()
		n := node(t, ros2.Config{Name: "eyes"})
		image := image(2)
		pub := advertise(t, n, "/image", image, transport.QoS{Reliability: transport.Reliable, Durability: transport.Volatile, Depth: 5})
		sub, _ := subscribe(t, n, "/chat", &msgs.String{}, transport.DefaultQoS())
		if _, err := n.Serve("/trigger", transport.Service{Type: "std_srvs/Trigger", Request: func() msgs.Message { return &msgs.TriggerRequest{} },
			Handle: func(context.Context, msgs.Message) (msgs.Message, error) {
				return &msgs.TriggerResponse{Message: "x"}, nil
			}}); err != nil {
			t.Fatal(err)
		}
		r := p.Reader(peers.Message(t, "/image", image, dds.QoS{Reliable: true, Depth: 5}))
		eventually(t, "matched", func() bool { return pub.Stats().Peers == 1 })
		heard(t, pub, image, func() { r.Into(&msgs.Image{}) })
		w := p.Writer(peers.Message(t, "/chat", &msgs.String{}, dds.QoS{Reliable: true, Depth: 5}))
		w.Matched(1)
		w.Send(&msgs.String{Data: "x"})
		receive(t, "a message", sub)
		p.Client("/trigger", "std_srvs/Trigger", "srv").Call(&msgs.TriggerRequest{}, &msgs.TriggerResponse{})
		if err := n.Close(); err != nil { // its leaving is captured, too
			t.Fatal(err)
		}
		// What tshark has not written yet comes first: until nothing was added for a while.
		last, steady := size(), time.Now()
		eventually(t, "tshark has written all", func() bool {
			if now := size(); now != last {
				last, steady = now, time.Now()
			}
			return time.Since(steady) > 500*time.Millisecond
		})
		_ = capture.Process.Signal(syscall.SIGINT)
		receive(t, "tshark ends", ended)
		_ = capture.Wait()

		// Wireshark knows RTPS by its first bytes; other programs' port numbers must not come before that.
		read := func(filter string) []string {
			ctx, cancel := context.WithTimeout(t.Context(), 2*peers.Patience)
			defer cancel()
			out, err := exec.CommandContext(ctx, tshark, "-r", file, "-o", "udp.try_heuristic_first:TRUE", "-Y", filter).Output()
			if err != nil {
				t.Fatalf("tshark -Y %q: %v", filter, err)
			}
			return strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
		}
		all, bad, other := read("rtps"), read("_ws.malformed || _ws.expert.severity == error"), read("udp && !rtps")
		t.Logf("%d RTPS packets", len(all))
		if len(all) < 50 { // 6 MB in datagrams of 64 KB, if none is missed
			t.Errorf("only %d RTPS packets were captured", len(all))
		}
		if len(bad) > 0 || len(other) > 0 {
			t.Errorf("%d malformed packets, %d that are no RTPS:\n%s", len(bad), len(other), strings.Join(append(bad, other...)[:min(10, len(bad)+len(other))], "\n"))
		}
	})
}
