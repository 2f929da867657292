package ros2

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/stllm/stllm/node/transport/ros2/dds"
)

// Gid widths of rmw_dds_common/msg/Gid: 24 bytes up to Humble, 16 from Iron on.
const (
	gidHumble = 24
	gidIron   = 16
)

// discoveryTopic carries ParticipantEntitiesInfo: which endpoints belong to which node. It has no "rt" prefix.
const (
	discoveryTopic = "ros_discovery_info"
	discoveryType  = "rmw_dds_common::msg::dds_::ParticipantEntitiesInfo_"
)

// nodeEntities is one node of a participant.
type nodeEntities struct {
	namespace, name  string
	readers, writers []dds.GUID
}

// participantEntities is the message: a participant and its nodes.
type participantEntities struct {
	gid   dds.GUID
	nodes []nodeEntities
}

// encode writes the message as little-endian CDR with gids of the given width. It is written by hand because one message has
// two layouts on the wire.
func (p participantEntities) encode(width int) []byte {
	b := []byte{0, 1, 0, 0}
	u32 := func(v int) {
		for len(b)%4 != 0 { // the header is 4 bytes, so alignment after it is the same
			b = append(b, 0)
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(v))
	}
	str := func(s string) {
		u32(len(s) + 1)
		b = append(append(b, s...), 0)
	}
	gid := func(g dds.GUID) { b = append(append(b, g[:]...), make([]byte, width-16)...) }
	gids := func(list []dds.GUID) {
		u32(len(list))
		for _, g := range list {
			gid(g)
		}
	}
	gid(p.gid)
	u32(len(p.nodes))
	for _, n := range p.nodes {
		str(n.namespace)
		str(n.name)
		gids(n.readers)
		gids(n.writers)
	}
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// decodeEntities reads the message with whichever gid width fits it.
func decodeEntities(data []byte) (participantEntities, error) {
	p, errIron := decodeWidth(data, gidIron)
	if errIron == nil {
		return p, nil
	}
	p, errHumble := decodeWidth(data, gidHumble)
	if errHumble == nil {
		return p, nil
	}
	return p, fmt.Errorf("%s: neither with gids of 16 bytes (%w) nor of 24 (%w)", discoveryTopic, errIron, errHumble)
}

func decodeWidth(data []byte, width int) (p participantEntities, err error) {
	if len(data) < 4 || data[0] != 0 || data[1] > 1 {
		return p, fmt.Errorf("no plain CDR header")
	}
	var order binary.ByteOrder = binary.LittleEndian
	if data[1] == 0 {
		order = binary.BigEndian
	}
	at := 4
	take := func(n int) []byte {
		if err != nil || n < 0 || at+n > len(data) {
			if err == nil {
				err = fmt.Errorf("%d bytes wanted at %d of %d", n, at, len(data))
			}
			return nil
		}
		at += n
		return data[at-n : at]
	}
	u32 := func() int {
		at = (at + 3) &^ 3
		if b := take(4); b != nil {
			return int(order.Uint32(b))
		}
		return 0
	}
	str := func() string {
		b := take(u32())
		if err == nil && (len(b) == 0 || b[len(b)-1] != 0) {
			err = fmt.Errorf("string at %d without its NUL", at)
		}
		return strings.TrimRight(string(b), "\x00")
	}
	gid := func() (g dds.GUID) {
		copy(g[:], take(width))
		return g
	}
	gids := func() (list []dds.GUID) {
		n := u32()
		if n*width > len(data)-at {
			take(n * width) // sets the error
			return nil
		}
		for range n {
			list = append(list, gid())
		}
		return list
	}
	p.gid = gid()
	n := u32()
	for i := 0; i < n && err == nil; i++ {
		p.nodes = append(p.nodes, nodeEntities{namespace: str(), name: str(), readers: gids(), writers: gids()})
	}
	// What is left may be padding to 4, no more; otherwise the width was the other one.
	if err == nil && len(data)-at > 3 {
		err = fmt.Errorf("%d bytes are left over", len(data)-at)
	}
	return p, err
}

// maxParticipants bounds how many participants' nodes are remembered.
const maxParticipants = 4096

// graph is what is known of the domain: endpoints from discovery, nodes from ros_discovery_info.
type graph struct {
	mu           sync.Mutex
	endpoints    map[dds.GUID]dds.Discovery
	participants map[dds.GUID]dds.Discovery
	nodes        map[dds.GUID]told // by participant
}

// told is what a participant was said to have, and by which writer: its own, or that of a bridge between two domains.
type told struct {
	by    dds.GUID
	nodes []nodeEntities
}

func newGraph() *graph {
	return &graph{endpoints: map[dds.GUID]dds.Discovery{}, participants: map[dds.GUID]dds.Discovery{}, nodes: map[dds.GUID]told{}}
}

func (g *graph) discovered(d dds.Discovery) {
	g.mu.Lock()
	defer g.mu.Unlock()
	of := g.endpoints
	if d.Kind == dds.KindParticipant {
		of = g.participants
	}
	if !d.Removed {
		of[d.GUID] = d
		return
	}
	delete(of, d.GUID)
	if d.Kind == dds.KindParticipant {
		delete(g.nodes, d.GUID)
		// A participant that vanished without a word takes its endpoints along.
		for id := range g.endpoints {
			if id.Prefix() == d.GUID.Prefix() {
				delete(g.endpoints, id)
			}
		}
	}
	// Nor does anybody speak for those that it spoke for.
	for id, n := range g.nodes {
		if n.by == d.GUID || d.Kind == dds.KindParticipant && n.by.Prefix() == d.GUID.Prefix() {
			delete(g.nodes, id)
		}
	}
}

// entities takes in what a writer of ros_discovery_info said. A sample may be taken after its writer has left: nothing would
// ever remove what it says, so it is passed over.
func (g *graph) entities(p participantEntities, by dds.GUID) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if _, here := g.endpoints[by]; !here {
		return
	}
	if len(p.nodes) == 0 {
		delete(g.nodes, p.gid)
		return
	}
	if _, known := g.nodes[p.gid]; !known && len(g.nodes) >= maxParticipants {
		return // no graph is that big: somebody makes identities up
	}
	g.nodes[p.gid] = told{by, p.nodes}
}

// known tells whether a participant's nodes are remembered.
func (g *graph) known(participant dds.GUID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.nodes[participant]
	return ok
}

// nodeOf names the node that an endpoint belongs to, or "".
func (g *graph) nodeOf(endpoint dds.GUID) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, n := range g.nodes[endpoint.Participant()].nodes {
		if slices.Contains(n.readers, endpoint) || slices.Contains(n.writers, endpoint) {
			return under(n.namespace, n.name)
		}
	}
	return ""
}

// present tells whether an endpoint is still there.
func (g *graph) present(endpoint dds.GUID) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	_, ok := g.endpoints[endpoint]
	return ok
}

// on lists the endpoints of one kind on a topic.
func (g *graph) on(topic string, kind dds.Kind) []dds.Discovery {
	g.mu.Lock()
	defer g.mu.Unlock()
	var list []dds.Discovery
	for _, d := range g.endpoints {
		if d.Topic == topic && d.Kind == kind {
			list = append(list, d)
		}
	}
	return list
}
