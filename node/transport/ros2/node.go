// Package ros2 is a ROS 2 node on a DDS participant of its own, without a ROS installation: names, types, services, actions
// and graph information as rmw writes them (../../../shared/docs/ros.md has what was measured).
package ros2

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2/dds"
	"github.com/stllm/stllm/node/transport/simclock"
)

// Node implements [transport.Transport] for ROS 2.
//
// Fast DDS calls back while it holds locks of its own, and takes them when endpoints are made. So no lock of this package is
// held while endpoints are made or closed, and callbacks do nothing but take notes.
type Node struct {
	cfg         Config
	log         zerolog.Logger
	names       *resolver
	participant *dds.Participant
	gid         dds.GUID
	graph       *graph
	clock       *simclock.Clock
	events      *events
	ctx         context.Context
	cancel      context.CancelFunc
	once        sync.Once
	life        sync.RWMutex // held while endpoints are made: the participant must not go meanwhile

	mu      sync.Mutex
	closers map[closer]struct{}
	servers map[*server]struct{}
	readers []dds.GUID
	writers []dds.GUID
	topics  map[string]local  // by wire name: what discovered endpoints are compared with
	twins   map[dds.GUID]bool // participants with a node of this name, which has been told

	announcing sync.Mutex // one announcement after the other
	info       *dds.Writer
	infoReader *dds.Reader
}

// local is what this node has on a topic.
type local struct {
	typ           string // wire name
	hash          string
	reads, writes int
}

// closer is an endpoint that ends with the node.
type closer interface{ end() }

var _ transport.Transport = (*Node)(nil)

