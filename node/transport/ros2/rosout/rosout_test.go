package rosout

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/mem"
)

// wire is a publisher that can be held up.
type wire struct {
	transport.Transport
	gate chan struct{} // nil: open
	fail error

	mu   sync.Mutex
	sent []msgs.Log
}

func (w *wire) Advertise(name string, sample msgs.Message, q transport.QoS) (transport.Publisher, error) {
	p, err := w.Transport.Advertise(name, sample, q)
	return &publisher{p, w}, err
}

type publisher struct {
	transport.Publisher
	w *wire
}

func (p *publisher) Publish(m msgs.Message) error {
	if p.w.gate != nil {
		<-p.w.gate
	}
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.w.fail != nil {
		return p.w.fail
	}
	p.w.sent = append(p.w.sent, *m.(*msgs.Log))
	return p.Publisher.Publish(m)
}

func newWire(t *testing.T) (*wire, *mem.Graph) {
	t.Helper()
	g := mem.NewGraph(mem.StrictQoS())
	g.SetTime(7_000_000_000)
	node, err := g.Node("/ns/eyes", nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { node.Close() })
	return &wire{Transport: node}, g
}

func TestLevelsAndFields(t *testing.T) {
	node, g := newWire(t)
	w, err := New(node)
	if err != nil {
		t.Fatal(err)
	}
	var people bytes.Buffer
	log := Tee(zerolog.New(nil).Level(zerolog.DebugLevel).With().Timestamp().Logger(), &people, w)
	log.Trace().Msg("below the level")
	log.Debug().Msg("d")
	log.Info().Int("frames", 3).Str("a", "b c").Err(errors.New("why")).Msg("i")
	log.Warn().Caller().Msg("w")
	log.Error().Msg("e")
	log.WithLevel(zerolog.FatalLevel).Msg("f")
	log.Log().Msg("no level")
	log.Info().Str("long", strings.Repeat("é", maxLine)).Bytes("bad", []byte{0, 0xff}).Send()
	_, _ = w.Write([]byte(`{"level":"warn","message":"by its JSON"}`))
	_, _ = w.Write([]byte("not JSON\x00\xff\n"))
	w.Close()
	log.Info().Msg("after the end")
	want := []struct {
		level uint8
		msg   string
	}{{10, "d"}, {20, "i a=b c error=why frames=3"}, {30, "w"}, {40, "e"}, {50, "f"}, {20, "no level"}, {20, ""}, {30, "by its JSON"}, {20, "not JSON"}}
	if len(node.sent) != len(want) {
		t.Fatalf("%d lines: %+v", len(node.sent), node.sent)
	}
	for i, m := range node.sent {
		if m.Level != want[i].level || want[i].msg != "" && m.Msg != want[i].msg || m.Name != "ns.eyes" || m.Stamp.Sec != 7 {
			t.Errorf("%+v, expected %+v", m, want[i])
		}
		if _, err := msgs.CDR.Marshal(&m); err != nil {
			t.Error(err)
		}
	}
	if m := node.sent[2]; m.File != "rosout_test.go" || m.Line == 0 {
		t.Errorf("caller: %+v", m)
	}
	if n := len(node.sent[6].Msg); n > maxLine+3 || n < maxLine {
		t.Errorf("a long line has %d bytes", n)
	}
	if n := strings.Count(people.String(), "\n"); n != 8 || w.Dropped() != 0 {
		t.Errorf("people read %d lines, %d dropped", n, w.Dropped())
	}
	_ = g
}

func TestLateListener(t *testing.T) {
	node, g := newWire(t)
	w, err := New(node)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	_, _ = w.Write([]byte(`{"level":"info","message":"early"}`))
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(time.Millisecond) {
		node.mu.Lock()
		n := len(node.sent)
		node.mu.Unlock()
		if n == 1 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing was sent")
		}
	}
	peer, err := g.Node("/peer", nil)
	if err != nil {
		t.Fatal(err)
	}
	got := ""
	if _, err := peer.Subscribe("/rosout", &msgs.Log{}, transport.QoS{Reliability: transport.Reliable, Durability: transport.TransientLocal, Depth: 1000},
		func(r transport.Received) { got = r.Msg.(*msgs.Log).Msg }); err != nil {
		t.Fatal(err)
	}
	if got != "early" {
		t.Errorf("a late listener got %q", got)
	}
}

// A wire that is held up costs lines, not memory and not the caller's time.
func TestFullQueue(t *testing.T) {
	node, _ := newWire(t)
	node.gate = make(chan struct{})
	w, err := New(node)
	if err != nil {
		t.Fatal(err)
	}
	log := zerolog.New(w)
	const lines = queueLength + 100
	for i := range lines {
		log.Info().Int("i", i).Msg("x")
	}
	if d := w.Dropped(); d < lines-queueLength-1 || d > lines-queueLength {
		t.Errorf("%d dropped of %d with room for %d", d, lines, queueLength)
	}
	close(node.gate)
	w.Close()
	last := node.sent[len(node.sent)-1]
	if want := fmt.Sprintf("%d log messages were not published", w.Dropped()); last.Msg != want || last.Level != msgs.LogWarn {
		t.Errorf("%+v, expected %q", last, want)
	}
	if uint64(len(node.sent)-1)+w.Dropped() != lines {
		t.Errorf("%d sent and %d dropped of %d", len(node.sent)-1, w.Dropped(), lines)
	}
}

func TestFailingWire(t *testing.T) {
	node, _ := newWire(t)
	node.fail = errors.New("no")
	w, err := New(node)
	if err != nil {
		t.Fatal(err)
	}
	log := zerolog.New(w)
	log.Info().Msg("a")
	log.Info().Msg("b")
	w.Close()
	if w.Dropped() != 2 || len(node.sent) != 0 {
		t.Errorf("%d dropped, %d sent", w.Dropped(), len(node.sent))
	}
	if _, err := New(nil); err == nil {
		t.Error("no transport")
	}
}

func TestParseLevel(t *testing.T) {
	for arg, want := range map[string]struct {
		level zerolog.Level
		own   bool
	}{"debug": {zerolog.DebugLevel, true}, "WARN": {zerolog.WarnLevel, true}, "rcl:=error": {zerolog.ErrorLevel, false}, "ns.eyes:=fatal": {zerolog.FatalLevel, true}, "info": {zerolog.InfoLevel, true}} {
		if l, own, err := ParseLevel(arg, "/ns/eyes"); err != nil || l != want.level || own != want.own {
			t.Errorf("%s: %v %v %v", arg, l, own, err)
		}
	}
	if _, _, err := ParseLevel("loud", "/ns/eyes"); err == nil || !strings.Contains(err.Error(), "expected debug") {
		t.Errorf("%v", err)
	}
}

func FuzzMessage(f *testing.F) {
	f.Add([]byte(`{"level":"warn","message":"m","caller":"a/b.go:12","x":{"y":[1,2]}}`))
	f.Add([]byte(`{"caller":":","message":3}`))
	f.Add([]byte("\x00"))
	f.Fuzz(func(t *testing.T, line []byte) {
		m := message(zerolog.NoLevel, line)
		if len(m.Msg) > maxLine+3 || m.Level == 0 {
			t.Fatalf("%d bytes at level %d", len(m.Msg), m.Level)
		}
		if _, err := msgs.CDR.Marshal(m); err != nil {
			t.Fatal(err)
		}
	})
}
