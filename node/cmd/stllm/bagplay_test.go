package main

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/mem"
)

func TestPlay(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.mcap")
	w, err := bags.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	const begin = int64(1_700_000_000_000_000_000)
	add := func(c bags.Connection) *bags.Connection {
		added, err := w.Add(c)
		if err != nil {
			t.Fatal(err)
		}
		return added
	}
	conn := add(bags.Connection{Topic: "/chat", Type: "std_msgs/String", Encoding: msgs.CDR})
	latched := add(bags.Connection{Topic: "/map_name", Type: "std_msgs/String", Encoding: msgs.CDR, Latched: true})
	other := add(bags.Connection{Topic: "/strange", Type: "strange_msgs/Thing", Encoding: msgs.CDR, Definition: "int32 x\n", DefinitionFormat: "ros2msg"})
	var want []string
	for i, text := range []string{"kitchen", "a", "b", "c"} {
		c := conn
		if i == 0 {
			c = latched
		}
		if err := bags.WriteMessage(w, c, begin+int64(i)*20e6, &msgs.String{Data: text}); err != nil {
			t.Fatal(err)
		}
		want = append(want, c.Topic+" "+text)
	}
	if err := w.Write(other, begin+1, []byte{0, 1, 0, 0, 7, 0, 0, 0}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	bag, err := bags.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer bag.Close()

	g := mem.NewGraph(mem.WallTime())
	node, err := g.Node("/player", nil)
	if err != nil {
		t.Fatal(err)
	}
	hearer, err := g.Node("/hearer", nil)
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var got []string
	var clock []int64
	listen := func(topic string, sample msgs.Message, qos transport.QoS) {
		if _, err := hearer.Subscribe(topic, sample, qos, func(r transport.Received) {
			mu.Lock()
			defer mu.Unlock()
			switch m := r.Msg.(type) {
			case *msgs.String:
				got = append(got, topic+" "+m.Data)
			case *msgs.Clock:
				clock = append(clock, m.Clock.UnixNano())
			}
		}); err != nil {
			t.Fatal(err)
		}
	}
	var said strings.Builder
	p, err := newPlayer(node, bag, playFlags{rate: 1, clock: true, remaps: []string{"/chat:=/a", "map_name:=/b", "/clock:=/c", "/chatt:=/d"}}, zerolog.New(&said))
	if err != nil {
		t.Fatal(err)
	}
	listen("/chat", &msgs.String{}, transport.DefaultQoS())
	listen("/map_name", &msgs.String{}, transport.StaticQoS()) // hears it only if it is offered as transient local
	listen("/clock", &msgs.Clock{}, transport.DefaultQoS())
	n, err := p.play(t.Context())
	if err != nil || n != 4 {
		t.Fatalf("%d messages, %v", n, err)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, expected %q", got, want)
	}
	if !slices.IsSorted(clock) || len(clock) < 4 || clock[0] != begin || clock[len(clock)-1] != begin+60e6 {
		t.Errorf("clock %v, expected from %d to %d", clock, begin, begin+int64(60e6))
	}
	if n := strings.Count(said.String(), ":=/"); n != 1 || !strings.Contains(said.String(), "/chatt:=/d") {
		t.Errorf("one remap is of no topic, said of %d: %s", n, said.String())
	}
	if !strings.Contains(said.String(), "strange_msgs/Thing") {
		t.Errorf("the topic that is left out is not named: %s", said.String())
	}
	if _, err := newPlayer(node, bag, playFlags{topics: []string{"/strange"}}, zerolog.Nop()); err == nil {
		t.Error("nothing to play, and no error")
	}
	if _, err := newPlayer(node, bag, playFlags{topics: []string{"/absent"}}, zerolog.Nop()); err == nil || !strings.Contains(err.Error(), "/absent") {
		t.Errorf("a topic that the bag does not hold was asked for: %v", err)
	}
	if _, err := newPlayer(node, bag, playFlags{need: []string{"/none"}}, zerolog.Nop()); err == nil {
		t.Error("a needed topic is not there, and no error")
	}
}

func TestOfferedQuality(t *testing.T) {
	for profile, want := range map[string]transport.QoS{
		"": transport.DefaultQoS(),
		"- history: keep_last\n  depth: 100\n  reliability: reliable\n  durability: volatile\n": {Reliability: transport.Reliable, Durability: transport.Volatile, Depth: 100},
		"- history: 1\n  depth: 5\n  reliability: 2\n  durability: 2\n":                         {Reliability: transport.BestEffort, Durability: transport.Volatile, Depth: 10},
		"- depth: 99999999\n": transport.DefaultQoS(),
	} {
		if got := offered(profile, false); got != want {
			t.Errorf("%q: %+v, expected %+v", profile, got, want)
		}
	}
	if got := offered("- depth: 1\n", true); got != transport.StaticQoS() {
		t.Errorf("latched: %+v", got)
	}
}
