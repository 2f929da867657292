// Package mem is a graph within the process: the transport of bag replay and of tests. Delivery is synchronous, in the
// publisher's goroutine, and time is set by hand, so that a run can be repeated exactly.
package mem

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/simclock"
)

// Graph joins nodes. It is safe for use by several goroutines.
type Graph struct {
	strict bool

	mu       sync.Mutex
	now      int64
	wall     bool
	nodes    []*Node
	topics   map[string]*topic
	services map[string]*server
	actions  map[string]*actionServer
}

type topic struct {
	pubs []*publisher
	subs []*subscription
}

// Option changes how a graph behaves.
type Option func(*Graph)

// WallTime makes the graph's clock the wall clock instead of one that is set by hand.
func WallTime() Option { return func(g *Graph) { g.wall = true } }

// StrictQoS matches publishers and subscribers by the rules of DDS; otherwise all match, as in ROS 1.
func StrictQoS() Option { return func(g *Graph) { g.strict = true } }

// NewGraph makes an empty graph whose clock stands at 0.
func NewGraph(options ...Option) *Graph {
	g := &Graph{topics: map[string]*topic{}, services: map[string]*server{}, actions: map[string]*actionServer{}}
	for _, o := range options {
		o(g)
	}
	return g
}

// SetTime sets the clock, ns. A jump as in [simclock.Jumped] is told to every node's Jumps.
func (g *Graph) SetTime(now int64) {
	g.mu.Lock()
	before := g.now
	g.now = now
	nodes := g.nodes[:len(g.nodes):len(g.nodes)]
	g.mu.Unlock()
	if !simclock.Jumped(before, now) {
		return
	}
	for _, n := range nodes {
		simclock.Tell(n.jumps, before, now)
	}
}

// time is the graph's time, ns.
func (g *Graph) time() int64 {
	if g.wall {
		return time.Now().UnixNano()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.now
}

func (g *Graph) topic(name string) *topic { // with the lock held
	t, ok := g.topics[name]
	if !ok {
		t = &topic{}
		g.topics[name] = t
	}
	return t
}

// Node joins the graph under a full name ("/stllm"). remaps take full names to full names; nil for none.
func (g *Graph) Node(name string, remaps map[string]string) (*Node, error) {
	if !strings.HasPrefix(name, "/") || strings.HasSuffix(name, "/") || strings.Contains(name, "//") {
		return nil, fmt.Errorf("node name is %q, expected a full name like /stllm", name)
	}
	n := &Node{graph: g, name: name, remaps: map[string]string{}, jumps: simclock.Jumps(), events: make(chan transport.Event, 64), done: make(chan struct{})}
	for from, to := range remaps {
		full, err := n.expand(from)
		if err != nil {
			return nil, err
		}
		if n.remaps[full], err = n.expand(to); err != nil {
			return nil, err
		}
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, other := range g.nodes {
		if other.name == name {
			return nil, fmt.Errorf("there is a node %q already", name)
		}
	}
	g.nodes = append(g.nodes, n)
	return n, nil
}

// Node implements [transport.Transport].
type Node struct {
	graph  *Graph
	name   string
	remaps map[string]string
	jumps  chan transport.Jump
	events chan transport.Event
	done   chan struct{}
	once   sync.Once

	mu      sync.Mutex
	closers []transport.Closer
}

var _ transport.Transport = (*Node)(nil)

// Name is the full node name.
func (n *Node) Name() string { return n.name }

func (n *Node) expand(name string) (string, error) {
	private, absolute := strings.HasPrefix(name, "~"), strings.HasPrefix(name, "/")
	rest := strings.Trim(strings.TrimPrefix(name, "~"), "/")
	if rest == "" || strings.ContainsAny(rest, "~ \n") || strings.Contains(rest, "//") {
		return "", fmt.Errorf("graph name is %q, expected letters, digits, _ and /", name)
	}
	switch {
	case private:
		return n.name + "/" + rest, nil
	case absolute:
		return "/" + rest, nil
	}
	return n.name[:strings.LastIndex(n.name, "/")+1] + rest, nil
}

// Resolve expands and remaps a graph name.
func (n *Node) Resolve(name string) (string, error) {
	full, err := n.expand(name)
	if err != nil {
		return "", err
	}
	if to, ok := n.remaps[full]; ok {
		return to, nil
	}
	return full, nil
}

// Clock is the graph's time.
func (n *Node) Clock() transport.Clock { return clock{n} }

// Events reports trouble: type mismatches, and with StrictQoS incompatible qualities.
func (n *Node) Events() <-chan transport.Event { return n.events }

func (n *Node) event(e transport.Event) {
	select {
	case n.events <- e:
	default:
	}
}

func (n *Node) own(c transport.Closer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.closers = append(n.closers, c)
}

// Close takes the node off the graph. Running service calls and goals see their context end.
func (n *Node) Close() error {
	n.once.Do(func() {
		close(n.done)
		n.mu.Lock()
		closers := n.closers
		n.closers = nil
		n.mu.Unlock()
		for _, c := range closers {
			_ = c.Close() // ours never fail
		}
		g := n.graph
		g.mu.Lock()
		defer g.mu.Unlock()
		for i, other := range g.nodes {
			if other == n {
				g.nodes = append(g.nodes[:i:i], g.nodes[i+1:]...)
				break
			}
		}
	})
	return nil
}

// clock is the graph's clock as one node sees it.
type clock struct{ n *Node }

func (c clock) Now() int64                   { return c.n.graph.time() }
func (c clock) Simulated() bool              { return !c.n.graph.wall }
func (c clock) Jumps() <-chan transport.Jump { return c.n.jumps }

// checkSample refuses a nil message, which has no type.
func checkSample(what, name string, m msgs.Message) error {
	if m == nil || m.ROSType() == "" {
		return fmt.Errorf("%s %q: the sample message has no type", what, name)
	}
	return nil
}
