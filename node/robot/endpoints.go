package robot

import (
	"context"
	"errors"
	"fmt"
	"path"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/transport"

	"github.com/stllm/stllm/node/geometry"
)

// endpoints are the robot's ends of topics, services and actions. Made once, by connect.
type endpoints struct {
	imageTopic, compressedTopic, infoTopic, mapTopic, depthTopic string
	streamInterval                                               atomic.Int64 // ns

	answer, answerText, answerStream, markers, path, diagnostics transport.Publisher

	mu      sync.Mutex
	closers []transport.Closer
	subs    []transport.Subscription
	pubs    []transport.Publisher
	images  []transport.Subscription // by source number
	depths  []transport.Subscription // likewise
	always  []transport.Subscription // of subs, those that an inactive robot keeps
	failed  atomic.Uint64            // publications that the transport refused
}

// sources of images and of depth images.
const (
	sourceRaw = iota
	sourceCompressed
)

// connect subscribes, advertises and serves.
func (r *Robot) connect() error {
	p, t, e := &r.cfg.Params, r.cfg.Transport, &r.ends
	r.setStreamRate(p.StreamRate)
	names, err := resolveInputs(t, p)
	if err != nil {
		return err
	}
	e.images, e.depths = make([]transport.Subscription, 2), make([]transport.Subscription, 2)
	e.imageTopic, e.compressedTopic, e.infoTopic, e.mapTopic, e.depthTopic = names.image, names.compressed, names.info, names.mapPoints, names.depth

	publish := func(to *transport.Publisher, name string, sample msgs.Message, qos transport.QoS) {
		if err != nil {
			return
		}
		if *to, err = t.Advertise(name, sample, qos); err == nil {
			e.pubs = append(e.pubs, *to)
		}
	}
	publish(&e.answer, "~answer", &msgs.Answer{}, p.QoSAnswer())
	publish(&e.answerText, "~answer_text", &msgs.String{}, p.QoSAnswer())
	publish(&e.answerStream, "~answer_stream", &msgs.AnswerChunk{}, p.QoSAnswer())
	publish(&e.markers, "~markers", &msgs.MarkerArray{}, p.QoSMarkers())
	publish(&e.path, "~window_path", &msgs.Path{}, p.QoSPath())
	publish(&e.diagnostics, "/diagnostics", &msgs.DiagnosticArray{}, transport.DefaultQoS())
	if err == nil && len(r.cfg.Links) > 0 {
		var static transport.Publisher
		publish(&static, "/tf_static", &msgs.TFMessage{}, transport.StaticQoS())
		if err == nil {
			err = static.Publish(r.links())
		}
	}

	if err == nil {
		err = r.subscribe(true, kindQuestion, 0, "~question", &msgs.Question{}, p.QoSQuestion())
	}
	if err == nil {
		err = r.subscribe(true, kindQuestion, 1, "~question_text", &msgs.String{}, p.QoSQuestion())
	}
	if err == nil && !r.cfg.Inactive {
		err = r.connectInputs()
	}
	if err != nil {
		return err
	}
	return r.serve()
}

// inputNames are resolved topic names; those of depth are empty where none is wanted.
type inputNames struct{ image, compressed, info, mapPoints, depth, compressedDepth string }

