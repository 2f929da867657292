package ros2

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2/dds"
)

// testDomain keeps test processes that run at the same time apart.
func testDomain() int { return 30 + os.Getpid()%60 }

func testNode(t *testing.T, cfg Config) *Node {
	t.Helper()
	if !dds.Available {
		t.Skip("this test binary was built without Fast DDS (-tags fastdds)")
	}
	domain := testDomain()
	cfg.Domain, cfg.Range, cfg.Loopback = &domain, "LOCALHOST", true
	n, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// outsider is a participant without a node, for what nodes do not do.
func outsider(t *testing.T) *dds.Participant {
	t.Helper()
	p, err := dds.NewParticipant(dds.Config{Domain: testDomain(), Name: "outsider", UserData: "enclave=/;", Interfaces: []string{"127.0.0.1"},
		Peers: []string{"127.0.0.1"}, Multicast: true}, func(dds.Discovery) {})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// limit is how long tests wait for what must happen; nothing is measured by it.
const limit = 30 * time.Second

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v", what, limit)
		}
	}
}

func next[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(limit):
		t.Fatalf("%s: nothing within %v", what, limit)
		panic("unreachable")
	}
}

// event waits for one of a kind.
func event(t *testing.T, n *Node, kind transport.EventKind) transport.Event {
	t.Helper()
	for {
		if e := next(t, string(kind), n.Events()); e.Kind == kind {
			return e
		}
	}
}

func hear(t *testing.T, n *Node, topic string, sample msgs.Message, qos transport.QoS) (transport.Subscription, <-chan transport.Received) {
	t.Helper()
	got := make(chan transport.Received, 100)
	s, err := n.Subscribe(topic, sample, qos, func(r transport.Received) { got <- r })
	if err != nil {
		t.Fatal(err)
	}
	return s, got
}

