package peers_test

import (
	"math/rand/v2"
	"os"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2"
	"github.com/stllm/stllm/node/transport/ros2/dds"
	"github.com/stllm/stllm/node/transport/ros2/peers"
)

// node joins the test's domain.
func node(t *testing.T, cfg ros2.Config) *ros2.Node {
	t.Helper()
	if !dds.Available {
		t.Skip("this test binary was built without Fast DDS (-tags fastdds)")
	}
	domain := peers.Domain()
	cfg.Domain, cfg.Range, cfg.Loopback, cfg.Log = &domain, "LOCALHOST", true, zerolog.New(zerolog.NewTestWriter(t))
	n, err := ros2.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	return n
}

// long is for tests that take seconds of all cores, or minutes.
func long(t *testing.T) {
	t.Helper()
	if os.Getenv("STLLM_LONG") == "" {
		t.Skip("set STLLM_LONG=1 (make test-long)")
	}
}

// forgets tells whether the test should wait until a peer that was killed is forgotten, which is for long tests where it takes long.
func forgets(p *peers.Peer) bool { return p.Lease() == 0 || os.Getenv("STLLM_LONG") != "" }

// each runs a test with every foreign peer.
func each(t *testing.T, test func(*testing.T, func() *peers.Peer)) {
	for _, peer := range []struct {
		name  string
		start func(testing.TB, int) *peers.Peer
	}{{"fastdds", peers.FastDDS}, {"cyclone", peers.Cyclone}, {"cyclone in C", peers.CycloneC}, {"rustdds", peers.RustDDS}} {
		t.Run(peer.name, func(t *testing.T) {
			if !dds.Available {
				t.Skip("this test binary was built without Fast DDS (-tags fastdds)")
			}
			test(t, func() *peers.Peer { return peer.start(t, peers.Domain()) })
		})
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(peers.Patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain: %s", peers.Patience, what)
		}
	}
}

func receive[T any](t *testing.T, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(peers.Patience):
		t.Fatalf("waited %v in vain: %s", peers.Patience, what)
		panic("unreachable")
	}
}

func subscribe(t *testing.T, n *ros2.Node, topic string, sample msgs.Message, qos transport.QoS) (<-chan transport.Received, transport.Subscription) {
	t.Helper()
	c := make(chan transport.Received, 1000)
	s, err := n.Subscribe(topic, sample, qos, func(r transport.Received) { c <- r })
	if err != nil {
		t.Fatal(err)
	}
	return c, s
}

func advertise(t *testing.T, n *ros2.Node, topic string, sample msgs.Message, qos transport.QoS) transport.Publisher {
	t.Helper()
	p, err := n.Advertise(topic, sample, qos)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// heard publishes a message again and again until take has returned, which waits for it. Two ends that have matched may still
// miss a volatile message: CycloneDDS begins with what the writer's first heartbeat announces, and takes what came before it
// for the past (ddsi_endpoint_match.c).
func heard(t *testing.T, pub transport.Publisher, m msgs.Message, take func()) {
	t.Helper()
	taken, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			if err := pub.Publish(m); err != nil {
				t.Errorf("publish: %v", err)
			}
			select {
			case <-taken:
				return
			case <-time.After(time.Second):
			}
		}
	}()
	defer func() { close(taken); <-ended }()
	take()
}

// noise fills n bytes from a seed.
func noise(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return b
}

// image is rgb8 of 1920 × 1080: 6 MB.
func image(seed uint64) *msgs.Image {
	return &msgs.Image{
		Header: msgs.Header{Stamp: msgs.Time{Sec: 1700000000, Nanosec: uint32(seed)}, FrameID: "camera"}, Height: 1080, Width: 1920, Encoding: "rgb8",
		Step: 1920 * 3, Data: noise(1920*1080*3, seed),
	}
}

// cloud has points x y z rgb of 16 bytes.
func cloud(points int, seed uint64) *msgs.PointCloud2 {
	m := &msgs.PointCloud2{
		Header: msgs.Header{Stamp: msgs.Time{Sec: 1700000001}, FrameID: "map"}, Height: 1, Width: uint32(points), PointStep: 16, RowStep: uint32(16 * points),
		Data: noise(16*points, seed), IsDense: true,
	}
	for i, name := range []string{"x", "y", "z", "rgb"} {
		m.Fields = append(m.Fields, msgs.PointField{Name: name, Offset: uint32(4 * i), Datatype: msgs.PointFieldFloat32, Count: 1})
	}
	return m
}

func static() *msgs.TFMessage {
	m := &msgs.TFMessage{}
	for _, child := range []string{"camera_link", "camera_color_optical_frame"} {
		m.Transforms = append(m.Transforms, msgs.TransformStamped{
			Header: msgs.Header{Stamp: msgs.Time{Sec: 5, Nanosec: 6}, FrameID: "base_link"}, ChildFrameID: child,
			Transform: msgs.Transform{Translation: msgs.Vector3{X: 0.1, Y: -0.2, Z: 0.3}, Rotation: msgs.Quaternion{W: 1}},
		})
	}
	return m
}

// wire is a QoS in DDS's terms.
func wire(q transport.QoS) dds.QoS {
	return dds.QoS{Reliable: q.Reliability == transport.Reliable, TransientLocal: q.Durability == transport.TransientLocal, Depth: q.Depth}
}
