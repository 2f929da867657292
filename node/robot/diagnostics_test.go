package robot

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
)

// lossy is a transport whose subscriptions say that they have lost messages, and that has trouble to report.
type lossy struct {
	transport.Transport
	events chan transport.Event
}

func (l lossy) Subscribe(topic string, sample msgs.Message, qos transport.QoS, deliver func(transport.Received)) (transport.Subscription, error) {
	s, err := l.Transport.Subscribe(topic, sample, qos, deliver)
	return lossySubscription{s}, err
}

func (l lossy) Events() <-chan transport.Event { return l.events }

type lossySubscription struct{ transport.Subscription }

func (s lossySubscription) Stats() transport.EndpointStats {
	st := s.Subscription.Stats()
	st.Dropped, st.Errors = 7, 3
	return st
}

// values of a status of the newest diagnostics that have it. The lock is held.
func (g *rig) values(name string) (values map[string]string, message string) {
	for _, d := range g.diag {
		for _, s := range d.Status {
			if s.Name != name {
				continue
			}
			values, message = map[string]string{}, s.Message
			for _, kv := range s.Values {
				values[kv.Key] = kv.Value
			}
		}
	}
	return values, message
}

// What the transport loses or cannot read, and what it says of others, stands in /diagnostics for as long as the node runs.
func TestDiagnosticsOfTheTransport(t *testing.T) {
	events := make(chan transport.Event, 1000)
	const incompatible = "/map: /slam offers best_effort volatile, this node wants reliable transient_local: incompatible reliability"
	for i := range 2 * maxTroubles {
		events <- transport.Event{Kind: transport.EventDecode, Topic: fmt.Sprint("/t", i), Message: "cut off", Count: 2}
		if i == 0 {
			events <- transport.Event{Kind: transport.EventIncompatibleQoS, Topic: "/map", Message: "another", Count: 1}
		}
	}
	events <- transport.Event{Kind: transport.EventIncompatibleQoS, Topic: "/map", Message: incompatible, Count: 1}
	g := newRig(t, &fakeModel{}, func(c *Config) {
		c.Transport = lossy{c.Transport, events}
		c.Params.DiagnosticsRate = 100
	})
	var values map[string]string
	g.until("the trouble is told", func() bool {
		var message string
		values, message = g.values("stllm: transport")
		return message != "" && message != incompatible && values["event: incompatible_qos"] == "2" // told once by then, and kept
	})
	for key, want := range map[string]string{
		"/tf dropped": "7", "/tf errors": "3", "event: decode_error": fmt.Sprint(4 * maxTroubles), "last incompatible_qos /map": incompatible,
		"last decode_error /t0": "cut off", fmt.Sprint("last decode_error /t", maxTroubles-2): "cut off", fmt.Sprint("last decode_error /t", maxTroubles-1): "",
	} {
		if values[key] != want {
			t.Errorf("%s is %q, expected %q", key, values[key], want)
		}
	}
}

// A publisher that is there and cannot be heard is told of where its messages are missed, not only when it was found.
func TestWhatDoesNotFitIsNamed(t *testing.T) {
	for _, c := range []struct {
		name, topic string
		kind        transport.EventKind
		send        func(g *rig)
		code        uint16
		status      string
	}{
		{"raw images", "/cam/image_raw", transport.EventIncompatibleQoS, func(*rig) {}, msgs.AnswerErrorEmptyWindow, "camera"},
		{"compressed images", "/cam/image_raw/compressed", transport.EventTypeMismatch, func(*rig) {}, msgs.AnswerErrorEmptyWindow, "camera"},
		{"camera_info", "/cam/camera_info", transport.EventIncompatibleQoS, func(g *rig) { g.image(t0) }, msgs.AnswerErrorNoCameraInfo, "camera"},
		{"map", "/stllm/map_points", transport.EventIncompatibleQoS, func(g *rig) { g.info(); g.tf(t0); g.image(t0) }, msgs.AnswerErrorNoMap, "map"},
	} {
		t.Run(c.name, func(t *testing.T) {
			const trouble = "offers best_effort, wants reliable"
			events := make(chan transport.Event, 1)
			events <- transport.Event{Kind: c.kind, Topic: c.topic, Message: trouble, Count: 1}
			g := newRig(t, &fakeModel{}, func(c *Config) {
				c.Transport = lossy{c.Transport, events}
				c.Params.DiagnosticsRate = 100
			})
			c.send(g)
			g.until("the status says it", func() bool {
				_, message := g.values("stllm: " + c.status)
				return strings.HasSuffix(message, trouble) && strings.Contains(message, "no ")
			})
			g.settle()
			if a := g.ask("?"); a.ErrorCode != c.code || !strings.HasSuffix(a.ErrorMessage, trouble) {
				t.Errorf("%d: %s", a.ErrorCode, a.ErrorMessage)
			}
		})
	}
}

// A bag that is played without its clock, or a live camera beside a simulated clock: the camera has not stopped, the clocks differ.
func TestClocksThatDiffer(t *testing.T) {
	for _, c := range []struct {
		name  string
		stamp int64  // of the image, when the clock is at t0
		says  string // "": the frame is used
	}{
		{"the node is ahead", t0 - 500*second, "stamps are 500.0 s behind this node's clock"},
		{"the camera is ahead", t0 + 86400*second, "stamps are 86400.0 s ahead of this node's clock"},
		{"a little", t0 - second, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := newRig(t, &fakeModel{}, func(c *Config) { c.Params.DiagnosticsRate = 100 })
			g.info()
			g.scene(50)
			g.tf(c.stamp)
			g.image(c.stamp)
			g.settle()
			a := g.ask("?")
			if c.says == "" {
				if a.ErrorCode != msgs.AnswerErrorNone {
					t.Errorf("%d: %s", a.ErrorCode, a.ErrorMessage)
				}
				return
			}
			if a.ErrorCode != msgs.AnswerErrorStaleCamera || !strings.Contains(a.ErrorMessage, c.says) {
				t.Errorf("%d: %s", a.ErrorCode, a.ErrorMessage)
			}
			g.until("the status says it", func() bool {
				_, message := g.values("stllm: camera")
				return strings.Contains(message, c.says)
			})
		})
	}
}