func speak(t *testing.T, n *Node, topic string, sample msgs.Message, qos transport.QoS) transport.Publisher {
	t.Helper()
	p, err := n.Advertise(topic, sample, qos)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func say(t *testing.T, p transport.Publisher, m msgs.Message) {
	t.Helper()
	if err := p.Publish(m); err != nil {
		t.Fatal(err)
	}
}

func TestTopics(t *testing.T) {
	a := testNode(t, Config{Name: "a"})
	b := testNode(t, Config{Name: "b", Namespace: "/ns", Remaps: map[string]string{"~/in": "/chat"}})
	p := speak(t, a, "chat", &msgs.String{}, transport.DefaultQoS())
	s, got := hear(t, b, "~in", &msgs.String{}, transport.DefaultQoS())
	eventually(t, "match", func() bool { return p.Stats().Peers == 1 && s.Stats().Peers == 1 })
	eventually(t, "b knows a's node", func() bool { return b.graph.nodeOf(p.(*publisher).id) == "/a" })
	for _, text := range []string{"one", "two", "", "häßlich"} {
		say(t, p, &msgs.String{Data: text})
		r := next(t, "message", got)
		if d := r.Msg.(*msgs.String).Data; d != text || r.Source != "/a" || r.Received == 0 {
			t.Errorf("got %q from %s at %d, expected %q from /a", d, r.Source, r.Received, text)
		}
	}
	if st := s.Stats(); st.Messages != 4 || st.Errors != 0 || st.Topic != "/chat" || st.Bytes != p.Stats().Bytes {
		t.Errorf("%+v, sent %+v", st, p.Stats())
	}
	if err := p.Publish(&msgs.Bool{}); err == nil {
		t.Error("another type was published")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a sees that b left the topic", func() bool { return p.Stats().Peers == 0 })
	if err := p.Close(); err != nil || p.Publish(&msgs.String{}) == nil {
		t.Errorf("close: %v; or a closed publisher publishes", err)
	}
	for _, bad := range []transport.QoS{{}, {Reliability: "often", Durability: transport.Volatile, Depth: 1}} {
		if _, err := a.Advertise("x", &msgs.String{}, bad); err == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
	if _, err := a.Subscribe("a b", &msgs.String{}, transport.DefaultQoS(), nil); err == nil {
		t.Error("a name with a space was accepted")
	}
	a.Close()
	if _, err := a.Advertise("x", &msgs.String{}, transport.DefaultQoS()); err == nil {
		t.Error("a closed node advertises")
	}
}

func noise(n int) []byte {
	data := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(data)
	return data
}

// Images of 6 MB, and a map of 16 MB and static transforms for somebody who comes late.
func TestLargeMessagesAndLateJoiner(t *testing.T) {
	a := testNode(t, Config{Name: "a"})
	cloud := &msgs.PointCloud2{Header: msgs.Header{FrameID: "map"}, Height: 1, Width: 1 << 20, PointStep: 16, RowStep: 16 << 20, Data: noise(16 << 20)}
	tf := &msgs.TFMessage{Transforms: []msgs.TransformStamped{{Header: msgs.Header{FrameID: "base"}, ChildFrameID: "camera"}}}
	say(t, speak(t, a, "map_points", cloud, transport.StaticQoS()), cloud)
	say(t, speak(t, a, "/tf_static", tf, transport.StaticQoS()), tf)
	images := speak(t, a, "image", &msgs.Image{}, transport.DefaultQoS())

	b := testNode(t, Config{Name: "b"})
	_, maps := hear(t, b, "map_points", &msgs.PointCloud2{}, transport.StaticQoS())
	_, tfs := hear(t, b, "/tf_static", &msgs.TFMessage{}, transport.StaticQoS())
	_, seen := hear(t, b, "image", &msgs.Image{}, transport.DefaultQoS())
	if m := next(t, "map", maps).Msg.(*msgs.PointCloud2); !bytes.Equal(m.Data, cloud.Data) || m.Header.FrameID != "map" {
		t.Error("the map is not what was sent")
	}
	if m := next(t, "tf_static", tfs).Msg.(*msgs.TFMessage); len(m.Transforms) != 1 || m.Transforms[0].ChildFrameID != "camera" {
		t.Errorf("%+v", m)
	}
	eventually(t, "match", func() bool { return images.Stats().Peers == 1 })
	image := &msgs.Image{Height: 1080, Width: 1920, Encoding: "rgb8", Step: 5760, Data: noise(1080 * 5760)}
	for i := range 3 {
		image.Data[0] = byte(i)
		say(t, images, image)
		if m := next(t, "image", seen).Msg.(*msgs.Image); !bytes.Equal(m.Data, image.Data) {
			t.Errorf("image %d is not what was sent", i)
		}
	}
}

// What cannot be read is counted, told once a second, and dropped; the next good message comes through.
func TestUnreadableMessages(t *testing.T) {
	n := testNode(t, Config{})
	s, got := hear(t, n, "chat", &msgs.String{}, transport.DefaultQoS())
	w, err := outsider(t).NewWriter("rt/chat", wireType("std_msgs/String", "msg"), dds.QoS{Reliable: true, Depth: 100}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	eventually(t, "match", func() bool { return w.Matched(s.(*subscription).id) })
	good := []byte{0, 1, 0, 0, 3, 0, 0, 0, 'h', 'i', 0, 0}
	bad := [][]byte{
		{0}, {0, 1, 0, 0}, {0, 1, 0, 0, 3, 0}, // truncated
		{0, 1, 0, 0, 3, 0, 0, 0, 'h', 'i', '!', 0},                                         // no NUL
		{0, 1, 0, 0, 255, 255, 255, 255, 'h', 'i', 0, 0},                                   // longer than the payload
		{0, 0, 0, 0, 3, 0, 0, 0, 'h', 'i', 0, 0},                                           // the other byte order
		{0, 3, 0, 0, 3, 0, 0, 0, 'h', 'i', 0, 0}, {0, 7, 0, 0, 3, 0, 0, 0, 'h', 'i', 0, 0}, // PL_CDR, XCDR2
		{9, 9, 9, 9, 9, 9},
	}
	for _, data := range append(bad, good) {
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if m := next(t, "the good message", got).Msg.(*msgs.String); m.Data != "hi" {
		t.Errorf("got %q", m.Data)
	}
	if st := s.Stats(); st.Errors != uint64(len(bad)) || st.Messages != uint64(len(bad)+1) {
		t.Errorf("%+v, expected %d errors", st, len(bad))
	}
	told := uint64(0)
	for reports := 0; told < uint64(len(bad)); reports++ {
		e := event(t, n, transport.EventDecode)
		if told += e.Count; e.Topic != "/chat" || reports > 1 {
			t.Errorf("report %d: %+v", reports, e)
		}
	}
}

func TestIncompatibleQoSAndTypes(t *testing.T) {
	a, b := testNode(t, Config{Name: "a"}), testNode(t, Config{Name: "b"})
	speak(t, a, "weak", &msgs.String{}, transport.SensorQoS())
	hear(t, b, "weak", &msgs.String{}, transport.DefaultQoS())
	for n, want := range map[*Node]string{
		a: "/weak: /b wants reliable volatile, this node offers best_effort volatile: incompatible reliability",
		b: "/weak: /a offers best_effort volatile, this node wants reliable volatile: incompatible reliability",
	} {
		if e := event(t, n, transport.EventIncompatibleQoS); !strings.HasPrefix(e.Message, want) || e.Topic != "/weak" {
			t.Errorf("%+v, expected %q", e, want)
		}
	}
	speak(t, a, "short", &msgs.String{}, transport.DefaultQoS())
	hear(t, b, "short", &msgs.String{}, transport.StaticQoS())
	if e := event(t, b, transport.EventIncompatibleQoS); !strings.Contains(e.Message, "incompatible durability") {
		t.Errorf("%+v", e)
	}
	speak(t, a, "other", &msgs.String{}, transport.DefaultQoS())
	hear(t, b, "other", &msgs.Bool{}, transport.DefaultQoS())
	for _, n := range []*Node{a, b} {
		if e := event(t, n, transport.EventTypeMismatch); e.Topic != "/other" || !strings.Contains(e.Message, " std_msgs/msg/Bool") || !strings.Contains(e.Message, " std_msgs/msg/String") {
			t.Errorf("%+v", e)
		}
	}
}

func TestSimulatedTime(t *testing.T) {
	a, b := testNode(t, Config{Name: "a"}), testNode(t, Config{Name: "b", UseSimTime: true})
	if a.Clock().Simulated() || a.Clock().Now() == 0 || !b.Clock().Simulated() || b.Clock().Now() != 0 {
		t.Error("clocks at the start")
	}
	p := speak(t, a, "/clock", &msgs.Clock{}, transport.DefaultQoS())
	eventually(t, "match", func() bool { return p.Stats().Peers == 1 })
	second := int64(time.Second)
	for _, s := range []int64{100, 101, 50, 200} {
		// Again and again, as /clock is: a best-effort reader misses what comes before it has matched.
		eventually(t, fmt.Sprintf("time %d", s), func() bool {
			say(t, p, &msgs.Clock{Clock: msgs.TimeFromNanos(s * second)})
			return b.Clock().Now() == s*second
		})
	}
	for _, want := range []transport.Jump{{From: 101 * second, To: 50 * second}, {From: 50 * second, To: 200 * second}} {
		if j := next(t, "jump", b.Clock().Jumps()); j != want {
			t.Errorf("%+v, expected %+v", j, want)
		}
	}
}

// What tools read: the nodes and their endpoints, type names, hashes, the enclave.
func TestGraph(t *testing.T) {
	a := testNode(t, Config{Name: "a", Namespace: "/ns", Enclave: "/sealed", GidWidth: gidHumble})
	p := speak(t, a, "chat", &msgs.String{}, transport.DefaultQoS()).(*publisher)
	c, err := a.Serve("~go", transport.Service{Type: "std_srvs/Trigger", Request: func() msgs.Message { return &msgs.TriggerRequest{} }, Handle: trigger})
	if err != nil {
		t.Fatal(err)
	}
	srv := c.(*server)
	b := testNode(t, Config{Name: "b"})
	node := func() *nodeEntities {
		b.graph.mu.Lock()
		defer b.graph.mu.Unlock()
		for _, list := range b.graph.nodes {
			for _, e := range list.nodes {
				if e.name == "a" {
					return &e
				}
			}
		}
		return nil
	}
	eventually(t, "b knows a and its endpoints", func() bool {
		e := node()
		return e != nil && len(e.writers) == 2 && len(b.graph.on("rq/ns/a/goRequest", dds.KindReader)) == 1 && len(b.graph.on("rr/ns/a/goReply", dds.KindWriter)) == 1 &&
			len(b.graph.on("rt/ns/chat", dds.KindWriter)) == 1
	})
	if e := node(); e.namespace != "/ns" || !slices.Equal(e.writers, []dds.GUID{p.id, srv.id}) || !slices.Equal(e.readers, []dds.GUID{srv.readerID}) {
		t.Errorf("%+v", e)
	}
	// std_msgs/String as every ROS 2 installation has it.
	const hash = "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"
	if d := b.graph.on("rt/ns/chat", dds.KindWriter)[0]; d.Type != "std_msgs::msg::dds_::String_" || userValue(d.UserData, "typehash") != hash || !d.Reliable || d.TransientLocal {
		t.Errorf("%+v", d)
	}
	q, r := b.graph.on("rq/ns/a/goRequest", dds.KindReader)[0], b.graph.on("rr/ns/a/goReply", dds.KindWriter)[0]
	if q.Type != "std_srvs::srv::dds_::Trigger_Request_" || r.Type != "std_srvs::srv::dds_::Trigger_Response_" || q.UserData != r.UserData || len(userValue(q.UserData, "serviceid")) != 47 {
		t.Errorf("%+v\n%+v", q, r)
	}
	b.graph.mu.Lock()
	enclave := userValue(b.graph.participants[a.gid].UserData, "enclave")
	b.graph.mu.Unlock()
	if enclave != "/sealed" {
		t.Errorf("enclave %q", enclave)
	}
	c.Close()
	eventually(t, "the service is gone from a's node", func() bool { e := node(); return e != nil && len(e.readers) == 0 && len(e.writers) == 1 })
	a.Close()
	eventually(t, "a is gone", func() bool { return node() == nil })
}

// A second node of the name is told of once, and garbage on our ports does nothing.
func TestTwinAndGarbage(t *testing.T) {
	a, b := testNode(t, Config{Name: "a"}), testNode(t, Config{Name: "a"})
	p := speak(t, b, "chat", &msgs.String{}, transport.DefaultQoS())
	if e := event(t, a, transport.EventNameTaken); e.Topic != "/a" || e.Count != 1 || !strings.Contains(e.Message, "another node of the name /a") {
		t.Errorf("%+v", e)
	}
	_, got := hear(t, a, "chat", &msgs.String{}, transport.DefaultQoS())
	base := 7400 + 250*testDomain()
	for i := range 20 {
		c, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", base+i))
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range [][]byte{noise(1), noise(40), noise(1400), append([]byte("RTPS\x02\x03\x01\x0f"), noise(500)...), append([]byte("RTPS"), make([]byte, 60000)...)} {
			_, _ = c.Write(data) // nobody may listen there
		}
		c.Close()
	}
	eventually(t, "match", func() bool { return p.Stats().Peers == 1 })
	say(t, p, &msgs.String{Data: "still here"})
	if m := next(t, "message", got).Msg.(*msgs.String); m.Data != "still here" {
		t.Errorf("got %q", m.Data)
	}
	for {
		select {
		case e := <-a.Events():
			if e.Kind == transport.EventNameTaken {
				t.Errorf("told again: %+v", e)
			}
			continue
		default:
		}
		break
	}
}

// A twin that another participant tells of, as a bridge between domains does, goes with that participant, and is news when it comes back.
func TestTwinBehindABridge(t *testing.T) {
	n := testNode(t, Config{Name: "a"})
	twin := dds.GUID{1, 15, 9, 9, 11: 9, 14: 1, 15: 0xC1}
	for range 2 {
		bridge := outsider(t)
		w, err := bridge.NewWriter(discoveryTopic, discoveryType, dds.QoS{Reliable: true, TransientLocal: true, Depth: 1}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(participantEntities{gid: twin, nodes: []nodeEntities{{namespace: "/", name: "a"}}}.encode(gidIron)); err != nil {
			t.Fatal(err)
		}
		if e := event(t, n, transport.EventNameTaken); e.Topic != "/a" || e.Count != 1 {
			t.Errorf("%+v", e)
		}
		n.mu.Lock()
		told := len(n.twins)
		n.mu.Unlock()
		if told != 1 {
			t.Errorf("%d twins", told)
		}
		w.Close()
		eventually(t, "the twin is forgotten", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return len(n.twins) == 0 && !n.graph.known(twin) })
	}
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

// Peers of this process come and go. What a peer leaves to Fast DDS in the process that it was in is some 0.5 KB (C's allocator had
// 1.73 MB in use after 50, 1.87 after 200, 1.95 after 400), which is the end of a node and so of its process; peers in processes of
// their own leave nothing (TestRestartsKeepMemory).
func TestPeerRestarts(t *testing.T) {
	if os.Getenv("STLLM_LONG") == "" {
		t.Skip("takes minutes: set STLLM_LONG=1")
	}
	n := testNode(t, Config{})
	p := speak(t, n, "chat", &msgs.String{}, transport.StaticQoS())
	say(t, p, &msgs.String{Data: "hello"})
	restarts := func(count int) (anonymous, heap int) {
		for i := range count {
			t.Run(strconv.Itoa(i), func(t *testing.T) { // which lets go of the node that it closes
				_, got := hear(t, testNode(t, Config{Name: "peer"}), "chat", &msgs.String{}, transport.StaticQoS())
				next(t, "message", got)
			})
		}
		return memory(t)
	}
	before, heap := restarts(50)
	for range 3 {
		a, h := restarts(50)
		t.Logf("after another 50 restarts: %d KiB anonymous, %d KiB of Go's heap", a, h)
	}
	after, heapAfter := restarts(50)
	for end := time.Now().Add(limit); ; time.Sleep(5 * time.Millisecond) {
		n.graph.mu.Lock()
		nodes, endpoints, peers := len(n.graph.nodes), len(n.graph.endpoints), p.Stats().Peers
		n.graph.mu.Unlock()
		if nodes <= 1 && endpoints <= 4 && peers == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("after %v there are %d participants with nodes, %d endpoints and %d peers", limit, nodes, endpoints, peers)
		}
	}
	t.Logf("%d KiB anonymous and %d KiB of Go's heap after 50 restarts, %d and %d after 250", before, heap, after, heapAfter)
	if after > before+(3<<10) || heapAfter > heap+(1<<10) {
		t.Errorf("memory grew from %d to %d KiB, Go's heap from %d to %d KiB, over 200 restarts", before, after, heap, heapAfter)
	}
}