// New joins a domain. It does not wait for anybody.
func New(cfg Config) (*Node, error) {
	cfg, err := cfg.withEnvironment()
	if err != nil {
		return nil, err
	}
	names, err := newResolver(cfg.Namespace, cfg.Name, cfg.Remaps)
	if err != nil {
		return nil, err
	}
	d, err := cfg.dds()
	if err != nil {
		return nil, err
	}
	n := &Node{
		cfg: cfg, log: cfg.Log, names: names, graph: newGraph(), events: newEvents(),
		clock:   simclock.New(cfg.UseSimTime),
		closers: map[closer]struct{}{}, servers: map[*server]struct{}{}, topics: map[string]local{}, twins: map[dds.GUID]bool{},
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	d.Garbage = func(from string, size int) {
		n.events.add(transport.EventDecode, "UDP", fmt.Sprintf("a datagram of %d bytes from %s to a port of this node is no RTPS, or cut short: what cannot be read of it is dropped", size, from), 1)
	}
	if n.participant, err = dds.NewParticipant(d, n.discovered); err != nil {
		n.cancel()
		return nil, err
	}
	n.gid = n.participant.GUID()
	if err = n.joinGraph(); err == nil {
		err = n.clock.Follow(n, clockQoS)
	}
	if err != nil {
		_ = n.Close()
		return nil, err
	}
	return n, nil
}

// joinGraph opens ros_discovery_info. Its reader keeps what many participants say at once. As with rmw_fastrtps and rmw_cyclonedds,
// its two ends belong to the participant: no node's list has them, and they carry the type's hash from Iron on.
func (n *Node) joinGraph() (err error) {
	qos := dds.QoS{Reliable: true, TransientLocal: true, Depth: 1}
	if n.cfg.GidWidth == gidIron { // the hash is that of the message with such gids
		qos.UserData = "typehash=" + hashOf("rmw_dds_common/ParticipantEntitiesInfo", "msg") + ";"
	}
	if n.info, err = n.participant.NewWriter(discoveryTopic, discoveryType, qos, nil); err != nil {
		return err
	}
	qos.Depth = 1000
	n.infoReader, err = n.participant.NewReader(discoveryTopic, discoveryType, qos, nil, func(s dds.Sample) {
		p, err := decodeEntities(s.Data)
		if err != nil {
			n.events.add(transport.EventDecode, discoveryTopic, err.Error(), 1)
			return
		}
		n.graph.entities(p, s.Writer)
		n.twin(p)
	})
	if err != nil {
		return err
	}
	return n.announce()
}

// twin tells once of each other participant that has a node with this node's name.
func (n *Node) twin(p participantEntities) {
	same := p.gid != n.gid && slices.ContainsFunc(p.nodes, func(e nodeEntities) bool { return under(e.namespace, e.name) == n.Name() })
	n.mu.Lock()
	same = same && n.graph.known(p.gid) // looked at under the lock under which discovered forgets it
	news := same && !n.twins[p.gid]
	if same {
		n.twins[p.gid] = true
	} else {
		delete(n.twins, p.gid)
	}
	n.mu.Unlock()
	if news {
		n.events.add(transport.EventNameTaken, n.Name(), fmt.Sprintf(
			"another node of the name %s is in the graph; tools and parameters may reach either of them: use -r __node:= to name one", n.Name()), 1)
	}
}

// announce tells which endpoints are ours.
func (n *Node) announce() error {
	n.announcing.Lock()
	defer n.announcing.Unlock()
	n.mu.Lock()
	p := participantEntities{gid: n.gid, nodes: []nodeEntities{{
		namespace: n.names.namespace, name: n.names.name, readers: slices.Clone(n.readers), writers: slices.Clone(n.writers),
	}}}
	n.mu.Unlock()
	if n.info == nil {
		return nil // closed
	}
	if _, err := n.info.Write(p.encode(n.cfg.GidWidth)); err != nil {
		return fmt.Errorf("announce on %s: %w", discoveryTopic, err)
	}
	return nil
}

// discovered is called from Fast DDS's threads.
func (n *Node) discovered(d dds.Discovery) {
	n.graph.discovered(d)
	if d.Removed {
		n.mu.Lock()
		defer n.mu.Unlock()
		// A twin goes with whoever told of it, which may be the participant of a bridge.
		maps.DeleteFunc(n.twins, func(p dds.GUID, _ bool) bool { return !n.graph.known(p) })
		for s := range n.servers {
			s.left(d)
		}
		return
	}
	if d.Kind != dds.KindParticipant {
		n.compare(d)
	}
}

// compare tells of an endpoint that has our topic but another type, which DDS passes over in silence.
func (n *Node) compare(d dds.Discovery) {
	n.mu.Lock()
	l, ok := n.topics[d.Topic]
	n.mu.Unlock()
	meets := d.Kind == dds.KindWriter && l.reads > 0 || d.Kind == dds.KindReader && l.writes > 0
	if !ok || !meets || d.GUID.Participant() == n.gid {
		return
	}
	who, verb := "a publisher", "sends"
	if d.Kind == dds.KindReader {
		who, verb = "a subscriber", "expects"
	}
	if d.Type != l.typ {
		n.events.add(transport.EventTypeMismatch, rosName(d.Topic),
			fmt.Sprintf("%s: %s %s %s, this node has %s; remap one of them", rosName(d.Topic), who, verb, rosType(d.Type), rosType(l.typ)), 1)
		return
	}
	if h := userValue(d.UserData, "typehash"); h != "" && l.hash != "" && h != l.hash {
		n.events.add(transport.EventTypeMismatch, rosName(d.Topic),
			fmt.Sprintf("%s: %s has another version of %s (%s, here %s); messages may not be readable", rosName(d.Topic), who, l.typ, h, l.hash), 1)
	}
}

// enter makes an endpoint of this node known: to the comparison with others and to the graph.
func (n *Node) enter(c closer, topic string, kind dds.Kind, typ, hash string, id dds.GUID) error {
	n.mu.Lock()
	if n.ctx.Err() != nil {
		n.mu.Unlock()
		return errClosed
	}
	n.closers[c] = struct{}{}
	l := n.topics[topic]
	l.typ, l.hash = typ, hash
	if kind == dds.KindReader {
		n.readers = append(n.readers, id)
		l.reads++
	} else {
		n.writers = append(n.writers, id)
		l.writes++
	}
	n.topics[topic] = l
	n.mu.Unlock()
	if err := n.announce(); err != nil {
		return err
	}
	other := dds.KindWriter
	if kind == dds.KindWriter {
		other = dds.KindReader
	}
	for _, d := range n.graph.on(topic, other) {
		n.compare(d)
	}
	return nil
}

// leave takes an endpoint out again.
func (n *Node) leave(c closer, topic string, kind dds.Kind, id dds.GUID) {
	n.mu.Lock()
	delete(n.closers, c)
	l := n.topics[topic]
	if kind == dds.KindReader {
		n.readers = slices.DeleteFunc(n.readers, func(g dds.GUID) bool { return g == id })
		l.reads--
	} else {
		n.writers = slices.DeleteFunc(n.writers, func(g dds.GUID) bool { return g == id })
		l.writes--
	}
	n.topics[topic] = l
	if l.reads+l.writes <= 0 {
		delete(n.topics, topic)
	}
	n.mu.Unlock()
	if n.ctx.Err() == nil {
		if err := n.announce(); err != nil {
			n.log.Warn().Err(err).Msg("a closed endpoint could not be taken out of the graph")
		}
	}
}

// making begins the making of an endpoint; what it returns ends it.
func (n *Node) making() (done func(), err error) {
	n.life.RLock()
	if n.ctx.Err() != nil {
		n.life.RUnlock()
		return nil, errClosed
	}
	return n.life.RUnlock, nil
}

var errClosed = errors.New("the node is closed")

// hashOf is the hash of a type ("pkg/Name") for USER_DATA, or "" where it has none. kind is "msg", "srv" or "action".
func hashOf(typ, kind string) string {
	h, err := msgs.TypeHash(strings.Replace(typ, "/", "/"+kind+"/", 1))
	if err != nil {
		return ""
	}
	return h
}

// Name is the full node name.
func (n *Node) Name() string { return n.names.node() }

// Resolve expands and remaps a topic name.
func (n *Node) Resolve(name string) (string, error) { return n.names.resolve(name) }

// Clock is the graph's time.
func (n *Node) Clock() transport.Clock { return n.clock }

// Events reports trouble on the wire.
func (n *Node) Events() <-chan transport.Event { return n.events.ch }

// Close leaves the domain. The contexts of calls and goals that run end.
func (n *Node) Close() error {
	n.once.Do(func() {
		n.mu.Lock()
		n.cancel()
		list := make([]closer, 0, len(n.closers))
		for c := range n.closers {
			list = append(list, c)
		}
		n.mu.Unlock()
		n.events.end()
		for _, c := range list {
			c.end()
		}
		if n.infoReader != nil {
			n.infoReader.Close()
		}
		n.announcing.Lock()
		if n.info != nil {
			n.info.Close()
			n.info = nil
		}
		n.announcing.Unlock()
		n.life.Lock()
		defer n.life.Unlock()
		n.participant.Close()
	})
	return nil
}
