// Package ros1 is a ROS 1 node on goroslib's protocol packages (XML-RPC, TCPROS headers). It does not use goroslib's Node,
// which loses messages over 16 MiB and type mismatches without a word, keeps the oldest messages of a full queue instead of
// the newest, and never registers again after the master was restarted (../shared/docs/ros.md has the measurements).
package ros1

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/bluenviron/goroslib/v2/pkg/apimaster"
	"github.com/bluenviron/goroslib/v2/pkg/prototcp"
	"github.com/rs/zerolog"

	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/simclock"
)

// Config says how to join a graph.
type Config struct {
	Name      string // base name, default "stllm"
	Namespace string // default ROS_NAMESPACE, then "/"
	Remaps    map[string]string
	Master    string // master URI, default ROS_MASTER_URI, then http://localhost:11311
	// Host is how other nodes reach this one: an address or name, default ROS_IP, then ROS_HOSTNAME, then this machine's
	// host name.
	Host         string
	WatchMaster  time.Duration // how often the master is asked whether it still knows us, default 2 s
	UseSimTime   *bool         // default: the master's parameter /use_sim_time
	Log          zerolog.Logger
	EventBacklog int // bound of Events, default 256
}

func (c Config) withDefaults() Config {
	first := func(values ...string) string {
		for _, v := range values {
			if v != "" {
				return v
			}
		}
		return ""
	}
	host, _ := os.Hostname()
	c.Name = first(c.Name, "stllm")
	c.Namespace = first(c.Namespace, os.Getenv("ROS_NAMESPACE"), "/")
	c.Master = first(c.Master, os.Getenv("ROS_MASTER_URI"), "http://localhost:11311")
	c.Host = first(c.Host, os.Getenv("ROS_IP"), os.Getenv("ROS_HOSTNAME"), host, "localhost")
	if c.WatchMaster <= 0 {
		c.WatchMaster = 2 * time.Second
	}
	if c.EventBacklog <= 0 {
		c.EventBacklog = 256
	}
	return c
}

// Node implements [transport.Transport] for ROS 1.
type Node struct {
	cfg      Config
	log      zerolog.Logger
	names    *resolver
	master   *apimaster.Client
	masterAt string // host:port
	http     *http.Client
	slave    *slave
	listener net.Listener
	uri      string // of the slave API
	service  string // rosrpc URI
	clock    *simclock.Clock
	events   *events

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	subs map[string]*subscription
	pubs map[string]*publisher
	srvs map[string]*service
}

var _ transport.Transport = (*Node)(nil)

