package main

import (
	"bytes"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/testdata"
	"github.com/stllm/stllm/node/transport/ros2/dds"
	foreign "github.com/stllm/stllm/node/transport/ros2/peers"
)

// A bag is played to a foreign subscriber, who gets every message as it was recorded, and the time.
func TestPlayToForeignPeer(t *testing.T) {
	if !dds.Available {
		t.Skip("this test binary was built without Fast DDS (-tags fastdds)")
	}
	path := testdata.Data(t, "kitchen_a_mcap")
	const domain = 96 // not that of another test
	t.Setenv("ROS_DOMAIN_ID", strconv.Itoa(domain))
	t.Setenv("ROS_LOCALHOST_ONLY", "1")
	t.Setenv("ROS_DISTRO", "")
	bag, err := bags.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer bag.Close()
	want := map[string][]msgs.Message{}
	it := bag.Messages(bags.Filter{})
	defer it.Close()
	for {
		m, err := it.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		msg, _ := msgs.New(m.Connection.Type)
		if err := m.Connection.Encoding.Unmarshal(m.Data, msg); err != nil {
			t.Fatal(err)
		}
		want[m.Connection.Topic] = append(want[m.Connection.Topic], msg)
	}
	p := foreign.FastDDS(t, domain)
	readers := map[string]*foreign.End{}
	args := []string{"bag", "play", path, "--clock", "--rate", "4"}
	for topic, list := range want {
		static := topic == "/tf_static" || topic == "/map/points"
		readers[topic] = p.Reader(foreign.Message(t, topic, list[0], dds.QoS{Reliable: static, TransientLocal: static, Depth: 1000}))
		args = append(args, "--need", topic)
	}
	clock := p.Reader(foreign.Message(t, "/clock", &msgs.Clock{}, dds.QoS{Reliable: true, Depth: 1000}))
	var out, log bytes.Buffer
	if code := run(t.Context(), args, strings.NewReader(""), &out, &log); code != exitOK {
		t.Fatalf("bag play ended with %d: %s", code, log.String())
	}
	if !strings.Contains(out.String(), "played 202 messages") {
		t.Errorf("it said %q", out.String())
	}
	for topic, list := range want {
		for i, m := range list {
			encoded, err := msgs.CDR.Marshal(m)
			if err != nil {
				t.Fatal(err)
			}
			if got := readers[topic].Next().Data; !bytes.Equal(bytes.TrimRight(got, "\x00"), bytes.TrimRight(encoded, "\x00")) {
				t.Fatalf("message %d of %s differs from the recorded one (%d bytes, expected %d)", i, topic, len(got), len(encoded))
			}
		}
	}
	var before int64
	for n := clock.Waiting(); n > 0; n-- {
		var c msgs.Clock
		clock.Into(&c)
		if now := c.Clock.UnixNano(); now < before {
			t.Fatalf("the clock went back from %d to %d", before, now)
		} else {
			before = now
		}
	}
	if last := bag.Info().Last; before < last-1e9 || before > last {
		t.Errorf("the clock ended at %d, the bag ends at %d", before, last)
	}
}
