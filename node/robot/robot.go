// Package robot is the node itself: it turns camera, TF and map messages into a window of posed, encoded frames and a
// scene, and answers questions about them. It knows no transport and no model, only their interfaces; the live node and bag
// replay run the same robot.
//
// One goroutine owns all state (see loop.go). Transports hand messages over to a bounded intake; pictures are decoded and
// encoded, maps encoded and answers made in workers of their own, so that a slow answer never delays a frame.
package robot

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/calibration"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/scene"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/tf"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/window"
)

// PlanParser reads the text of a plan. A step that it cannot read has Parsed = false and its text; it invents nothing.
type PlanParser interface {
	ParsePlan(text string) []msgs.PlanStep
}

// Labeller finds the short form of an answer ("left behind"), or "" where the text has none.
type Labeller interface {
	Label(task stllm.Task, question, text string) string
}

// Config is what a robot is made of.
type Config struct {
	Transport transport.Transport
	Params    params.Parameters
	Model     stllm.Model // nil: not ready until SetModel
	Plans     PlanParser  // nil: plan steps are reported as not parsed
	Labels    Labeller    // nil: answers have no label
	Links     []calibration.Link
	Log       zerolog.Logger
	// Counters, where set, are shown with the transport in /diagnostics (log lines that did not get onto the wire, …).
	Counters func() map[string]uint64
	// Inactive begins without camera, TF and map, and refuses questions, until SetActive (ROS 2 lifecycle).
	Inactive bool

	// ThumbWidth is the width of the small pictures that frames keep for people, pixels; 0: none.
	ThumbWidth int
	// Lossless makes transports wait where a live node would drop for lack of speed, and makes questions wait for a newer
	// map that is being encoded. For replay.
	Lossless bool
	// Elapsed measures waits (tf_timeout). nil: the monotonic clock. Replay gives the time of the recording; then nothing
	// but the arrival of messages, and Tick, makes time pass. It is called from the transport's goroutines.
	Elapsed func() time.Duration
	// OnFrame and OnDrop, where set, are told of every image once, from the state goroutine; they must return soon. Images
	// that a full intake loses (never in a lossless one) are counted in Status alone.
	OnFrame func(window.Frame)
	OnDrop  func(Drop)
}

// Robot is a running node.
type Robot struct {
	cfg    Config
	log    zerolog.Logger
	ctx    context.Context
	cancel context.CancelCauseFunc
	done   chan struct{}
	start  time.Time
	intake *intake
	ends   endpoints
	work   sync.WaitGroup

	activity  sync.Mutex // one SetActive or SetModel after the other
	connected bool       // to camera, TF and map; under activity
	measures  bool       // the model wants depth; under activity

	// Requests to the state goroutine.
	chAsk    chan *question
	chClear  chan chan int
	chParams chan paramsReq
	chModel  chan modelReq
	chActive chan activeReq
	chQuiet  chan chan struct{}
	chSettle chan chan struct{}
	chStatus chan chan Status
	chWake   chan struct{} // a question's context has ended

	// Workers.
	frameJobs chan *frameJob
	frameDone chan *frameJob
	mapJobs   chan *mapJob
	mapDone   chan *mapJob
	askJobs   chan *question
	askDone   chan *question

	s state
}

// state belongs to the state goroutine.
type state struct {
	params      params.Parameters
	model       stllm.Model
	modelErr    error
	active      bool
	now         time.Duration // of the last input, where time is given from outside
	tf          *tf.Buffer
	tfRejected  map[string]uint64
	guardUntil  time.Duration // after a jump: refuse messages from before it
	window      *window.Window
	epoch       uint64 // raised when the window is cleared; results of older work are dropped
	cameras     cameras
	imageFrame  string // of the last image
	imageSource int    // subscription that delivers images, -1 before the first
	depth       depthState
	waiting     []*frameJob
	encodeQueue []*frameJob
	encoding    int      // jobs with the workers
	submitted   uint64   // frame jobs queued for encoding so far
	encoded     uint64   // of them, done
	recent      []int64  // stamps of frames queued lately
	maps        mapState // see maps.go
	queue       []*question
	running     *question
	nextID      uint64
	settlers    []chan struct{}
	quiet       []chan struct{} // told when no worker is at a model
	drops       map[Cause]uint64
	lastDrop    Drop // since the window was cleared
	cleared     bool // on request, and nothing has entered the window since
	images      counter
	lastImage   int64 // ns, stamp of the newest image that came
	lastLag     int64 // ns, how old the last image was by the node's clock when it came
	stats       answerStats
	repeats     repeats
	events      map[transport.EventKind]uint64
	lastEvent   string
	troubles    map[string]string // kind and topic: the last message
	rates       rates
	dirty       bool // markers are out of date
}

