package robot

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
)

// inputPeers is how many of the robot's inputs the peer's publishers see.
func (g *rig) inputPeers() (n int) {
	for topic, p := range g.pubs {
		if topic != "/stllm/question_text" {
			n += p.Stats().Peers
		}
	}
	return n
}

func TestActivity(t *testing.T) {
	g := newRig(t, &fakeModel{}, func(c *Config) { c.Inactive = true })
	g.drive(5)
	st := g.status()
	if st.Images != 0 || st.Maps != 0 || st.ModelState != "inactive" || g.inputPeers() != 0 {
		t.Errorf("an inactive robot took %d images and %d maps, %d connections", st.Images, st.Maps, g.inputPeers())
	}
	if a := g.ask("?"); a.ErrorCode != msgs.AnswerErrorModelNotReady {
		t.Errorf("%+v", a)
	}
	g.publish("/stllm/question_text", &msgs.String{Data: "by topic?"}) // is told so, too
	g.until("a refusal by topic", func() bool { return len(g.texts) == 2 && strings.Contains(g.texts[1], "not active") })
	for range 3 {
		for range 2 { // twice is as once
			if err := g.robot.SetActive(g.context(), true); err != nil {
				t.Fatal(err)
			}
		}
		g.drive(5)
		if a := g.ask("?"); a.ErrorCode != 0 || a.Frames != 4 {
			t.Errorf("active: %+v", a)
		}
		for range 2 {
			if err := g.robot.SetActive(g.context(), false); err != nil {
				t.Fatal(err)
			}
		}
		before := g.status()
		g.drive(5)
		if after := g.status(); after.Images != before.Images || after.Maps != before.Maps || g.inputPeers() != 0 {
			t.Errorf("a resting robot listens: %d images, %d connections", after.Images-before.Images, g.inputPeers())
		}
		if _, err := g.robot.ClearWindow(g.context()); err != nil {
			t.Fatal(err)
		}
		g.graph.SetTime(t0)
	}
	g.addUp()
}

// Deactivation ends what is asked, and Quiet says when the model may go.
func TestDeactivateWhileAnswering(t *testing.T) {
	m := &fakeModel{slowAnswer: make(chan struct{}), started: make(chan struct{}, 1)}
	g := newRig(t, m, nil)
	g.drive(5)
	answers := make(chan *msgs.Answer, 2)
	go func() { answers <- g.ask("first?") }()
	<-m.started
	go func() { answers <- g.ask("second?") }()
	for g.status().Queued != 1 {
		time.Sleep(time.Millisecond)
	}
	g.image(t0 + second) // waits for its transform
	g.settle()
	if err := g.robot.SetActive(g.context(), false); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if a := <-answers; a.ErrorCode != msgs.AnswerErrorModelNotReady || !strings.Contains(a.ErrorMessage, "not active") {
			t.Errorf("%+v", a)
		}
	}
	if err := g.robot.SetModel(g.context(), nil, nil); err != nil {
		t.Fatal(err)
	}
	if err := g.robot.Quiet(g.context()); err != nil {
		t.Fatal(err)
	}
	if st := g.status(); st.Answering || st.Encoding != 0 || st.MapWorking || st.Drops[CauseModelNotReady] != 1 {
		t.Errorf("%+v", st)
	}
	g.addUp()
}

func TestQuietWaits(t *testing.T) {
	m := &fakeModel{slowMap: make(chan struct{})}
	g := newRig(t, m, nil)
	g.scene(50)
	g.until("the map worker", func() bool { return m.maps.Load() == 1 })
	if err := g.robot.SetActive(g.context(), false); err != nil {
		t.Fatal(err)
	}
	quiet := make(chan error, 1)
	go func() { quiet <- g.robot.Quiet(g.context()) }()
	select {
	case err := <-quiet:
		t.Fatalf("the model works, Quiet says %v", err)
	case <-time.After(20 * time.Millisecond):
	}
	close(m.slowMap)
	if err := <-quiet; err != nil {
		t.Fatal(err)
	}
}

// deaf is a transport that refuses subscriptions from a moment on.
type deaf struct {
	transport.Transport
	now bool
}

func (d *deaf) Subscribe(name string, sample msgs.Message, q transport.QoS, f func(transport.Received)) (transport.Subscription, error) {
	if d.now && name == "/cam/image_raw" {
		return nil, errors.New("no more")
	}
	return d.Transport.Subscribe(name, sample, q, f)
}

func TestActivationFails(t *testing.T) {
	var d *deaf
	g := newRig(t, &fakeModel{}, func(c *Config) {
		d = &deaf{Transport: c.Transport}
		c.Transport, c.Inactive = d, true
	})
	d.now = true
	if err := g.robot.SetActive(g.context(), true); err == nil || !strings.Contains(err.Error(), "no more") {
		t.Errorf("%v", err)
	}
	g.scene(10)
	if st := g.status(); st.ModelState != "inactive" || g.inputPeers() != 0 {
		t.Errorf("%s with %d connections after a failed activation", st.ModelState, g.inputPeers())
	}
	d.now = false
	if err := g.robot.SetActive(g.context(), true); err != nil {
		t.Fatal(err)
	}
}
