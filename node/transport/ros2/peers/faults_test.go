package peers_test

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2"
	"github.com/stllm/stllm/node/transport/ros2/dds"
	"github.com/stllm/stllm/node/transport/ros2/peers"
)

// listens tells whether a node still hears a peer that comes now.
func listens(t *testing.T, n *ros2.Node, p *peers.Peer) {
	t.Helper()
	chat, s := subscribe(t, n, "/alive", &msgs.String{}, transport.DefaultQoS())
	defer s.Close()
	w := p.Writer(peers.Message(t, "/alive", &msgs.String{}, dds.QoS{Reliable: true, TransientLocal: true, Depth: 1}))
	w.Matched(1)
	for {
		w.Send(&msgs.String{Data: "alive?"})
		select {
		case <-chat:
			w.Close()
			return
		case <-time.After(time.Second):
		}
	}
}

func TestUnreadable(t *testing.T) {
	// CycloneDDS 11, the Python one, looks at what it is given and does not send what cannot be read.
	for name, start := range map[string]func(testing.TB, int) *peers.Peer{"fastdds": peers.FastDDS, "cyclone in C": peers.CycloneC, "rustdds": peers.RustDDS} {
		t.Run(name, func(t *testing.T) {
			p := start(t, peers.Domain())
			n := node(t, ros2.Config{Name: "eyes"})
			chat, s := subscribe(t, n, "/chat", &msgs.String{}, transport.QoS{Reliability: transport.Reliable, Durability: transport.Volatile, Depth: 100})
			if _, err := n.Serve("/trigger", transport.Service{Type: "std_srvs/Trigger", Request: func() msgs.Message { return &msgs.TriggerRequest{} },
				Handle: func(context.Context, msgs.Message) (msgs.Message, error) {
					return &msgs.TriggerResponse{Success: true}, nil
				}}); err != nil {
				t.Fatal(err)
			}
			w := p.Writer(peers.Message(t, "/chat", &msgs.String{}, dds.QoS{Reliable: true, Depth: 100}))
			w.Matched(1)
			eventually(t, "the writer is heard", func() bool { // CycloneDDS takes what came before the first heartbeat for the past
				w.Send(&msgs.String{Data: "first"})
				return s.Stats().Messages > 0
			})
			for len(chat) > 0 {
				<-chat
			}
			before := s.Stats().Messages
			bad := [][]byte{
				{0, 1, 0, 0, 255, 255, 255, 127, 'a', 'b', 'c', 0},                     // longer than the payload
				{0, 1, 0, 0, 3, 0, 0, 0, 'a', 'b', 'c', 0},                             // no NUL where it ends
				{0, 1, 0, 0, 4, 0, 0, 0},                                               // cut off
				{0, 0, 0, 0, 4, 0, 0, 0, 'a', 'b', 'c', 0},                             // little-endian that says big
				{0, 3, 0, 0, 4, 0, 0, 0, 'a', 'b', 'c', 0},                             // PL_CDR
				{0, 7, 0, 0, 4, 0, 0, 0, 'a', 'b', 'c', 0}, {9, 9, 9, 9}, {0, 1, 0, 0}, // XCDR2, unknown, nothing after the header
			}
			if !p.Aligned() {
				bad = append(bad, []byte{0, 1, 0, 0, 4, 0}, []byte{0, 1}) // cut off within a number, and within the header
			}
			for _, b := range bad {
				w.Raw(b)
			}
			w.Send(&msgs.String{Data: "good"})
			for m := ""; m != "good"; {
				if m = receive(t, "the good one", chat).Msg.(*msgs.String).Data; m != "good" && m != "first" {
					t.Errorf("%q", m)
				}
			}
			if st := s.Stats(); st.Errors != uint64(len(bad)) || st.Messages < before+uint64(len(bad)+1) {
				t.Errorf("%+v, expected %d errors", st, len(bad))
			}
			count := uint64(0)
			for count < uint64(len(bad)) {
				e := receive(t, "an event", n.Events())
				if e.Kind != transport.EventDecode || e.Topic != "/chat" {
					t.Fatalf("%+v", e)
				}
				count += e.Count
			}
			// A client whose requests cannot be read does not hinder others.
			c := p.Client("/trigger", "std_srvs/Trigger", "srv")
			c.Raw([]byte{0, 7, 0, 0, 1, 0, 0, 0})
			c.Raw([]byte{0, 1, 0, 0})
			if !p.Aligned() {
				c.Raw([]byte{0})
			}
			var res msgs.TriggerResponse
			c.Call(&msgs.TriggerRequest{}, &res)
			if !res.Success {
				t.Errorf("%+v", res)
			}
		})
	}
}