// New starts a robot: it subscribes, serves and works until Close.
func New(cfg Config) (*Robot, error) {
	switch {
	case cfg.Transport == nil:
		return nil, errors.New("robot: Transport is missing")
	case cfg.ThumbWidth < 0 || cfg.ThumbWidth > 4096:
		return nil, fmt.Errorf("robot: ThumbWidth is %d, expected 0 to 4096", cfg.ThumbWidth)
	}
	if err := cfg.Params.Validate(); err != nil {
		return nil, fmt.Errorf("robot: %w", err)
	}
	if cfg.Plans == nil {
		cfg.Plans = unparsed{}
	}
	p := &cfg.Params
	win, err := window.New(windowLimits(p))
	if err != nil {
		return nil, fmt.Errorf("robot: %w", err)
	}
	buffer := tf.New(params.Seconds(p.TFCache))
	for _, l := range cfg.Links {
		if err := buffer.Set(l.Parent, l.Child, 0, l.Transform, true); err != nil {
			return nil, fmt.Errorf("robot: extrinsics from %q to %q: %w", l.Parent, l.Child, err)
		}
	}
	r := &Robot{
		cfg: cfg, log: cfg.Log, done: make(chan struct{}), start: time.Now(),
		intake: newIntake([kinds]int{
			kindImage: int(p.ImageQueue), kindCameraInfo: 1000, kindTF: int(p.TFQueue), kindTFStatic: 1000,
			kindMap: 2, kindDepth: maxDepths, kindQuestion: 1000, kindTick: 1000,
		}, cfg.Lossless),
		chAsk: make(chan *question), chClear: make(chan chan int), chParams: make(chan paramsReq), chModel: make(chan modelReq),
		chActive: make(chan activeReq), chQuiet: make(chan chan struct{}), chSettle: make(chan chan struct{}), chStatus: make(chan chan Status), chWake: make(chan struct{}, 1),
		frameJobs: make(chan *frameJob, pipeline), frameDone: make(chan *frameJob, pipeline),
		mapJobs: make(chan *mapJob, 1), mapDone: make(chan *mapJob, 1),
		askJobs: make(chan *question, 1), askDone: make(chan *question, 1),
	}
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	r.s = state{
		params: cfg.Params, model: cfg.Model, active: !cfg.Inactive, tf: buffer, tfRejected: map[string]uint64{}, window: win,
		depth: newDepthState(), imageSource: -1, drops: map[Cause]uint64{}, events: map[transport.EventKind]uint64{}, troubles: map[string]string{},
		repeats: repeats{now: func() time.Duration { return time.Since(r.start) }, seen: map[string]*repeat{}},
	}
	r.s.depth.use = r.depthUse(cfg.Model)
	r.measures = r.s.depth.use.Grid > 0
	if err := r.connect(); err != nil {
		r.cancel(errShutdown)
		r.intake.close()
		r.ends.close()
		return nil, fmt.Errorf("robot: %w", err)
	}
	r.connected = !cfg.Inactive
	r.goDo(r.decodeFrames)
	r.goDo(r.encodeMaps)
	r.goDo(r.makeAnswers)
	go r.loop()
	return r, nil
}

func windowLimits(p *params.Parameters) window.Limits {
	return window.Limits{Duration: params.Seconds(p.WindowDuration), Frames: int(p.WindowMaxFrames), Bytes: int(p.WindowMaxMB) * 1000 * 1000}
}

func (r *Robot) goDo(f func()) {
	r.work.Add(1)
	go func() {
		defer r.work.Done()
		f()
	}()
}

// elapsed is the clock that waits are measured with.
func (r *Robot) elapsed() time.Duration {
	if r.cfg.Elapsed != nil {
		return r.cfg.Elapsed()
	}
	return time.Since(r.start)
}

// Close answers what waits with ERROR_SHUTTING_DOWN and stops. It waits until the model has given up what it was doing, and
// closes neither the model nor the transport.
func (r *Robot) Close() error {
	r.cancel(errShutdown)
	<-r.done
	return nil
}

