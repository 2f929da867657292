package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"
	"github.com/spf13/cobra"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros1"
	"github.com/stllm/stllm/node/transport/ros2"
)

// playFlags are those of `stllm bag play`.
type playFlags struct {
	kind, name string
	remaps     []string
	topics     []string
	need       []string
	needTime   time.Duration
	delay      time.Duration
	stay       time.Duration
	rate       float64
	clock      bool
	loop       bool
}

func (a *app) bagPlayCommand() *cobra.Command {
	var o playFlags
	cmd := &cobra.Command{
		Use:   "play BAG…",
		Short: "Publish bags on a live graph, in the time they were recorded in",
		Long: "play is a node that publishes what bags hold: ROS 1 bags on a ROS 2 graph and the other way round, too. Topics keep\n" +
			"their offered quality (latched, transient local, best effort). With --clock other nodes can follow with use_sim_time.",
		Args: atLeast(1, "one bag or more"),
		RunE: func(cmd *cobra.Command, args []string) error { return a.bagPlay(cmd.Context(), args, &o) },
	}
	f := cmd.Flags()
	f.StringVar(&o.kind, "transport", "ros2", "ros1 or ros2")
	f.StringVar(&o.name, "name", "stllm_player", "name of this node")
	f.StringArrayVar(&o.remaps, "remap", nil, "FROM:=TO, a topic's other name; may be given several times")
	f.StringSliceVar(&o.topics, "topics", nil, "play these alone (default: all whose types are known)")
	f.StringSliceVar(&o.need, "need", nil, "begin when each of these topics has a subscriber")
	f.DurationVar(&o.needTime, "need-time", time.Minute, "how long to wait for --need")
	f.DurationVar(&o.delay, "delay", time.Second, "pause before the first message, for others to find the topics")
	f.DurationVar(&o.stay, "stay", time.Second, "stay after the last message, for what is still on its way and for late subscribers")
	f.Float64Var(&o.rate, "rate", 1, "speed; 2 is twice as fast")
	f.BoolVar(&o.clock, "clock", false, "publish /clock")
	f.BoolVar(&o.loop, "loop", false, "begin again after the end")
	return cmd
}

