//go:build fastdds

package dds

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"
)

// domain keeps tests of one run apart from others on the machine.
func config(t *testing.T, name string) Config {
	t.Helper()
	return Config{Domain: 101, Name: name, UserData: "enclave=/;", Interfaces: []string{"127.0.0.1"}, Peers: []string{"127.0.0.1"}}
}

func participant(t *testing.T, name string, discovered func(Discovery)) *Participant {
	t.Helper()
	p, err := NewParticipant(config(t, name), discovered)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

func TestLateReaderGetsWhatWasSaid(t *testing.T) {
	a := participant(t, "a", func(Discovery) {})
	seen := make(chan Discovery, 100)
	b := participant(t, "b", func(d Discovery) {
		select {
		case seen <- d:
		default:
		}
	})
	qos := QoS{Reliable: true, TransientLocal: true, Depth: 1, UserData: "typehash=RIHS01_00;"}
	w, err := a.NewWriter("rt/big", "test::msg::dds_::Bytes_", qos, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	data := make([]byte, 3<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	copy(data, []byte{0, 1, 0, 0})
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	got := make(chan Sample, 1)
	r, err := b.NewReader("rt/big", "test::msg::dds_::Bytes_", qos, nil, func(s Sample) { got <- s })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	select {
	case s := <-got:
		if !bytes.Equal(s.Data, data) {
			t.Errorf("%d bytes came, %d were sent, or they differ", len(s.Data), len(data))
		}
		if s.Writer != w.GUID() || s.Vendor != VendorFastDDS {
			t.Errorf("writer %v vendor %v, expected %v %v", s.Writer, s.Vendor, w.GUID(), VendorFastDDS)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the late reader got nothing within 20 s")
	}
	deadline := time.After(10 * time.Second)
	for {
		select {
		case d := <-seen:
			if d.Kind == KindWriter && d.Topic == "rt/big" {
				if d.UserData != qos.UserData || d.Type != "test::msg::dds_::Bytes_" || !d.Reliable || !d.TransientLocal {
					t.Errorf("discovered %+v", d)
				}
				return
			}
		case <-deadline:
			t.Fatal("the writer was not discovered")
		}
	}
}

func TestRelatedIdentityAndIncompatibleQoS(t *testing.T) {
	a, b := participant(t, "a", func(Discovery) {}), participant(t, "b", func(Discovery) {})
	status := make(chan Status, 10)
	w, err := a.NewWriter("rr/x", "T_", QoS{Depth: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r, err := b.NewReader("rr/x", "T_", QoS{Reliable: true, Depth: 1}, func(s Status) { status <- s }, func(Sample) {})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	select {
	case s := <-status:
		if s.Kind != Incompatible || PolicyName(s.Policy) != "reliability" {
			t.Errorf("status %+v (%s), expected incompatible reliability", s, PolicyName(s.Policy))
		}
	case <-time.After(20 * time.Second):
		t.Fatal("no word of the incompatible reliability within 20 s")
	}
	got := make(chan Sample, 1)
	r2, err := b.NewReader("rr/y", "T_", QoS{Reliable: true, Depth: 1}, nil, func(s Sample) { got <- s })
	if err != nil {
		t.Fatal(err)
	}
	defer r2.Close()
	w2, err := a.NewWriter("rr/y", "T_", QoS{Reliable: true, Depth: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w2.Close()
	for end := time.Now().Add(20 * time.Second); !w2.Matched(r2.GUID()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not matched within 20 s")
		}
	}
	related := GUID{1, 16, 3, 15: 9}
	if err := w2.WriteRelated([]byte{0, 1, 0, 0, 7}, related, 1<<33+5); err != nil {
		t.Fatal(err)
	}
	select {
	case s := <-got:
		if s.Related != related || s.RelatedSequence != 1<<33+5 {
			t.Errorf("related identity %v %d, expected %v %d", s.Related, s.RelatedSequence, related, int64(1<<33+5))
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
	}
}

func TestConfigIsRefused(t *testing.T) {
	for _, c := range []Config{{Domain: 233}, {Domain: -1}, {Peers: []string{"nonsense"}}} {
		if p, err := NewParticipant(c, func(Discovery) {}); err == nil {
			p.Close()
			t.Errorf("%+v was accepted", c)
		}
	}
}

// A reader's first acknowledgement is told before anything is written, to the writer that it is for.
func TestSettled(t *testing.T) {
	a, b := participant(t, "a", func(Discovery) {}), participant(t, "b", func(Discovery) {})
	qos := QoS{Reliable: true, Depth: 1, Heartbeats: true}
	w, err := a.NewWriter("rr/s", "T_", qos, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	other, err := a.NewWriter("rr/other", "T_", qos, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	r, err := b.NewReader("rr/s", "T_", QoS{Reliable: true, Depth: 1}, nil, func(Sample) {})
	if err != nil {
		t.Fatal(err)
	}
	reader := r.GUID()
	wait := func(what string, done func() bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); !done(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("%s: not within 20 s", what)
			}
		}
	}
	wait("acknowledged", func() bool { return w.Settled(reader) })
	if !w.Matched(reader) || other.Settled(reader) || w.Settled(GUID{1}) {
		t.Errorf("matched %t, another writer's %t, another reader %t", w.Matched(reader), other.Settled(reader), w.Settled(GUID{1}))
	}
	r.Close()
	wait("forgotten", func() bool { return !w.Settled(reader) })
}

// A heartbeat is sent by a writer that can, by no other; it goes while others like it come and leave, and to readers of any liveliness.
func TestHeartbeats(t *testing.T) {
	a, b := participant(t, "a", func(Discovery) {}), participant(t, "b", func(Discovery) {})
	got := make(chan Sample, 1)
	r, err := b.NewReader("rr/z", "T_", QoS{Reliable: true, Depth: 1}, nil, func(s Sample) { got <- s })
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	qos := QoS{Reliable: true, Depth: 1, Heartbeats: true}
	w, err := a.NewWriter("rr/z", "T_", qos, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	silent, err := a.NewWriter("rr/silent", "T_", QoS{Reliable: true, Depth: 1}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	if silent.Heartbeat() == nil {
		t.Error("a writer without heartbeats in its QoS sent one")
	}
	done := make(chan error, 1)
	go func() {
		for range 50 {
			other, err := a.NewWriter("rr/other", "T_", qos, nil)
			if err != nil {
				done <- err
				return
			}
			err = other.Heartbeat()
			other.Close()
			if err != nil {
				done <- err
				return
			}
		}
		close(done)
	}()
	for coming := true; coming; {
		select {
		case err := <-done:
			if err != nil {
				t.Fatal(err)
			}
			coming = false
		default:
			if err := w.Heartbeat(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for end := time.Now().Add(20 * time.Second); !w.Matched(r.GUID()); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not matched within 20 s")
		}
	}
	data := []byte{0, 1, 0, 0, 7, 0, 0, 0}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Heartbeat(); err != nil {
		t.Error(err)
	}
	select {
	case s := <-got:
		if !bytes.Equal(s.Data, data) {
			t.Errorf("%x", s.Data)
		}
	case <-time.After(20 * time.Second):
		t.Fatal("nothing came")
	}
}
