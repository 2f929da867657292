// Package replay drives the robot of the live node by bags: as fast as it can or at a rate, with the same answers at any. It
// writes which frames entered the window and which did not, the answers, and a picture for each question.
package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/calibration"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/picture"
	"github.com/stllm/stllm/node/robot"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/mem"
)

// Options of a replay.
type Options struct {
	Bags      []string
	Questions []Question
	Out       string  // folder for the files; "": none are written
	Rate      float64 // times real time; 0: as fast as possible
	Model     stllm.Model
	Params    params.Parameters // topics that are left at their defaults are looked for in the bag
	Links     []calibration.Link
	Plans     robot.PlanParser
	Labels    robot.Labeller
	Ablate    stllm.Ablation
	Boxes     []picture.Box // drawn into the pictures; those that question and answer name are marked
	Log       zerolog.Logger
	Progress  func(done, total int) // messages
	// Brief ends the replay with the last answer instead of the bag, and refuses questions about what is later than the bag;
	// otherwise they are asked at its end, with a warning.
	Brief bool
	// Emit is told every piece of every answer.
	Emit func(q Question, c robot.Chunk)
}

// Result is what a replay came to.
type Result struct {
	Answers  []Answered
	Status   robot.Status
	Images   int // in the bag, on the topic that was used
	Topics   Topics
	Warnings []bags.Warning
	Skipped  map[string]int // messages of unknown or undecodable kind, by topic
}

// Answered is a question with its outcome.
type Answered struct {
	Question Question
	Outcome  *robot.Outcome
}

// Topics are the ones that a replay listened to. Depth is empty where the bag has no depth images, or the model wants none.
type Topics struct{ Image, CameraInfo, Map, Depth string }

// Run replays.
func Run(ctx context.Context, o Options) (*Result, error) {
	if len(o.Bags) == 0 {
		return nil, errors.New("replay: no bag given")
	}
	if o.Rate < 0 || o.Rate != o.Rate {
		return nil, fmt.Errorf("replay: rate is %g, expected a number above 0, or 0 for as fast as possible", o.Rate)
	}
	reader, err := bags.OpenAll(o.Bags...)
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	defer reader.Close()
	info := reader.Info()
	topics, err := chooseTopics(info.Connections, &o.Params)
	if err == nil {
		topics.Depth, err = chooseDepth(info.Connections, &o.Params, o.Model, o.Log)
	}
	if err != nil { // it may be the damage that has taken the topics
		return &Result{Warnings: reader.Warnings()}, fmt.Errorf("replay %s: %w", info.Path, err)
	}
	if err := inTime(o, info); err != nil {
		return &Result{Warnings: reader.Warnings()}, fmt.Errorf("replay %s: %w", info.Path, err)
	}
	sink, err := newSink(o.Out, o.Params.FixedFrame)
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	p := &player{o: o, info: info, topics: topics, sink: sink, result: &Result{Topics: topics, Skipped: map[string]int{}}}
	err = errors.Join(p.run(ctx, reader), sink.close())
	p.result.Warnings = reader.Warnings()
	if err == nil {
		err = sink.summary(p.result, o)
	}
	if err != nil {
		return p.result, fmt.Errorf("replay %s: %w", info.Path, err)
	}
	return p.result, nil
}

// late is how much later than the bag's last message a question may be: what the last picture shows is asked about when it
// and its transforms have come.
const late = int64(1e9)

// inTime tells of the questions that the bag has nothing about any more.
func inTime(o Options, info bags.Info) error {
	for _, q := range o.Questions {
		at := q.moment(info.First)
		if q.End || at <= info.Last+late {
			continue
		}
		what := fmt.Sprintf("question %s is about %.1f s, the bag ends after %.1f s", q.ID, float64(at-info.First)/1e9, float64(info.Last-info.First)/1e9)
		if o.Brief {
			return errors.New(what)
		}
		o.Log.Warn().Msg(what + ": it is asked at the end")
	}
	return nil
}

// holds tells whether there are messages of a type on a topic.
func holds(conns []*bags.Connection, topic, typ string) bool {
	return slices.ContainsFunc(conns, func(c *bags.Connection) bool { return c.Topic == topic && c.Type == typ })
}