// resolveInputs applies remaps. A camera_info or compressed topic that is not remapped itself lies beside the image.
func resolveInputs(t transport.Transport, p *params.Parameters) (n inputNames, err error) {
	if n.image, err = t.Resolve(p.ImageTopic); err != nil {
		return n, fmt.Errorf("image_topic: %w", err)
	}
	if n.mapPoints, err = t.Resolve(p.MapTopic); err != nil {
		return n, fmt.Errorf("map_topic: %w", err)
	}
	if n.compressed, err = t.Resolve(p.ImageTopic + "/compressed"); err != nil {
		return n, fmt.Errorf("image_topic: %w", err)
	}
	if n.compressed == t.Name()+"/image/compressed" {
		n.compressed = n.image + "/compressed"
	}
	if p.DepthTopic != "" {
		if n.depth, err = t.Resolve(p.DepthTopic); err != nil {
			return n, fmt.Errorf("depth_topic: %w", err)
		}
		if n.compressedDepth, err = t.Resolve(p.DepthTopic + "/compressedDepth"); err != nil {
			return n, fmt.Errorf("depth_topic: %w", err)
		}
		if n.compressedDepth == t.Name()+"/depth/compressedDepth" {
			n.compressedDepth = n.depth + "/compressedDepth"
		}
	}
	if p.CameraInfoTopic != "" {
		if n.info, err = t.Resolve(p.CameraInfoTopic); err != nil {
			return n, fmt.Errorf("camera_info_topic: %w", err)
		}
		return n, nil
	}
	if n.info, err = t.Resolve("~camera_info"); err != nil {
		return n, err
	}
	if n.info == t.Name()+"/camera_info" {
		n.info = path.Join(path.Dir(n.image), "camera_info")
	}
	return n, nil
}

// handOver is the callback of a subscription.
func (r *Robot) handOver(k kind, source int) func(transport.Received) {
	return func(m transport.Received) {
		r.intake.push(input{kind: k, msg: m.Msg, source: source, received: m.Received, elapsed: r.elapsed()})
	}
}

// links is the message of the static transforms that come from a file.
func (r *Robot) links() *msgs.TFMessage {
	m := &msgs.TFMessage{}
	for _, l := range r.cfg.Links {
		m.Transforms = append(m.Transforms, msgs.TransformStamped{
			Header:       msgs.Header{Stamp: msgs.TimeFromNanos(r.cfg.Transport.Clock().Now()), FrameID: l.Parent},
			ChildFrameID: l.Child, Transform: transformOf(l.Transform),
		})
	}
	return m
}

func transformOf(t geometry.Transform) msgs.Transform {
	return msgs.Transform{
		Translation: msgs.Vector3{X: t.Translation.X, Y: t.Translation.Y, Z: t.Translation.Z},
		Rotation:    msgs.Quaternion{X: t.Rotation.Imag, Y: t.Rotation.Jmag, Z: t.Rotation.Kmag, W: t.Rotation.Real},
	}
}

// keepSource closes the other subscription of a list (images or depths), so that the wire does not carry each picture twice. A
// source of -1 closes all.
func (e *endpoints) keepSource(list *[]transport.Subscription, source int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, s := range *list {
		if i != source && s != nil {
			e.subs = slices.DeleteFunc(e.subs, func(o transport.Subscription) bool { return o == s })
			(*list)[i] = nil
			go s.Close() // may wait for a delivery that waits for us
		}
	}
}

func (e *endpoints) publish(p transport.Publisher, m msgs.Message) {
	if err := p.Publish(m); err != nil {
		e.failed.Add(1)
	}
}

func (e *endpoints) close() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range e.closers {
		_ = c.Close() // on the way out; nothing can be done about it
	}
	for _, s := range e.subs {
		_ = s.Close()
	}
	for _, p := range e.pubs {
		_ = p.Close()
	}
	e.closers, e.subs = nil, nil
}