func (a *app) bagPlay(ctx context.Context, paths []string, o *playFlags) error {
	if !(o.rate > 0.001 && o.rate <= 1000) {
		return usageError{fmt.Errorf("--rate is %v, expected more than 0.001, at most 1000", o.rate)}
	}
	remaps := map[string]string{}
	for _, r := range o.remaps {
		from, to, ok := strings.Cut(r, ":=")
		if !ok || from == "" || to == "" {
			return usageError{fmt.Errorf("--remap is %q, expected from:=to", r)}
		}
		remaps[from] = to
	}
	bag, err := bags.OpenAll(paths...)
	if err != nil {
		return err
	}
	defer bag.Close()
	var node transport.Transport
	switch o.kind {
	case "ros1":
		node, err = ros1.New(ctx, ros1.Config{Name: o.name, Remaps: remaps, Log: a.log})
	case "ros2":
		node, err = ros2.New(ros2.Config{Name: o.name, Remaps: remaps, Log: a.log})
	default:
		return usageError{fmt.Errorf("--transport is %q, expected ros1 or ros2", o.kind)}
	}
	if err != nil {
		return err
	}
	defer node.Close()
	p, err := newPlayer(node, bag, *o, a.log)
	if err != nil {
		return err
	}
	if err := p.awaitSubscribers(ctx); err != nil {
		return err
	}
	for {
		n, err := p.play(ctx)
		if errors.Is(err, context.Canceled) {
			return nil // told to end
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(a.out, "played %d messages on %d topics\n", n, len(p.pubs))
		if !o.loop {
			break
		}
	}
	pause(ctx, o.stay)
	return nil
}

// player publishes a bag's messages.
type player struct {
	bag   bags.Reader
	opt   playFlags
	pubs  map[string]transport.Publisher // by the topic's name in the bag
	types map[string]string
	clock transport.Publisher // nil: none
	log   zerolog.Logger
}

// newPlayer advertises what the bag holds. Topics of unknown types are named and left out.
func newPlayer(node transport.Transport, bag bags.Reader, o playFlags, log zerolog.Logger) (*player, error) {
	p := &player{bag: bag, opt: o, pubs: map[string]transport.Publisher{}, types: map[string]string{}, log: log}
	for _, c := range bag.Info().Connections {
		if p.pubs[c.Topic] != nil || c.Count == 0 || !(bags.Filter{Topics: o.topics}).Wants(c.Topic) || o.clock && c.Topic == "/clock" {
			continue
		}
		sample, known := msgs.New(c.Type)
		if !known || c.Encoding != msgs.ROS1 && c.Encoding != msgs.CDR {
			log.Warn().Str("topic", c.Topic).Str("type", c.Type).Msg("left out: this program does not know the type")
			continue
		}
		pub, err := node.Advertise(c.Topic, sample, offered(c.QoS, c.Latched))
		if err != nil {
			return nil, err
		}
		p.pubs[c.Topic], p.types[c.Topic] = pub, c.Type
	}
	for _, t := range o.topics {
		if !holds(bag, t) {
			return nil, fmt.Errorf("--topics %s: it is not in the bag; stllm bag info lists what is", t)
		}
	}
	if len(p.pubs) == 0 {
		return nil, errors.New("there is nothing to play: no topic of a known type was chosen")
	}
	for _, r := range o.remaps {
		from, _, _ := strings.Cut(r, ":=")
		if t := "/" + strings.TrimPrefix(from, "/"); p.pubs[t] == nil && t != "/clock" {
			log.Warn().Str("remap", r).Msg("there is no such topic among those that are played; stllm bag info lists what the bag holds")
		}
	}
	for _, t := range o.need {
		if p.pubs[t] == nil {
			return nil, fmt.Errorf("--need %s: it is not among the topics that are played", t)
		}
	}
	if o.clock {
		pub, err := node.Advertise("/clock", &msgs.Clock{}, transport.DefaultQoS())
		if err != nil {
			return nil, err
		}
		p.clock = pub
	}
	return p, nil
}

func holds(bag bags.Reader, topic string) bool {
	return slices.ContainsFunc(bag.Info().Connections, func(c *bags.Connection) bool { return c.Topic == topic })
}

// offered reads the quality that was recorded, as far as it matters here. Bags up to Humble have the numbers of rmw's enums.
func offered(profile string, latched bool) transport.QoS {
	q := transport.DefaultQoS()
	if latched {
		q = transport.StaticQoS()
	}
	for line := range strings.Lines(profile) {
		key, value, _ := strings.Cut(strings.TrimLeft(line, "- \t"), ":")
		switch value = strings.Trim(value, " \t\r\n'\""); key {
		case "reliability":
			if value == "best_effort" || value == "2" {
				q.Reliability = transport.BestEffort
			}
		case "depth":
			if n, err := strconv.Atoi(value); err == nil && n > q.Depth && n <= 1000 {
				q.Depth = n
			}
		}
	}
	return q
}

func (p *player) awaitSubscribers(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.opt.needTime, fmt.Errorf("no subscriber within %v", p.opt.needTime))
	defer cancel()
	for _, t := range p.opt.need {
		for p.pubs[t].Stats().Peers == 0 {
			if !pause(ctx, 20*time.Millisecond) {
				return fmt.Errorf("--need %s: %w", t, context.Cause(ctx))
			}
		}
	}
	pause(ctx, p.opt.delay)
	return nil
}

// pause sleeps; it is false when ctx ends before.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// tick is the longest time between two messages on /clock.
const tick = 25 * time.Millisecond

// play publishes the bag once and returns how many messages went out.
func (p *player) play(ctx context.Context) (n int, err error) {
	it := p.bag.Messages(bags.Filter{Topics: p.opt.topics})
	defer it.Close()
	var first int64
	start := time.Now()
	for begun := false; ; begun = true {
		m, err := it.Next()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("play: %w", err)
		}
		if !begun {
			first = m.LogTime
		}
		if !p.until(ctx, start, first, m.LogTime) {
			return n, context.Cause(ctx)
		}
		pub := p.pubs[m.Connection.Topic]
		if pub == nil || p.types[m.Connection.Topic] != m.Connection.Type {
			continue
		}
		msg, _ := msgs.New(m.Connection.Type) // known: newPlayer looked
		if err := m.Connection.Encoding.Unmarshal(m.Data, msg); err != nil {
			p.log.Warn().Err(err).Str("topic", m.Connection.Topic).Msg("a recorded message is left out")
			continue
		}
		if err := pub.Publish(msg); err != nil {
			p.log.Warn().Err(err).Str("topic", m.Connection.Topic).Msg("a recorded message was not sent")
			continue
		}
		n++
	}
}

// until waits for the moment of a log time, and tells the time meanwhile.
func (p *player) until(ctx context.Context, start time.Time, first, log int64) bool {
	for {
		done := time.Duration(float64(time.Since(start)) * p.opt.rate) // of the bag's time
		left := time.Duration(log-first) - done
		if p.clock != nil {
			now := min(first+int64(done), log) // never ahead of what is to be published
			if err := p.clock.Publish(&msgs.Clock{Clock: msgs.TimeFromNanos(now)}); err != nil {
				p.log.Debug().Err(err).Msg("/clock")
			}
		}
		if left <= 0 {
			return ctx.Err() == nil
		}
		if !pause(ctx, min(tick, time.Duration(float64(left)/p.opt.rate))) {
			return false
		}
	}
}
