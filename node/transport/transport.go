// Package transport is the seam between the robot and a ROS graph. The robot knows only this package; ros1, ros2 and mem
// implement it; a transport knows nothing of the model.
package transport

import (
	"context"
	"fmt"
	"time"

	"github.com/stllm/stllm/msgs"
)

// Transport is one node on one graph. Callbacks come from the transport's own goroutines and must hand over at once;
// messages given to them belong to the callee and are not reused.
type Transport interface {
	// Name is the fully qualified node name, for example "/stllm".
	Name() string
	// Resolve expands a graph name ("~x", "x", "/x") with the node's namespace and remaps.
	Resolve(name string) (string, error)
	// Subscribe delivers decoded messages of one type. The sample value's type says which.
	Subscribe(topic string, sample msgs.Message, qos QoS, deliver func(Received)) (Subscription, error)
	// Advertise announces a topic. Publish never blocks on a slow subscriber; what had to be dropped is counted.
	Advertise(topic string, sample msgs.Message, qos QoS) (Publisher, error)
	// Serve answers a service. Each call runs in its own goroutine; ctx ends when the transport closes or the caller is
	// known to have left.
	Serve(service string, srv Service) (Closer, error)
	// ServeAction answers an action. Transports without actions (ROS 1 here offers actionlib-free nodes) return
	// ErrUnsupported.
	ServeAction(action string, act Action) (Closer, error)
	// Clock is the graph's time: wall, or simulated.
	Clock() Clock
	// Events reports what went wrong on the wire (type mismatch, incompatible QoS, lost messages, lost master): the
	// channel is bounded, repeated events are counted rather than queued.
	Events() <-chan Event
	Close() error
}

// Closer ends one endpoint.
type Closer interface{ Close() error }

// Received is a decoded message with what the transport knows about it.
type Received struct {
	Msg      msgs.Message
	Received int64  // ns of the transport's clock at arrival (bag replay: log time)
	Source   string // publishing node where known
}

// Subscription counts what it did.
type Subscription interface {
	Closer
	Stats() EndpointStats
}

// Publisher publishes messages of the type it was advertised with.
type Publisher interface {
	Closer
	Publish(m msgs.Message) error
	Stats() EndpointStats
}

// EndpointStats are counters since the endpoint was made.
type EndpointStats struct {
	Topic    string
	Type     string
	Peers    int
	Messages uint64
	Bytes    uint64
	Dropped  uint64 // by a full queue
	Errors   uint64 // undecodable, mismatched
}

// Service is a request/response pair and its handler.
type Service struct {
	Type    string // "stllm_msgs/Ask"
	Request func() msgs.Message
	Handle  func(ctx context.Context, req msgs.Message) (msgs.Message, error)
}

// Action is a goal/feedback/result triple and its handler.
type Action struct {
	Type   string // "stllm_msgs/Ask"
	Goal   func() msgs.Message
	Result func() msgs.Message
	// Accept decides on a goal at once.
	Accept func(goal msgs.Message) error
	// Execute runs a goal; feedback may be called any number of times; ctx ends when the goal is cancelled.
	Execute func(ctx context.Context, goal msgs.Message, feedback func(msgs.Message)) (result msgs.Message, err error)
	// MaxConcurrent goals at a time; more are queued when Queue > 0, else rejected.
	MaxConcurrent, Queue int
	// ResultTimeout is how long a result is kept for a late asker.
	ResultTimeout time.Duration
}

// Clock is the graph's time in ns. Jumps delivers backward jumps of simulated time (a bag that loops), and forward ones of
// more than a minute.
type Clock interface {
	Now() int64
	Simulated() bool
	Jumps() <-chan Jump
}

// Jump is a discontinuity of the clock.
type Jump struct{ From, To int64 }

// Event is something that an operator should know about the wire.
type Event struct {
	Kind    EventKind
	Topic   string
	Message string // one sentence that says what was found, what was expected and what to do
	Count   uint64 // how often since the last report
}

// EventKind classifies events for diagnostics.
type EventKind string

// The kinds of events.
const (
	EventTypeMismatch    EventKind = "type_mismatch"
	EventIncompatibleQoS EventKind = "incompatible_qos"
	EventDecode          EventKind = "decode_error"
	EventLost            EventKind = "message_lost"
	EventPeerLost        EventKind = "peer_lost"
	EventMasterLost      EventKind = "master_lost"
	EventMasterBack      EventKind = "master_back"
	EventNameTaken       EventKind = "name_taken" // another node has this node's name
)

// Reliability, Durability and History carry the ROS 2 names; ROS 1 uses Depth and TransientLocal (latched) alone.
type (
	Reliability string
	Durability  string
)

// QoS policy names as ROS 2 writes them.
const (
	Reliable       Reliability = "reliable"
	BestEffort     Reliability = "best_effort"
	Volatile       Durability  = "volatile"
	TransientLocal Durability  = "transient_local"
)

// QoS is the quality of service of one endpoint. History is always keep-last.
type QoS struct {
	Reliability Reliability
	Durability  Durability
	Depth       int
}

// Validate names the field that is wrong.
func (q QoS) Validate() error {
	switch {
	case q.Reliability != Reliable && q.Reliability != BestEffort:
		return fmt.Errorf("qos reliability is %q, expected %q or %q", q.Reliability, Reliable, BestEffort)
	case q.Durability != Volatile && q.Durability != TransientLocal:
		return fmt.Errorf("qos durability is %q, expected %q or %q", q.Durability, Volatile, TransientLocal)
	case q.Depth < 1 || q.Depth > 10000:
		return fmt.Errorf("qos depth is %d, expected 1 to 10000", q.Depth)
	}
	return nil
}

// SensorQoS suits camera streams; StaticQoS latched data; DefaultQoS the rest.
func SensorQoS() QoS  { return QoS{Reliability: BestEffort, Durability: Volatile, Depth: 5} }
func StaticQoS() QoS  { return QoS{Reliability: Reliable, Durability: TransientLocal, Depth: 1} }
func DefaultQoS() QoS { return QoS{Reliability: Reliable, Durability: Volatile, Depth: 10} }

// ErrUnsupported says that a transport does not offer something at all.
type ErrUnsupported struct{ Transport, What string }

func (e *ErrUnsupported) Error() string {
	return fmt.Sprintf("transport %s does not offer %s", e.Transport, e.What)
}
