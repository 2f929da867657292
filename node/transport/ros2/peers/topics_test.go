package peers_test

import (
	"reflect"
	"testing"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2"
	"github.com/stllm/stllm/node/transport/ros2/dds"
	"github.com/stllm/stllm/node/transport/ros2/peers"
)

// same reports where a message differs, without printing megabytes.
func same(t *testing.T, what string, got, want msgs.Message) {
	t.Helper()
	if reflect.DeepEqual(got, want) {
		return
	}
	g, w := reflect.ValueOf(got).Elem(), reflect.ValueOf(want).Elem()
	for i := range g.NumField() {
		if a, b := g.Field(i).Interface(), w.Field(i).Interface(); !reflect.DeepEqual(a, b) {
			if g.Field(i).Kind() == reflect.Slice && g.Field(i).Len() > 100 {
				t.Errorf("%s: field %s differs (%d elements, expected %d)", what, g.Type().Field(i).Name, g.Field(i).Len(), w.Field(i).Len())
				continue
			}
			t.Errorf("%s: field %s is %v, expected %v", what, g.Type().Field(i).Name, a, b)
		}
	}
}

func TestTopicsIn(t *testing.T) {
	each(t, func(t *testing.T, start func() *peers.Peer) {
		p := start()
		// The map and the static transforms are said before this node comes.
		static, cloud, image := static(), cloud(500_000, 7), image(8)
		p.Writer(peers.Message(t, "/tf_static", static, wire(transport.StaticQoS()))).Send(static)
		p.Writer(peers.Message(t, "/map", cloud, wire(transport.StaticQoS()))).Send(cloud)
		camera := p.Writer(peers.Message(t, "/camera/image", image, dds.QoS{Reliable: true, Depth: 5}))
		text := p.Writer(peers.Message(t, "/chat", &msgs.String{}, dds.QoS{Depth: 5}))

		n := node(t, ros2.Config{Name: "eyes", Remaps: map[string]string{"~image": "/camera/image", "map_points": "/map"}})
		images, s := subscribe(t, n, "~image", image, transport.QoS{Reliability: transport.Reliable, Durability: transport.Volatile, Depth: 5})
		maps, _ := subscribe(t, n, "map_points", cloud, transport.StaticQoS())
		tf, _ := subscribe(t, n, "/tf_static", static, transport.QoS{Reliability: transport.Reliable, Durability: transport.TransientLocal, Depth: 100})
		chat, _ := subscribe(t, n, "chat", &msgs.String{}, transport.SensorQoS())
		same(t, "tf_static", receive(t, "tf_static", tf).Msg, static)
		same(t, "map", receive(t, "map", maps).Msg, cloud)
		camera.Matched(1)
		camera.Send(image)
		same(t, "image", receive(t, "image", images).Msg, image)
		if st := s.Stats(); st.Messages != 1 || st.Dropped != 0 || st.Errors != 0 || st.Peers != 1 {
			t.Errorf("%+v", st)
		}
		text.Matched(1)
		text.Send(&msgs.String{Data: "grüezi"})
		if got := receive(t, "best effort", chat).Msg.(*msgs.String).Data; got != "grüezi" {
			t.Errorf("%q", got)
		}
	})
}

// A cloud of 16 MB to a late joiner, from the peers that take no seconds to write one.
func TestCloudIn(t *testing.T) {
	for name, start := range map[string]func(testing.TB, int) *peers.Peer{"fastdds": peers.FastDDS, "cyclone in C": peers.CycloneC, "rustdds": peers.RustDDS} {
		t.Run(name, func(t *testing.T) {
			if name == "rustdds" {
				long(t) // it repairs what a burst has lost of a big message for most of a minute
			}
			cloud := cloud(1_000_000, 11)
			start(t, peers.Domain()).Writer(peers.Message(t, "/map", cloud, wire(transport.StaticQoS()))).Send(cloud)
			maps, s := subscribe(t, node(t, ros2.Config{Name: "eyes"}), "/map", cloud, transport.StaticQoS())
			same(t, "map", receive(t, "map", maps).Msg, cloud)
			if st := s.Stats(); st.Messages != 1 || st.Bytes < 16_000_000 || st.Dropped != 0 {
				t.Errorf("%+v", st)
			}
		})
	}
}

func TestTopicsOut(t *testing.T) {
	each(t, func(t *testing.T, start func() *peers.Peer) {
		n := node(t, ros2.Config{Name: "eyes", Namespace: "/robot1"})
		static, cloud, image := static(), cloud(1_000_000, 9), image(10)
		maps, tf := advertise(t, n, "/map", cloud, transport.StaticQoS()), advertise(t, n, "/tf_static", static, transport.StaticQoS())
		images := advertise(t, n, "~image", image, transport.QoS{Reliability: transport.Reliable, Durability: transport.Volatile, Depth: 5})
		for pub, m := range map[transport.Publisher]msgs.Message{maps: cloud, tf: static} {
			if err := pub.Publish(m); err != nil {
				t.Fatal(err)
			}
		}
		p := start() // too late for both, but they are kept
		var gotTF msgs.TFMessage
		p.Reader(peers.Message(t, "/tf_static", static, wire(transport.StaticQoS()))).Into(&gotTF)
		same(t, "tf_static", &gotTF, static)
		var gotMap msgs.PointCloud2
		p.Reader(peers.Message(t, "/map", cloud, wire(transport.StaticQoS()))).Into(&gotMap)
		same(t, "map", &gotMap, cloud)
		camera := p.Reader(peers.Message(t, "/robot1/eyes/image", image, dds.QoS{Reliable: true, Depth: 5}))
		eventually(t, "the peer's reader has matched", func() bool { return images.Stats().Peers == 1 })
		var got msgs.Image
		heard(t, images, image, func() { camera.Into(&got) })
		same(t, "image", &got, image)
	})
}

// A peer that offers less than is wanted is named with both sides' policies, on both ends.
func TestIncompatibleQoS(t *testing.T) {
	each(t, func(t *testing.T, start func() *peers.Peer) {
		p := start()
		n := node(t, ros2.Config{Name: "eyes"})
		subscribe(t, n, "/map", &msgs.String{}, transport.StaticQoS())
		p.Writer(peers.Message(t, "/map", &msgs.String{}, dds.QoS{Depth: 1}))
		e := receive(t, "an event", n.Events())
		if e.Kind != transport.EventIncompatibleQoS || e.Topic != "/map" {
			t.Errorf("%+v", e)
		}
		contains(t, e.Message, "best_effort volatile", "reliable transient_local")
		advertise(t, n, "/out", &msgs.String{}, transport.SensorQoS())
		r := p.Reader(peers.Message(t, "/out", &msgs.String{}, dds.QoS{Reliable: true, Depth: 1}))
		for e = receive(t, "an event", n.Events()); e.Topic != "/out"; e = receive(t, "an event", n.Events()) {
		}
		contains(t, e.Message, "wants reliable volatile", "offers best_effort volatile", "reliability")
		_ = r
	})
}
