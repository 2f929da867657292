package ros1

import (
	"net"
	"net/url"
	"os"
	"time"

	"github.com/bluenviron/goroslib/v2/pkg/apislave"

	"github.com/stllm/stllm/node/transport"
)

// slave answers the master and other nodes (https://wiki.ros.org/ROS/Slave_API).
type slave struct {
	node *Node
	api  *apislave.Server
}

func newSlave(n *Node, address string) (*slave, error) {
	api, err := apislave.NewServer(address, net.IPv4(127, 0, 0, 1), "", 5*time.Second)
	if err != nil {
		return nil, err
	}
	s := &slave{node: n, api: api}
	n.goDo(func() { api.Serve(s.handle) })
	return s, nil
}

func (s *slave) port() string {
	u, err := url.Parse(s.api.URL())
	if err != nil {
		return ""
	}
	return u.Port()
}

func (s *slave) close() { s.api.Close() }

func (s *slave) handle(r apislave.Request) apislave.Response {
	n := s.node
	switch q := r.(type) {
	case *apislave.RequestPublisherUpdate:
		n.mu.Lock()
		sub := n.subs[q.Topic]
		n.mu.Unlock()
		if sub != nil {
			sub.update(q.PublisherURLs)
		}
		return apislave.ResponsePublisherUpdate{Code: 1}
	case *apislave.RequestGetPid:
		return apislave.ResponseGetPid{Code: 1, Pid: os.Getpid()}
	case *apislave.RequestGetBusInfo:
		return apislave.ResponseGetBusInfo{Code: 1, StatusMessage: "bus info", BusInfo: n.busInfo()}
	case *apislave.RequestGetPublications:
		return apislave.ResponseGetPublications{Code: 1, TopicList: n.publications()}
	case *apislave.RequestRequestTopic:
		return s.requestTopic(q)
	case *apislave.RequestShutdown:
		n.events.add(transport.EventPeerLost, "", "the ROS master asked this node to end: "+q.Reason)
		n.log.Error().Str("reason", q.Reason).Msg("the ROS master asked this node to end (another node took its name?)")
		n.cancel()
		return apislave.ResponseShutdown{Code: 1}
	}
	return apislave.ErrorRes{}
}

func (s *slave) requestTopic(q *apislave.RequestRequestTopic) apislave.Response {
	n := s.node
	n.mu.Lock()
	p := n.pubs[q.Topic]
	n.mu.Unlock()
	if p == nil {
		return apislave.ResponseRequestTopic{Code: 0, StatusMessage: "topic " + q.Topic + " is not published here", Protocol: []any{}}
	}
	for _, protocol := range q.Protocols {
		if len(protocol) > 0 && protocol[0] == "TCPROS" {
			port, err := net.LookupPort("tcp", portOf(n.listener.Addr()))
			if err != nil {
				break
			}
			return apislave.ResponseRequestTopic{Code: 1, Protocol: []any{"TCPROS", n.cfg.Host, port}}
		}
	}
	return apislave.ResponseRequestTopic{Code: 0, StatusMessage: "only TCPROS is spoken here", Protocol: []any{}}
}

func (n *Node) publications() [][]string {
	n.mu.Lock()
	defer n.mu.Unlock()
	list := [][]string{}
	for _, p := range n.pubs {
		list = append(list, []string{p.topic, p.typ})
	}
	return list
}

// busInfo lists connections as roscpp does: id, other end, direction, transport, topic, connected.
func (n *Node) busInfo() [][]any {
	n.mu.Lock()
	defer n.mu.Unlock()
	info := [][]any{}
	add := func(peer, direction, topic string) {
		info = append(info, []any{len(info), peer, direction, "TCPROS", topic, true})
	}
	for _, s := range n.subs {
		for _, peer := range s.peers() {
			add(peer, "i", s.topic)
		}
	}
	for _, p := range n.pubs {
		for _, peer := range p.peers() {
			add(peer, "o", p.topic)
		}
	}
	return info
}