// A peer that is killed amid a big message is forgotten when its lease is over; others are not held up.
func TestKilledPeer(t *testing.T) {
	each(t, func(t *testing.T, start func() *peers.Peer) {
		n := node(t, ros2.Config{Name: "eyes"})
		sub, s := subscribe(t, n, "/image", &msgs.Image{}, transport.QoS{Reliability: transport.Reliable, Durability: transport.Volatile, Depth: 2})
		out := advertise(t, n, "/out", &msgs.Image{}, transport.QoS{Reliability: transport.Reliable, Durability: transport.Volatile, Depth: 2})
		image := image(1)
		p := start()
		w := p.Writer(peers.Message(t, "/image", image, dds.QoS{Reliable: true, Depth: 2}))
		p.Reader(peers.Message(t, "/out", image, dds.QoS{Reliable: true, Depth: 2}))
		w.Matched(1)
		w.Send(image)
		receive(t, "an image", sub)
		eventually(t, "the reader has matched", func() bool { return out.Stats().Peers == 1 })
		for range 4 { // half of it is on its way when the peer dies
			if err := out.Publish(image); err != nil {
				t.Logf("publish: %v", err)
			}
		}
		t.Logf("killed before it had handed the message over: %v", w.KillAmid(image))
		other := start()
		listens(t, n, other)
		if forgets(p) {
			eventually(t, "the dead peer is forgotten", func() bool { return s.Stats().Peers == 0 && out.Stats().Peers == 0 })
		}
		if err := out.Publish(image); err != nil {
			t.Errorf("publish after the peer is gone: %v", err)
		}
		for len(sub) > 0 { // what came of it came whole
			same(t, "image", (<-sub).Msg, image)
		}
	})
}

// A peer that stops reading does not hold up others, and catches up when it goes on.
func TestStoppedPeer(t *testing.T) {
	each(t, func(t *testing.T, start func() *peers.Peer) {
		n := node(t, ros2.Config{Name: "eyes"})
		pub := advertise(t, n, "/answer", &msgs.String{}, transport.DefaultQoS())
		stopped, other := start(), start()
		qos := dds.QoS{Reliable: true, Depth: 1000}
		a, b := stopped.Reader(peers.Message(t, "/answer", &msgs.String{}, qos)), other.Reader(peers.Message(t, "/answer", &msgs.String{}, qos))
		a.Matched(1)
		b.Matched(1)
		eventually(t, "both have matched", func() bool { return pub.Stats().Peers == 2 })
		until := func(e *peers.End, want string) {
			for m := (msgs.String{}); m.Data != want; e.Into(&m) {
			}
		}
		heard(t, pub, &msgs.String{Data: "first"}, func() { until(a, "first"); until(b, "first") })
		stopped.Stop()
		const messages = 60 // more than the depth: what the stopped one has not taken is given up
		for i := range messages {
			if err := pub.Publish(&msgs.String{Data: strconv.Itoa(i)}); err != nil {
				t.Errorf("message %d: %v", i, err)
			}
			m := msgs.String{Data: "first"}
			for m.Data == "first" {
				b.Into(&m)
			}
			if m.Data != strconv.Itoa(i) {
				t.Fatalf("the other peer got %q, expected %d", m.Data, i)
			}
		}
		if !stopped.Resumes() {
			return
		}
		last := strconv.Itoa(messages - 1)
		kept := pub.Stats().Peers == 2
		stopped.Continue()
		if kept {
			until(a, last)
		} else { // it was stopped for longer than its lease on a slow machine, and comes anew
			t.Log("the stopped peer's lease was over")
			heard(t, pub, &msgs.String{Data: last}, func() { until(a, last) })
		}
	})
}