// serve offers services, and actions where the transport has them.
func (r *Robot) serve() error {
	t, p := r.cfg.Transport, &r.cfg.Params
	keep := func(c transport.Closer, err error) error {
		var unsupported *transport.ErrUnsupported
		if errors.As(err, &unsupported) {
			r.log.Debug().Err(err).Msg("not offered")
			return nil
		}
		if err == nil {
			r.ends.closers = append(r.ends.closers, c)
		}
		return err
	}
	err := keep(t.Serve("~ask", transport.Service{Type: "stllm_msgs/Ask", Request: func() msgs.Message { return &msgs.AskRequest{} },
		Handle: func(ctx context.Context, m msgs.Message) (msgs.Message, error) {
			o := r.Ask(ctx, m.(*msgs.AskRequest).Question, Options{})
			return &msgs.AskResponse{Answer: *o.Answer}, nil
		}}))
	if err != nil {
		return err
	}
	err = keep(t.Serve("~plan", transport.Service{Type: "stllm_msgs/PlanAction", Request: func() msgs.Message { return &msgs.PlanActionRequest{} },
		Handle: func(ctx context.Context, m msgs.Message) (msgs.Message, error) {
			req := m.(*msgs.PlanActionRequest)
			o := r.Ask(ctx, msgs.Question{Text: req.Goal, Deadline: req.Deadline}, Options{Plan: true})
			a := o.Answer
			return &msgs.PlanActionResponse{Success: a.ErrorCode == 0, Message: a.ErrorMessage, Steps: a.Plan, Answer: *a}, nil
		}}))
	if err != nil {
		return err
	}
	err = keep(t.Serve("~clear_window", transport.Service{Type: "std_srvs/Trigger", Request: func() msgs.Message { return &msgs.TriggerRequest{} },
		Handle: func(ctx context.Context, _ msgs.Message) (msgs.Message, error) {
			n, err := r.ClearWindow(ctx)
			if err != nil {
				return &msgs.TriggerResponse{Message: err.Error()}, nil
			}
			return &msgs.TriggerResponse{Success: true, Message: fmt.Sprintf("%d frames forgotten", n)}, nil
		}}))
	if err != nil {
		return err
	}
	limits := transport.Action{MaxConcurrent: 1, Queue: int(p.ActionQueue), ResultTimeout: params.Seconds(p.ActionResultTimeout)}
	ask := limits
	ask.Type = "stllm_msgs/Ask"
	ask.Goal, ask.Result = func() msgs.Message { return &msgs.AskGoal{} }, func() msgs.Message { return &msgs.AskResult{} }
	ask.Execute = func(ctx context.Context, m msgs.Message, feedback func(msgs.Message)) (msgs.Message, error) {
		o := r.Ask(ctx, m.(*msgs.AskGoal).Question, Options{Emit: func(c Chunk) {
			feedback(&msgs.AskFeedback{Stage: c.Stage, NewTokens: c.NewTokens, Delta: c.Delta})
		}})
		return &msgs.AskResult{Answer: *o.Answer}, actionError(o.Answer)
	}
	if err := keep(t.ServeAction("~ask_action", ask)); err != nil {
		return err
	}
	plan := limits
	plan.Type = "stllm_msgs/PlanAction"
	plan.Goal, plan.Result = func() msgs.Message { return &msgs.PlanActionGoal{} }, func() msgs.Message { return &msgs.PlanActionResult{} }
	plan.Execute = func(ctx context.Context, m msgs.Message, feedback func(msgs.Message)) (msgs.Message, error) {
		goal := m.(*msgs.PlanActionGoal)
		o := r.Ask(ctx, msgs.Question{Text: goal.Goal, Deadline: goal.Deadline}, Options{Plan: true, Emit: func(c Chunk) {
			feedback(&msgs.PlanActionFeedback{Stage: c.Stage, NewTokens: c.NewTokens, Delta: c.Delta})
		}})
		a := o.Answer
		return &msgs.PlanActionResult{Success: a.ErrorCode == 0, Message: a.ErrorMessage, Steps: a.Plan, Answer: *a}, actionError(a)
	}
	return keep(t.ServeAction("~plan_action", plan))
}

// actionError makes a goal that got no answer an aborted one; its result carries code and sentence all the same.
func actionError(a *msgs.Answer) error {
	if a.ErrorCode == msgs.AnswerErrorNone {
		return nil
	}
	return fmt.Errorf("%s: %s", ErrorName(a.ErrorCode), a.ErrorMessage)
}

func (r *Robot) setStreamRate(hz float64) {
	interval := int64(0)
	if hz > 0 {
		interval = int64(params.Seconds(1 / hz))
	}
	r.ends.streamInterval.Store(interval)
}
