package peers_test

import (
	"bytes"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2"
	"github.com/stllm/stllm/node/transport/ros2/peers"
)

// The largest messages that the node has to take: a 4K image and a cloud of 64 MB, both ways. The codec of CycloneDDS in Python takes
// most of a minute for such a cloud; its own is of 16 MB. RustDDS is not asked: it takes most of a minute for 16 MB (TestCloudIn), and
// did not get an image of 25 MB through in 90 s.
func TestLargest(t *testing.T) {
	long(t)
	each(t, func(t *testing.T, start func() *peers.Peer) {
		size := 64 << 20
		if strings.HasSuffix(t.Name(), "/rustdds") {
			t.Skip("RustDDS is too slow with messages of this size")
		}
		if strings.HasSuffix(t.Name(), "/cyclone") {
			size = 16 << 20
		}
		p := start()
		n := node(t, ros2.Config{Name: "eyes"})
		image := &msgs.Image{Height: 2160, Width: 3840, Encoding: "rgb8", Step: 3 * 3840, Data: noise(3840*2160*3, 1)}
		cloud := &msgs.PointCloud2{Header: msgs.Header{FrameID: "map"}, Height: 1, Width: uint32(size / 16), PointStep: 16, RowStep: uint32(size), Data: noise(size, 2),
			Fields: []msgs.PointField{{Name: "x", Datatype: msgs.PointFieldFloat32, Count: 1}}}
		qos := transport.QoS{Reliability: transport.Reliable, Durability: transport.Volatile, Depth: 5}
		images, _ := subscribe(t, n, "/in/image", image, qos)
		maps, _ := subscribe(t, n, "/in/map", cloud, transport.StaticQoS())
		w := p.Writer(peers.Message(t, "/in/image", image, wire(qos)))
		w.Matched(1)
		w.Send(image)
		same(t, "image", receive(t, "image", images).Msg, image)
		p.Writer(peers.Message(t, "/in/map", cloud, wire(transport.StaticQoS()))).Send(cloud)
		same(t, "cloud", receive(t, "cloud", maps).Msg, cloud)

		pub := advertise(t, n, "/out/image", image, qos)
		r := p.Reader(peers.Message(t, "/out/image", image, wire(qos)))
		eventually(t, "the peer's reader has matched", func() bool { return pub.Stats().Peers == 1 })
		var gotImage msgs.Image
		heard(t, pub, image, func() { r.Into(&gotImage) })
		same(t, "image out", &gotImage, image)
		if err := advertise(t, n, "/out/map", cloud, transport.StaticQoS()).Publish(cloud); err != nil {
			t.Fatal(err)
		}
		var got msgs.PointCloud2
		p.Reader(peers.Message(t, "/out/map", cloud, wire(transport.StaticQoS()))).Into(&got)
		if !bytes.Equal(got.Data, cloud.Data) {
			t.Error("the cloud is not what was sent")
		}
	})
}

// 1080p at 30 Hz for a minute, reliable, to this node and to a plain Fast DDS program in the same run. Nothing may be lost; times and
// processor shares are reported, not judged.
func TestThroughput(t *testing.T) {
	long(t)
	const seconds = 60
	from, plain := peers.FastDDS(t, peers.Domain()), peers.FastDDS(t, peers.Domain())
	n := node(t, ros2.Config{Name: "eyes"})
	qos := transport.QoS{Reliability: transport.Reliable, Durability: transport.Volatile, Depth: 5}
	var count, sum, longest atomic.Int64
	s, err := n.Subscribe("/image", &msgs.Image{}, qos, func(r transport.Received) {
		way := time.Now().UnixNano() - r.Msg.(*msgs.Image).Header.Stamp.UnixNano()
		count.Add(1)
		sum.Add(way)
		longest.Store(max(longest.Load(), way))
	})
	if err != nil {
		t.Fatal(err)
	}
	image := image(5)
	counter := plain.Counter(peers.Message(t, "/image", image, wire(qos)))
	w := from.Writer(peers.Message(t, "/image", image, wire(qos)))
	w.Matched(2)
	counter.Matched(1)
	eventually(t, "matched", func() bool { return s.Stats().Peers == 1 })
	before, plainBefore := cpu(t), plain.CPU()
	frames := 30 * seconds
	w.Stream(image, frames, time.Second/30)
	start := time.Now()
	for plainCount := (peers.Count{}); time.Since(start) < seconds*time.Second+peers.Patience; time.Sleep(100 * time.Millisecond) {
		if plainCount = counter.Count(); plainCount.Samples == frames && count.Load() == int64(frames) {
			break
		}
	}
	took := time.Since(start)
	share := func(used time.Duration) float64 { return 100 * used.Seconds() / took.Seconds() }
	used, plainUsed, c, got := cpu(t)-before, plain.CPU()-plainBefore, counter.Count(), count.Load()
	t.Logf("%d images in %.1f s: this node (decoded) %d, mean %.1f ms, longest %.1f ms, %.0f%% of a core; plain Fast DDS %d, mean %.1f ms, longest %.1f ms, %.0f%% of a core",
		frames, took.Seconds(), got, float64(sum.Load())/float64(max(1, got))/1e6, float64(longest.Load())/1e6, share(used),
		c.Samples, c.Mean.Seconds()*1e3, c.Max.Seconds()*1e3, share(plainUsed))
	if lost := int64(frames) - got; lost != 0 && c.Samples == frames {
		t.Errorf("%d images of %d were lost here, none in the plain program; %+v", lost, frames, s.Stats())
	} else if lost != 0 {
		t.Skipf("this machine is too slow for 180 MB/s to two readers: %d images lost here, %d in the plain program", lost, frames-c.Samples)
	}
}

// cpu is the processor time of this process.
func cpu(t *testing.T) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