// chooseTopics sets the topic parameters that were left at their defaults from what the bag holds.
func chooseTopics(conns []*bags.Connection, p *params.Parameters) (t Topics, err error) {
	standard := params.Default()
	has := func(topic, typ string) bool { return holds(conns, topic, typ) }
	first := func(typ string) string {
		i := slices.IndexFunc(conns, func(c *bags.Connection) bool { return c.Type == typ && bags.ColourTopic(c.Topic) })
		if i < 0 {
			i = slices.IndexFunc(conns, func(c *bags.Connection) bool { return c.Type == typ })
		}
		if i < 0 {
			return ""
		}
		return conns[i].Topic
	}
	if p.ImageTopic == standard.ImageTopic {
		switch raw, small := first("sensor_msgs/Image"), first("sensor_msgs/CompressedImage"); {
		case raw != "" && bags.ColourTopic(raw):
			p.ImageTopic = raw
		case small != "":
			p.ImageTopic = strings.TrimSuffix(small, "/compressed")
		case raw != "":
			p.ImageTopic = raw
		default:
			return t, errors.New("no image topic (sensor_msgs/Image or CompressedImage) is in the bag")
		}
	}
	t.Image = p.ImageTopic
	if !has(t.Image, "sensor_msgs/Image") {
		t.Image += "/compressed"
		if !has(t.Image, "sensor_msgs/CompressedImage") {
			return t, fmt.Errorf("the bag has neither images on %s nor on %s", p.ImageTopic, t.Image)
		}
		p.ImageTransport = "compressed"
	} else {
		p.ImageTransport = "raw"
	}
	if p.CameraInfoTopic == standard.CameraInfoTopic {
		p.CameraInfoTopic = path.Join(path.Dir(p.ImageTopic), "camera_info")
		if !has(p.CameraInfoTopic, "sensor_msgs/CameraInfo") {
			if other := first("sensor_msgs/CameraInfo"); other != "" {
				p.CameraInfoTopic = other
			}
		}
	}
	if p.MapTopic == standard.MapTopic {
		if other := first("sensor_msgs/PointCloud2"); other != "" {
			p.MapTopic = other
		}
	}
	t.CameraInfo, t.Map = p.CameraInfoTopic, p.MapTopic
	return t, nil
}

// chooseDepth does the same for depth images, where the model wants some, and else turns them off, so that no frame waits for any.
func chooseDepth(conns []*bags.Connection, p *params.Parameters, m stllm.Model, log zerolog.Logger) (topic string, err error) {
	if p.DepthTopic == "" || m == nil || stllm.DepthOf(m).Grid == 0 {
		p.DepthTopic = ""
		return "", nil
	}
	switch small := p.DepthTopic + "/compressedDepth"; {
	case p.DepthTopic == params.Default().DepthTopic:
		if p.DepthTopic, topic = bags.DepthTopic(conns); topic == "" {
			log.Warn().Msg("the model wants measured depth (patch_place), the bag has no depth images: patches lie where the map says")
		}
	case holds(conns, p.DepthTopic, "sensor_msgs/Image"):
		topic = p.DepthTopic
	case holds(conns, small, "sensor_msgs/CompressedImage"):
		topic = small
	default:
		return "", fmt.Errorf("the bag has neither depth images on %s nor on %s", p.DepthTopic, small)
	}
	p.DepthTransport = "raw"
	if topic != p.DepthTopic {
		p.DepthTransport = "compressed"
	}
	return topic, nil
}

// player feeds one robot.
type player struct {
	o      Options
	info   bags.Info
	topics Topics
	sink   *sink
	result *Result

	graph   *mem.Graph
	robot   *robot.Robot
	pubs    map[string]transport.Publisher
	elapsed atomic.Int64 // ns since the bag's start, by its log times
	started time.Time
	clocked bool // the bag brings /clock, which then is the time
	pending []Question
}

func (p *player) run(ctx context.Context, reader bags.Reader) error {
	p.graph = mem.NewGraph()
	node, err := p.graph.Node("/stllm", nil)
	if err != nil {
		return err
	}
	defer node.Close()
	source, err := p.graph.Node("/bag", nil)
	if err != nil {
		return err
	}
	defer source.Close()
	p.pending = slices.Clone(p.o.Questions)
	slices.SortStableFunc(p.pending, func(a, b Question) int { return cmp.Compare(a.moment(p.info.First), b.moment(p.info.First)) })
	p.graph.SetTime(p.info.First)
	p.robot, err = robot.New(robot.Config{
		Transport: node, Params: p.o.Params, Model: p.o.Model, Plans: p.o.Plans, Labels: p.o.Labels, Links: p.o.Links, Log: p.o.Log,
		ThumbWidth: 320, Lossless: true, Elapsed: func() time.Duration { return time.Duration(p.elapsed.Load()) },
		OnFrame: p.sink.frame, OnDrop: p.sink.drop,
	})
	if err != nil {
		return err
	}
	defer p.robot.Close()
	if err := p.advertise(source); err != nil {
		return err
	}
	p.started = time.Now()
	if err := p.play(ctx, reader); err != nil {
		return err
	}
	// Whatever still waits for a transform or for depth has waited in vain. The wait for depth may be longer than a camera may be
	// silent, so that it ends without the clock.
	p.move(p.info.Last + int64((p.o.Params.TFTimeout+1)*1e9))
	if w := p.o.Params.DepthTimeout; w > p.o.Params.TFTimeout {
		p.elapsed.Store(p.info.Last - p.info.First + int64((w+1)*1e9))
		p.robot.Tick()
	}
	if err := p.robot.Settle(ctx); err != nil {
		return err
	}
	for len(p.pending) > 0 {
		if err := p.ask(ctx); err != nil {
			return err
		}
	}
	p.result.Status, err = p.robot.Status(ctx)
	return err
}