// A peer that stops for longer than its lease is forgotten, and found again when it goes on.
func TestPeerStopsBeyondItsLease(t *testing.T) {
	each(t, func(t *testing.T, start func() *peers.Peer) {
		n := node(t, ros2.Config{Name: "eyes"})
		in, s := subscribe(t, n, "/question", &msgs.String{}, transport.DefaultQoS())
		pub := advertise(t, n, "/answer", &msgs.String{}, transport.DefaultQoS())
		p := start()
		r := p.Reader(peers.Message(t, "/answer", &msgs.String{}, dds.QoS{Reliable: true, Depth: 10}))
		w := p.Writer(peers.Message(t, "/question", &msgs.String{}, dds.QoS{Reliable: true, Depth: 10}))
		w.Matched(1)
		eventually(t, "matched", func() bool { return pub.Stats().Peers == 1 && s.Stats().Peers == 1 })
		if !forgets(p) {
			t.Skip("its lease is long: STLLM_LONG=1 (make test-long)")
		}
		p.Stop()
		eventually(t, "the peer is forgotten", func() bool { return pub.Stats().Peers == 0 && s.Stats().Peers == 0 })
		if err := pub.Publish(&msgs.String{Data: "to nobody"}); err != nil {
			t.Error(err)
		}
		if !p.Resumes() {
			return
		}
		p.Continue()
		heard(t, pub, &msgs.String{Data: "again"}, func() {
			for m := (msgs.String{}); m.Data != "again"; r.Into(&m) {
			}
		})
		eventually(t, "matched again", func() bool { return s.Stats().Peers == 1 })
		eventually(t, "the peer is heard again", func() bool { w.Send(&msgs.String{Data: "?"}); return len(in) > 0 })
	})
}

// Ends that a peer closes are forgotten though the peer stays, and so is one that leaves. Those of CycloneDDS and RustDDS were not
// (dds/farewell.h): they would have stayed as long as their participant, here for ever.
func TestPeerCloses(t *testing.T) {
	each(t, func(t *testing.T, start func() *peers.Peer) {
		n := node(t, ros2.Config{Name: "eyes"})
		_, s := subscribe(t, n, "/question", &msgs.String{}, transport.DefaultQoS())
		pub := advertise(t, n, "/answer", &msgs.String{}, transport.DefaultQoS())
		p := start()
		ends := func() (r, w *peers.End) {
			r = p.Reader(peers.Message(t, "/answer", &msgs.String{}, dds.QoS{Reliable: true, Depth: 10}))
			w = p.Writer(peers.Message(t, "/question", &msgs.String{}, dds.QoS{Reliable: true, Depth: 10}))
			eventually(t, "the ends have matched", func() bool { return pub.Stats().Peers == 1 && s.Stats().Peers == 1 })
			return r, w
		}
		for range 3 {
			r, w := ends()
			r.Close()
			eventually(t, "the closed reader is forgotten", func() bool { return pub.Stats().Peers == 0 })
			if s.Stats().Peers != 1 {
				t.Error("the writer is forgotten, too")
			}
			w.Close()
			eventually(t, "the closed writer is forgotten", func() bool { return s.Stats().Peers == 0 })
		}
		ends()
		p.Close()
		eventually(t, "the peer is forgotten", func() bool { return pub.Stats().Peers == 0 && s.Stats().Peers == 0 })
	})
}

