package robot

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
)

// errInactive ends what was asked of a robot that is no longer active.
var errInactive = errors.New("the node is not active")

type activeReq struct {
	active bool
	done   chan struct{}
}

// SetActive switches between working and resting (ROS 2 lifecycle). A resting robot does not listen to camera, TF and map,
// refuses questions with an answer that says so, and gives up the one that it was answering. What the window holds stays, and
// grows old.
func (r *Robot) SetActive(ctx context.Context, active bool) error {
	r.activity.Lock()
	defer r.activity.Unlock()
	if active == r.connected {
		return nil
	}
	req := activeReq{active, make(chan struct{}, 1)}
	if err := request(ctx, r, r.chActive, req); err != nil {
		return fmt.Errorf("set active: %w", err)
	}
	if _, err := wait(ctx, r, req.done); err != nil {
		return fmt.Errorf("set active: %w", err)
	}
	if !active {
		r.disconnectInputs()
		r.connected = false
		return nil
	}
	if err := r.connectInputs(); err != nil {
		r.disconnectInputs()
		off := activeReq{false, make(chan struct{}, 1)}
		if request(ctx, r, r.chActive, off) == nil {
			_, _ = wait(ctx, r, off.done) // the first error says more
		}
		return fmt.Errorf("set active: %w", err)
	}
	r.connected = true
	return nil
}

// Quiet waits until no worker uses a model. After SetActive(false) nothing new is begun, so the model may then be closed.
func (r *Robot) Quiet(ctx context.Context) error {
	c := make(chan struct{}, 1)
	if err := request(ctx, r, r.chQuiet, c); err != nil {
		return fmt.Errorf("wait for the model's work: %w", err)
	}
	if _, err := wait(ctx, r, c); err != nil {
		return fmt.Errorf("wait for the model's work: %w", err)
	}
	return nil
}

// setActive is SetActive in the state goroutine.
func (r *Robot) setActive(req activeReq) {
	r.s.active = req.active
	r.s.imageSource, r.s.depth.source = -1, -1 // subscriptions are made anew
	if !req.active {
		for _, q := range r.s.queue {
			r.refuse(q, msgs.AnswerErrorModelNotReady, inactiveSentence)
		}
		r.s.queue = nil
		if q := r.s.running; q != nil {
			q.cancel(errInactive)
		}
		for _, job := range append(r.s.waiting, r.s.encodeQueue...) {
			r.drop(job, CauseModelNotReady, "the node was deactivated")
		}
		r.s.encoded += uint64(len(r.s.encodeQueue)) // no longer waited for
		r.s.waiting, r.s.encodeQueue = nil, nil
		r.s.depth.forget()
	}
	req.done <- struct{}{}
}

const inactiveSentence = "The node is not active; activate it through its lifecycle services."

// connectInputs subscribes to what a window is made of.
func (r *Robot) connectInputs() error {
	p, t := &r.cfg.Params, r.cfg.Transport
	names, err := resolveInputs(t, p)
	if err != nil {
		return err
	}
	type input struct {
		k      kind
		name   string
		sample msgs.Message
		qos    transport.QoS
	}
	// Transforms and intrinsics first, so that the first frames find them.
	inputs := []input{
		{kindTFStatic, "/tf_static", &msgs.TFMessage{}, p.QoSTFStatic()},
		{kindTF, "/tf", &msgs.TFMessage{}, p.QoSTF()},
		{kindCameraInfo, names.info, &msgs.CameraInfo{}, p.QoSCameraInfo()},
		{kindMap, names.mapPoints, &msgs.PointCloud2{}, p.QoSMap()},
	}
	for _, in := range inputs {
		if err := r.subscribe(false, in.k, 0, in.name, in.sample, in.qos); err != nil {
			return err
		}
	}
	if err := r.connectImages(kindImage, p.ImageTransport, names.image, names.compressed); err != nil {
		return err
	}
	if r.measures {
		if err := r.connectDepth(); err != nil {
			return err
		}
	}
	r.log.Info().Str("image", names.image).Str("camera_info", names.info).Str("map", names.mapPoints).Str("fixed_frame", p.FixedFrame).Msg("listening")
	return nil
}

// connectImages subscribes to images of a kind as they are, compressed, or both where the transport is left open.
func (r *Robot) connectImages(k kind, transport, raw, compressed string) error {
	qos := r.cfg.Params.QoSImage()
	if transport != "compressed" {
		if err := r.subscribe(false, k, sourceRaw, raw, &msgs.Image{}, qos); err != nil {
			return err
		}
	}
	if transport != "raw" {
		return r.subscribe(false, k, sourceCompressed, compressed, &msgs.CompressedImage{}, qos)
	}
	return nil
}

// subscribe hands messages of a topic over to the intake; always says that an inactive robot keeps it.
func (r *Robot) subscribe(always bool, k kind, source int, name string, sample msgs.Message, qos transport.QoS) error {
	s, err := r.cfg.Transport.Subscribe(name, sample, qos, r.handOver(k, source))
	if err != nil {
		return err
	}
	e := &r.ends
	e.mu.Lock()
	defer e.mu.Unlock()
	e.subs = append(e.subs, s)
	if always {
		e.always = append(e.always, s)
	}
	switch k {
	case kindImage:
		e.images[source] = s
	case kindDepth:
		e.depths[source] = s
	}
	return nil
}

// disconnectInputs takes connectInputs back. It must not be called from the state goroutine: closing may wait for a delivery
// that waits for that.
func (r *Robot) disconnectInputs() {
	e := &r.ends
	e.mu.Lock()
	var ended []transport.Subscription
	e.subs = slices.DeleteFunc(e.subs, func(s transport.Subscription) bool {
		if slices.Contains(e.always, s) {
			return false
		}
		ended = append(ended, s)
		return true
	})
	clear(e.images)
	clear(e.depths)
	e.mu.Unlock()
	for _, s := range ended {
		_ = s.Close() // nothing can be done about it
	}
}