// Done is closed when the robot has stopped.
func (r *Robot) Done() <-chan struct{} { return r.done }

// request gives a value to the state goroutine, unless the robot or the caller ends before.
func request[T any](ctx context.Context, r *Robot, c chan<- T, v T) error {
	select {
	case c <- v:
		return nil
	case <-r.done:
		return errShutdown
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// wait waits for a reply of the state goroutine.
func wait[T any](ctx context.Context, r *Robot, c <-chan T) (v T, err error) {
	select {
	case v = <-c:
		return v, nil
	case <-r.done:
		select {
		case v = <-c: // answered just before the end
			return v, nil
		default:
			return v, errShutdown
		}
	case <-ctx.Done():
		return v, context.Cause(ctx)
	}
}

// Settle waits until everything that was handed over has been taken in and every frame and map in the works is encoded.
// Frames that wait for transforms, and questions, are not waited for.
func (r *Robot) Settle(ctx context.Context) error {
	c := make(chan struct{}, 1)
	if err := request(ctx, r, r.chSettle, c); err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	if _, err := wait(ctx, r, c); err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	return nil
}

// Tick lets time pass up to Config.Elapsed, in order with the messages handed over before.
func (r *Robot) Tick() { r.intake.push(input{kind: kindTick, elapsed: r.elapsed()}) }

// SkipImage gives the next image number to an image that could not be handed over at all, because its message cannot be
// read. Use it in order with the images that are.
func (r *Robot) SkipImage() uint64 { return r.intake.skip() }

// ClearWindow forgets all frames, those in the works included, and returns how many the window held.
func (r *Robot) ClearWindow(ctx context.Context) (int, error) {
	c := make(chan int, 1)
	if err := request(ctx, r, r.chClear, c); err != nil {
		return 0, fmt.Errorf("clear window: %w", err)
	}
	return wait(ctx, r, c)
}

type modelReq struct {
	model stllm.Model
	err   error
	done  chan struct{}
}

// SetModel gives the robot its model once it is loaded, or says why there is none (err). Frames and map of another model are
// forgotten. Depth is listened to as the model wants it.
func (r *Robot) SetModel(ctx context.Context, m stllm.Model, err error) error {
	r.activity.Lock()
	defer r.activity.Unlock()
	c := make(chan struct{}, 1)
	if err := request(ctx, r, r.chModel, modelReq{m, err, c}); err != nil {
		return fmt.Errorf("set model: %w", err)
	}
	if _, err = wait(ctx, r, c); err != nil {
		return err
	}
	return r.followModel(m)
}

type paramsReq struct {
	values map[string]any // nil: only read
	reply  chan paramsReply
}

type paramsReply struct {
	params params.Parameters
	err    error
}

// Parameters returns the values in use.
func (r *Robot) Parameters(ctx context.Context) (params.Parameters, error) {
	return r.setParameters(ctx, nil)
}

// SetParameters changes tunable parameters, all of them or none; the error says which value is refused and why. It returns
// the values in use.
func (r *Robot) SetParameters(ctx context.Context, values map[string]any) (params.Parameters, error) {
	if values == nil {
		values = map[string]any{}
	}
	return r.setParameters(ctx, values)
}

func (r *Robot) setParameters(ctx context.Context, values map[string]any) (params.Parameters, error) {
	c := make(chan paramsReply, 1)
	if err := request(ctx, r, r.chParams, paramsReq{values, c}); err != nil {
		return params.Parameters{}, err
	}
	reply, err := wait(ctx, r, c)
	if err != nil {
		return params.Parameters{}, err
	}
	return reply.params, reply.err
}

// Status describes the robot now.
func (r *Robot) Status(ctx context.Context) (Status, error) {
	c := make(chan Status, 1)
	if err := request(ctx, r, r.chStatus, c); err != nil {
		return Status{}, fmt.Errorf("status: %w", err)
	}
	return wait(ctx, r, c)
}

// Map is the scene as the model knows it.
type Map struct {
	Cloud    *scene.Cloud // in the fixed frame, thinned to map_max_points
	ID       string       // names the content
	Stamp    int64        // ns, of the newest message with this content
	FrameID  string       // in which it came
	Received int          // points before thinning
	Cell     float64      // edge of the thinning grid, metres; 0: not thinned
	Features stllm.MapFeatures
	Took     time.Duration // to encode it
}