// A participant that leaves is forgotten by its own word, not by its lease. That of RustDDS is too short to tell.
func TestPeerLeaves(t *testing.T) {
	for name, start := range map[string]func(testing.TB, int) *peers.Peer{"cyclone": peers.CycloneLasting, "cyclone in C": peers.CycloneCLasting} {
		t.Run(name, func(t *testing.T) {
			if !dds.Available {
				t.Skip("this test binary was built without Fast DDS (-tags fastdds)")
			}
			seen := make(chan dds.Discovery, 100)
			d, err := dds.NewParticipant(dds.Config{Domain: peers.Domain(), Name: "eyes", UserData: "enclave=/;", Interfaces: []string{"127.0.0.1"},
				Peers: []string{"127.0.0.1"}, Loopback: true}, func(d dds.Discovery) {
				if d.Kind == dds.KindParticipant {
					select {
					case seen <- d:
					default:
					}
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(d.Close)
			p := start(t, peers.Domain())
			guid := p.GUID().Participant()
			for found := false; !found; {
				e := receive(t, "the peer is discovered", seen)
				found = e.GUID == guid && !e.Removed
			}
			p.Close()
			for gone := false; !gone; {
				e := receive(t, "the peer is forgotten", seen)
				gone = e.GUID == guid && e.Removed
			}
		})
	}
}

// A publisher that comes back with another quality is reported; when it comes back as before its messages are heard again.
func TestPublisherRestartsWithOtherQoS(t *testing.T) {
	each(t, func(t *testing.T, start func() *peers.Peer) {
		p := start()
		n := node(t, ros2.Config{Name: "eyes"})
		sub, _ := subscribe(t, n, "/map", &msgs.String{}, transport.StaticQoS())
		good := wire(transport.StaticQoS())
		w := p.Writer(peers.Message(t, "/map", &msgs.String{}, good))
		w.Send(&msgs.String{Data: "one"})
		receive(t, "the first", sub)
		w.Close()
		w = p.Writer(peers.Message(t, "/map", &msgs.String{}, dds.QoS{Reliable: true, Depth: 1}))
		if policy := dds.PolicyName(w.Incompatible()); policy != "durability" {
			t.Errorf("policy %s", policy)
		}
		for {
			if e := receive(t, "an event", n.Events()); e.Kind == transport.EventIncompatibleQoS {
				contains(t, e.Message, "reliable volatile", "reliable transient_local", "durability")
				break
			}
		}
		w.Close()
		w = p.Writer(peers.Message(t, "/map", &msgs.String{}, good))
		w.Send(&msgs.String{Data: "three"})
		if m := receive(t, "the third", sub).Msg.(*msgs.String); m.Data != "three" {
			t.Errorf("%q", m.Data)
		}
	})
}

// ownPorts are the ports of a domain that this process has open.
func ownPorts(t *testing.T) (ports []int) {
	t.Helper()
	text, err := os.ReadFile("/proc/net/udp")
	if err != nil {
		t.Skip("no /proc/net/udp to find our ports with")
	}
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("no /proc/self/fd to find our sockets with")
	}
	own := map[string]bool{}
	for _, f := range files {
		if to, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil {
			own[to] = true // "socket:[inode]"
		}
	}
	base := 7400 + 250*peers.Domain()
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if len(f) < 10 || !own["socket:["+f[9]+"]"] {
			continue
		}
		_, hex, _ := strings.Cut(f[1], ":")
		if port, err := strconv.ParseUint(hex, 16, 16); err == nil && int(port) >= base && int(port) < base+250 {
			ports = append(ports, int(port))
		}
	}
	return ports
}

// Datagrams of noise, and of RTPS with a peer's name and noise after it, at every port of ours while that peer talks: what it says
// comes whole and in its order all the same, and one that comes later is heard.
func TestGarbage(t *testing.T) {
	each(t, func(t *testing.T, start func() *peers.Peer) {
		p := start()
		n := node(t, ros2.Config{Name: "eyes"})
		listens(t, n, p)
		chat, s := subscribe(t, n, "/chat", &msgs.String{}, transport.QoS{Reliability: transport.Reliable, Durability: transport.Volatile, Depth: 1000})
		w := p.Writer(peers.Message(t, "/chat", &msgs.String{}, dds.QoS{Reliable: true, Depth: 1000}))
		w.Matched(1)
		eventually(t, "the writer is heard", func() bool { w.Send(&msgs.String{Data: "first"}); return s.Stats().Messages > 0 })
		ports := ownPorts(t)
		if len(ports) == 0 {
			t.Fatal("no port of ours is open")
		}
		r := rand.New(rand.NewPCG(3, 4))
		guid := p.GUID()
		said := 0
		for _, port := range ports {
			c, err := net.Dial("udp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
			if err != nil {
				t.Fatal(err)
			}
			for i := range 400 {
				b := make([]byte, r.IntN(1400))
				for i := range b {
					b[i] = byte(r.Uint32())
				}
				if i%2 == 0 && len(b) > 40 {
					copy(b, "RTPS\x02\x02\x01\x0f")
					copy(b[8:], guid[:12])
					// Submessages with their true kinds and lengths: DATA, HEARTBEAT, ACKNACK, GAP, DATA_FRAG, INFO_TS.
					kinds := []byte{0x15, 0x07, 0x06, 0x08, 0x16, 0x09, 0x13, 0x12}
					b[20], b[21] = kinds[r.IntN(len(kinds))], byte(1+r.IntN(2)*4)
					binary.LittleEndian.PutUint16(b[22:], uint16(r.IntN(2*len(b))))
				}
				_, _ = c.Write(b) // refused by a port that was closed meanwhile
				if i%20 == 0 {
					w.Send(&msgs.String{Data: strconv.Itoa(said)})
					said++
				}
			}
			c.Close()
		}
		for next := 0; next < said; {
			switch m := receive(t, "what the peer says", chat).Msg.(*msgs.String).Data; m {
			case "first":
			case strconv.Itoa(next):
				next++
			default:
				t.Fatalf("%q, expected %d", m, next)
			}
		}
		if st := s.Stats(); st.Errors != 0 || st.Dropped != 0 {
			t.Errorf("%+v", st)
		}
		// What is no RTPS is told of and counted, at least the noise of which no buffer overflowed.
		for counted := uint64(0); counted < 100; {
			if e := receive(t, "an event", n.Events()); e.Kind == transport.EventDecode && e.Topic == "UDP" {
				contains(t, e.Message, "bytes from 127.0.0.1:", "no RTPS")
				counted += e.Count
			}
		}
		listens(t, n, start())
	})
}

// memory is what this process holds, in KiB: resident pages that are no file's, after Go has given back what it does not use, and
// Go's heap in use.
func memory(t *testing.T) (anonymous, heap int) {
	t.Helper()
	debug.FreeOSMemory()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Skip("no /proc/self/status: not Linux")
	}
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); f[0] == "RssAnon:" {
			if anonymous, err = strconv.Atoi(f[1]); err != nil {
				t.Fatal(err)
			}
			return anonymous, int(s.HeapInuse >> 10)
		}
	}
	t.Skip("no RssAnon in /proc/self/status")
	return 0, 0
}