// advertise makes a publisher for every topic that the robot hears.
func (p *player) advertise(n *mem.Node) error {
	p.pubs = map[string]transport.Publisher{}
	for _, c := range p.info.Connections {
		wanted := c.Topic == "/tf" || c.Topic == "/tf_static" || c.Topic == "/clock" || c.Topic == p.topics.Image || c.Topic == p.topics.CameraInfo || c.Topic == p.topics.Map || c.Topic == p.topics.Depth
		if !wanted || p.pubs[c.Topic] != nil {
			continue
		}
		sample, ok := msgs.New(c.Type)
		if !ok {
			p.result.Skipped[c.Topic] = 0 // counted as its messages come
			continue
		}
		if c.Topic == "/clock" {
			p.clocked = true
		}
		qos := transport.QoS{Reliability: transport.Reliable, Durability: transport.Volatile, Depth: 100}
		if c.Latched || c.Topic == "/tf_static" || c.Topic == p.topics.Map {
			qos.Durability = transport.TransientLocal
		}
		pub, err := n.Advertise(c.Topic, sample, qos)
		if err != nil {
			return err
		}
		p.pubs[c.Topic] = pub
	}
	return nil
}

func (p *player) play(ctx context.Context, reader bags.Reader) error {
	var wanted []string
	for topic := range p.pubs {
		wanted = append(wanted, topic)
	}
	it := reader.Messages(bags.Filter{Topics: wanted})
	defer it.Close()
	total := 0
	for _, c := range p.info.Connections {
		if p.pubs[c.Topic] != nil {
			total += int(c.Count)
		}
	}
	for n := 0; ; n++ {
		if err := ctx.Err(); err != nil {
			return err
		}
		if p.o.Brief && len(p.pending) == 0 {
			return nil
		}
		m, err := it.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		for len(p.pending) > 0 && p.pending[0].moment(p.info.First) < m.LogTime {
			if err := p.ask(ctx); err != nil {
				return err
			}
		}
		if err := p.pace(ctx, m.LogTime); err != nil {
			return err
		}
		p.move(m.LogTime)
		if err := p.deliver(m); err != nil {
			return err
		}
		if p.o.Progress != nil {
			p.o.Progress(n+1, max(total, n+1))
		}
	}
}

// pace waits until a moment of the bag is due.
func (p *player) pace(ctx context.Context, at int64) error {
	if p.o.Rate == 0 {
		return nil
	}
	due := p.started.Add(time.Duration(float64(at-p.info.First) / p.o.Rate))
	t := time.NewTimer(time.Until(due))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// move lets time pass up to a moment of the bag.
func (p *player) move(at int64) {
	p.elapsed.Store(at - p.info.First)
	if !p.clocked {
		p.graph.SetTime(at)
	}
	p.robot.Tick()
}

func (p *player) deliver(m *bags.Message) error {
	topic := m.Connection.Topic
	decoded, err := m.Decode()
	if err != nil {
		p.result.Skipped[topic]++
		if topic == p.topics.Image {
			p.result.Images++
			p.sink.drop(robot.Drop{Seq: p.robot.SkipImage(), Received: m.LogTime, Cause: robot.CauseDecodeError, Detail: err.Error()})
		}
		return nil
	}
	switch d := decoded.(type) {
	case *msgs.Clock:
		p.graph.SetTime(d.Clock.UnixNano())
		return nil
	case *msgs.Image, *msgs.CompressedImage:
		if topic == p.topics.Image {
			p.result.Images++
		}
	}
	return p.pubs[topic].Publish(decoded)
}

// ask asks the next question at its moment, when all that was recorded up to then has been taken in and encoded.
func (p *player) ask(ctx context.Context) error {
	q := p.pending[0]
	p.pending = p.pending[1:]
	at := min(q.moment(p.info.First), p.info.Last)
	if err := p.pace(ctx, at); err != nil {
		return err
	}
	if at-p.info.First > p.elapsed.Load() {
		p.move(at)
	}
	if err := p.robot.Settle(ctx); err != nil {
		return err
	}
	options := robot.Options{NoDeadline: true, Told: true, Ablate: p.o.Ablate, Plan: q.Task == string(stllm.TaskPlanning)}
	if p.o.Emit != nil {
		options.Emit = func(c robot.Chunk) { p.o.Emit(q, c) }
	}
	out := p.robot.Ask(ctx, msgs.Question{ID: q.ID, Text: q.Text, Task: q.Task, Choices: q.Choices}, options)
	if err := ctx.Err(); err != nil {
		return err
	}
	a := Answered{q, out}
	p.result.Answers = append(p.result.Answers, a)
	return p.sink.answer(a, p.o.Boxes)
}

// Exists tells whether a replay's folder has results already.
func Exists(out string) bool {
	_, err := os.Stat(path.Join(out, "summary.json"))
	return err == nil
}