// New starts a node: it listens, and registers as soon as the master answers. A master that is not there yet is waited for
// in the background (an event says so), unless it does not answer within ctx: then New fails.
func New(ctx context.Context, cfg Config) (*Node, error) {
	cfg = cfg.withDefaults()
	names, err := newResolver(cfg.Namespace, cfg.Name, cfg.Remaps)
	if err != nil {
		return nil, err
	}
	u, err := url.Parse(cfg.Master)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("ROS_MASTER_URI is %q, expected http://host:port/", cfg.Master)
	}
	if u.Port() == "" {
		u.Host = net.JoinHostPort(u.Hostname(), "11311")
	}
	n := &Node{
		cfg: cfg, log: cfg.Log, names: names, masterAt: u.Host,
		http: &http.Client{Timeout: dialTimeout},
		subs: map[string]*subscription{}, pubs: map[string]*publisher{}, srvs: map[string]*service{},
		events: newEvents(cfg.EventBacklog),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.master = apimaster.NewClient(n.masterAt, names.node, n.http)
	if err := n.waitForMaster(ctx); err != nil {
		n.cancel()
		return nil, err
	}
	n.clock = simclock.New(n.simulated())
	// A host that is an address of this machine is listened on alone; a name is published and everything is listened on.
	bind := ""
	if ip := net.ParseIP(cfg.Host); ip != nil {
		bind = cfg.Host
	}
	if n.listener, err = net.Listen("tcp", net.JoinHostPort(bind, "0")); err != nil {
		n.cancel()
		return nil, fmt.Errorf("listen on %q (ROS_IP): %w", cfg.Host, err)
	}
	if n.slave, err = newSlave(n, net.JoinHostPort(bind, "0")); err != nil {
		n.listener.Close()
		n.cancel()
		return nil, fmt.Errorf("listen on %q (ROS_IP): %w", cfg.Host, err)
	}
	n.uri = "http://" + net.JoinHostPort(cfg.Host, n.slave.port()) + "/"
	n.service = "rosrpc://" + net.JoinHostPort(cfg.Host, portOf(n.listener.Addr()))
	n.goDo(n.accept)
	n.goDo(n.watchMaster)
	if err = n.clock.Follow(n, clockQoS); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

func portOf(a net.Addr) string {
	_, port, _ := net.SplitHostPort(a.String())
	return port
}

func (n *Node) goDo(f func()) {
	n.wg.Add(1)
	go func() {
		defer n.wg.Done()
		f()
	}()
}

func (n *Node) waitForMaster(ctx context.Context) error {
	for told := false; ; {
		_, err := n.master.GetURI()
		if err == nil {
			return nil
		}
		if !told {
			n.log.Warn().Str("master", n.masterAt).Err(err).Msg("no ROS master answers; waiting (start roscore, or set ROS_MASTER_URI)")
			told = true
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("no ROS master at %s (start roscore, or set ROS_MASTER_URI): %w", n.masterAt, err)
		case <-time.After(500 * time.Millisecond):
		}
	}
}

// Name is the full node name.
func (n *Node) Name() string { return n.names.node }

// Resolve expands and remaps a graph name.
func (n *Node) Resolve(name string) (string, error) { return n.names.resolve(name) }

// Clock is the graph's time.
func (n *Node) Clock() transport.Clock { return n.clock }

// Events reports trouble on the wire.
func (n *Node) Events() <-chan transport.Event { return n.events.ch }

// ServeAction is not offered: the actions of this program are ROS 2 actions; on ROS 1 its services and topics do the same.
func (n *Node) ServeAction(string, transport.Action) (transport.Closer, error) {
	return nil, &transport.ErrUnsupported{Transport: "ros1", What: "actions"}
}

// Done is closed when the node has ended, also when another node of the same name took its place.
func (n *Node) Done() <-chan struct{} { return n.ctx.Done() }

// accept serves TCPROS connections: subscribers of our topics and clients of our services.
func (n *Node) accept() {
	for {
		c, err := n.listener.Accept()
		if err != nil {
			if n.ctx.Err() != nil {
				return
			}
			n.log.Error().Err(err).Msg("accept a TCPROS connection")
			time.Sleep(100 * time.Millisecond) // out of file descriptors: do not spin
			continue
		}
		n.goDo(func() { n.serve(c) })
	}
}

func (n *Node) serve(c net.Conn) {
	defer c.Close()
	stop := context.AfterFunc(n.ctx, func() { c.Close() })
	defer stop()
	r := bufio.NewReaderSize(c, 64<<10)
	h, err := readHeader(c, r)
	if err != nil {
		n.log.Debug().Err(err).Stringer("peer", c.RemoteAddr()).Msg("TCPROS handshake")
		return
	}
	refuse := func(format string, args ...any) {
		msg := fmt.Sprintf(format, args...)
		n.log.Warn().Str("peer", h["callerid"]).Msg(msg)
		_ = writeHeader(c, &prototcp.HeaderError{Error: msg})
	}
	if name := h["service"]; name != "" {
		n.mu.Lock()
		s := n.srvs[name]
		n.mu.Unlock()
		if s == nil {
			refuse("service %s is not offered by %s", name, n.Name())
			return
		}
		s.serve(c, r, h, refuse)
		return
	}
	n.mu.Lock()
	p := n.pubs[h["topic"]]
	n.mu.Unlock()
	if p == nil {
		refuse("topic %q is not published by %s", h["topic"], n.Name())
		return
	}
	p.serve(c, r, h, refuse)
}

// watchMaster notices a master that went away or came back empty, and registers everything again.
func (n *Node) watchMaster() {
	lost := false
	tick := time.NewTicker(n.cfg.WatchMaster)
	defer tick.Stop()
	for {
		select {
		case <-n.ctx.Done():
			return
		case <-tick.C:
		}
		uri, err := n.master.LookupNode(n.names.node)
		switch {
		case err == nil && uri == n.uri:
			if lost {
				n.events.add(transport.EventMasterBack, "", "the ROS master answers again and still knows this node")
				lost = false
			}
		case err != nil && !strings.Contains(err.Error(), "server returned an error"):
			if !lost {
				n.events.add(transport.EventMasterLost, "", fmt.Sprintf("the ROS master at %s does not answer: %v; running connections go on, and everything is registered again when it is back", n.masterAt, err))
				lost = true
			}
		case n.endpoints() == 0:
		default:
			if err := n.registerAll(); err != nil {
				n.log.Error().Err(err).Msg("register again with the ROS master")
				continue
			}
			n.events.add(transport.EventMasterBack, "", "the ROS master had forgotten this node (restarted?); every topic and service is registered again")
			lost = false
		}
	}
}

func (n *Node) endpoints() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.subs) + len(n.pubs) + len(n.srvs)
}

func (n *Node) registerAll() error {
	n.mu.Lock()
	var todo []func() error
	for _, p := range n.pubs {
		todo = append(todo, p.register)
	}
	for _, s := range n.srvs {
		todo = append(todo, s.register)
	}
	for _, s := range n.subs {
		todo = append(todo, s.register)
	}
	n.mu.Unlock()
	for _, register := range todo {
		if err := register(); err != nil {
			return err
		}
	}
	return nil
}

// Close unregisters everything and waits for all goroutines.
func (n *Node) Close() error {
	n.mu.Lock()
	var all []transport.Closer
	for _, s := range n.subs {
		all = append(all, s)
	}
	for _, p := range n.pubs {
		all = append(all, p)
	}
	for _, s := range n.srvs {
		all = append(all, s)
	}
	n.mu.Unlock()
	for _, c := range all {
		if err := c.Close(); err != nil {
			n.log.Debug().Err(err).Msg("unregister")
		}
	}
	n.cancel()
	n.listener.Close()
	n.slave.close()
	n.wg.Wait()
	return nil
}