// Peers come and go, every second one without a word: memory stays where it was. What grows at all are the payloads that the reader of
// 10 samples keeps for use again, at most 2 MB here.
func TestRestartsKeepMemory(t *testing.T) {
	long(t)
	for name, start := range map[string]func(testing.TB, int) *peers.Peer{"fastdds": peers.FastDDS, "rustdds": peers.RustDDS} {
		t.Run(name, func(t *testing.T) { restarts(t, start) })
	}
}

func restarts(t *testing.T, start func(testing.TB, int) *peers.Peer) {
	n := node(t, ros2.Config{Name: "eyes"})
	sub, _ := subscribe(t, n, "/chat", &msgs.PointCloud2{}, transport.DefaultQoS())
	out := advertise(t, n, "/map", &msgs.PointCloud2{}, transport.StaticQoS())
	if _, err := n.Serve("/trigger", transport.Service{Type: "std_srvs/Trigger", Request: func() msgs.Message { return &msgs.TriggerRequest{} },
		Handle: func(context.Context, msgs.Message) (msgs.Message, error) { return &msgs.TriggerResponse{}, nil }}); err != nil {
		t.Fatal(err)
	}
	small := &msgs.PointCloud2{Data: noise(200_000, 1)}
	if err := out.Publish(small); err != nil {
		t.Fatal(err)
	}
	const warm, restarts = 50, 200
	var before, heap int
	for i := range warm + restarts {
		if i == warm {
			eventually(t, "all are forgotten", func() bool { return out.Stats().Peers == 0 })
		}
		if i%50 == 0 && i > 0 {
			a, h := memory(t)
			t.Logf("after %d restarts: %d KiB anonymous, %d KiB of Go's heap", i, a, h)
			if i == warm {
				before, heap = a, h
			}
		}
		t.Run(strconv.Itoa(i), func(t *testing.T) {
			p := start(t, peers.Domain())
			w := p.Writer(peers.Message(t, "/chat", small, dds.QoS{Reliable: true, Depth: 10}))
			p.Reader(peers.Message(t, "/map", small, wire(transport.StaticQoS()))).Next()
			w.Matched(1)
			w.Send(small)
			receive(t, "a cloud", sub)
			p.Client("/trigger", "std_srvs/Trigger", "srv").Call(&msgs.TriggerRequest{}, &msgs.TriggerResponse{})
			if i%2 == 0 {
				p.Kill()
			}
		})
	}
	eventually(t, "all are forgotten", func() bool { return out.Stats().Peers == 0 })
	after, heapAfter := memory(t)
	t.Logf("%d KiB anonymous and %d KiB of Go's heap after %d restarts, %d and %d after %d", before, heap, warm, after, heapAfter, warm+restarts)
	if after > before+(3<<10) || heapAfter > heap+(1<<10) {
		t.Errorf("memory grew from %d to %d KiB, Go's heap from %d to %d KiB, in %d restarts", before, after, heap, heapAfter, restarts)
	}
}
