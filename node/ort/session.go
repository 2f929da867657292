package ort

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	ort "github.com/yalue/onnxruntime_go"

	"github.com/stllm/stllm/node/graph"
)

// Options of a session.
type Options struct {
	Device  string // "cpu" (default), "cuda", "cuda:1"
	Threads int    // CPU threads in one operator; 0: all cores
	// Spin keeps worker threads spinning between the operators of a run, which makes runs of many small operators (decoding)
	// a quarter faster. They sleep as soon as no run is under way.
	Spin bool
	// MapWeights uses float32 weights in their file without a copy and without repacking: loads at once, needs no memory of
	// its own, and multiplies large matrices at about half the speed. Never with MatMulNBits. What graph.Product and
	// graph.CodeProduct multiply is never repacked.
	MapWeights bool
	// Shrink gives the memory of a run's inner values back when the run ends, instead of keeping as much as the largest run
	// has needed: for sessions that each need much of it and take turns.
	Shrink bool
	// Lean is Shrink, and on the CPU gives back each value's as soon as it is used: less at a time, and slower.
	Lean bool
}

// Session is a model ready to run. Run may be called from several goroutines.
type Session struct {
	name    string
	running sync.RWMutex                // held for reading by runs: the weights of one under way must not be unmapped
	s       *ort.DynamicAdvancedSession // nil: closed
	inputs  []*graph.Value
	outputs []*graph.Value
	device  *device        // nil: the processor
	product *products      // nil: the model has none
	weights *mappedWeights // nil: ONNX Runtime maps them itself
	shrink  string         // the arena that a run shrinks at its end, in ONNX Runtime's words; "": none
}

// NewSession loads a model.
func NewSession(env *Environment, m *graph.Model, o Options) (*Session, error) {
	if env == nil {
		return nil, errNoEnvironment
	}
	fail := func(err error) (*Session, error) { return nil, fmt.Errorf("session %s: %w", m.Name, err) }
	so, err := ort.NewSessionOptions()
	if err != nil {
		return fail(err)
	}
	defer so.Destroy()
	if o.Threads > 0 {
		if err := so.SetIntraOpNumThreads(o.Threads); err != nil {
			return fail(err)
		}
	}
	entries := map[string]string{"session.intra_op.allow_spinning": "0"}
	if o.Spin {
		entries["session.intra_op.allow_spinning"], entries["session.force_spinning_stop"] = "1", "1"
	}
	if m.Folder != "" {
		entries["session.model_external_initializers_file_folder_path"] = m.Folder
	}
	if o.MapWeights {
		entries["session.disable_prepacking"] = "1"
	}
	for k, v := range entries {
		if err := so.AddSessionConfigEntry(k, v); err != nil {
			return fail(err)
		}
	}
	if o.Lean {
		// Large blocks come from the system and go back to it.
		if err := errors.Join(so.SetCpuMemArena(false), so.SetMemPattern(false)); err != nil {
			return fail(err)
		}
	}
	device, index := CPU, ""
	if o.Device != "" {
		if device, index, err = ParseDevice(o.Device); err != nil {
			return fail(err)
		}
		if device == CUDA {
			if m.Own {
				return fail(errors.New("the model has operators of the CPU's (graph.Product and others), the device is CUDA: build it without"))
			}
			if err := appendCUDA(so, index); err != nil {
				return fail(err)
			}
		}
	}
	s := &Session{name: m.Name, inputs: bare(m.Inputs), outputs: bare(m.Outputs)}
	switch {
	case device == CUDA && (o.Shrink || o.Lean):
		s.shrink = "gpu:" + index
	case o.Shrink && !o.Lean:
		s.shrink = "cpu:0"
	}
	if m.Own {
		if s.product, err = addProducts(so, env.path); err == nil {
			s.weights, err = addWeights(so, env.path, m.External)
		}
		if err != nil {
			return fail(errors.Join(err, s.Close()))
		}
	}
	if s.s, err = ort.NewDynamicAdvancedSessionWithONNXData(m.Proto, names(m.Inputs), names(m.Outputs), so); err != nil {
		return fail(errors.Join(err, s.Close()))
	}
	if device == CUDA {
		if err := s.openDevice(env, index); err != nil {
			return fail(errors.Join(err, s.Close()))
		}
	}
	return s, nil
}

// appendCUDA adds the CUDA provider. float32 stays float32 there: products of 19 bits would not meet the reference. It has
// been read and not run: no machine of ours had a GPU when it was written (make gpu-check runs it).
func appendCUDA(so *ort.SessionOptions, index string) error {
	restore := keepSignals()
	defer restore()
	if err := needCUDA(); err != nil {
		return err
	}
	c, err := ort.NewCUDAProviderOptions()
	if err != nil {
		return fmt.Errorf("CUDA: %w (is the library the GPU build? run `stllm setup --gpu`, or point STLLM_ONNXRUNTIME to one)", err)
	}
	defer c.Destroy()
	if err := c.Update(map[string]string{"device_id": index, "arena_extend_strategy": "kSameAsRequested", "use_tf32": "0"}); err != nil {
		return fmt.Errorf("CUDA device %s: %w", index, err)
	}
	if err := so.AppendExecutionProviderCUDA(c); err != nil {
		return fmt.Errorf("CUDA device %s: %w", index, err)
	}
	return nil
}

// bare are values without the graph that they are of, whose weights would otherwise stay in memory with them.
func bare(vs []*graph.Value) []*graph.Value {
	out := make([]*graph.Value, len(vs))
	for i, v := range vs {
		out[i] = &graph.Value{Name: v.Name, DType: v.DType, Shape: v.Shape}
	}
	return out
}

func names(vs []*graph.Value) []string {
	out := make([]string, len(vs))
	for i, v := range vs {
		out[i] = v.Name
	}
	return out
}

// Values are tensors by name.
type Values map[string]*Tensor

// Close frees all of them.
func (v Values) Close() {
	for _, t := range v {
		t.Close()
	}
}

// Run runs the model. Tensors in into are written in place and come back as they are (they may be inputs of the same run,
// which is how a key/value cache grows without a copy); the other outputs are new and the caller's to close. When ctx ends,
// the run is stopped within one operator and ctx's error returned.
func (s *Session) Run(ctx context.Context, in, into Values) (Values, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.running.RLock()
	defer s.running.RUnlock()
	if s.s == nil {
		return nil, fmt.Errorf("session %s is closed", s.name)
	}
	inputs := make([]ort.Value, len(s.inputs))
	for i, want := range s.inputs {
		t := in[want.Name]
		if err := fits(want, t); err != nil {
			return nil, fmt.Errorf("session %s: input %w", s.name, err)
		}
		inputs[i] = t.value
	}
	if len(in) != len(s.inputs) {
		return nil, fmt.Errorf("session %s: %d inputs given, expected %v", s.name, len(in), names(s.inputs))
	}
	outputs := make([]ort.Value, len(s.outputs))
	for i, want := range s.outputs {
		if t, ok := into[want.Name]; ok {
			if err := fits(want, t); err != nil {
				return nil, fmt.Errorf("session %s: output %w", s.name, err)
			}
			outputs[i] = t.value
		}
	}
	for name := range into {
		if !slices.ContainsFunc(s.outputs, func(v *graph.Value) bool { return v.Name == name }) {
			return nil, fmt.Errorf("session %s: output %s is not one of %v", s.name, name, names(s.outputs))
		}
	}
	ro, err := ort.NewRunOptions()
	if err != nil {
		return nil, fmt.Errorf("session %s: %w", s.name, err)
	}
	if s.shrink != "" {
		if err := ro.AddRunConfigEntry("memory.enable_memory_arena_shrinkage", s.shrink); err != nil {
			return nil, errors.Join(fmt.Errorf("session %s: %w", s.name, err), ro.Destroy())
		}
	}
	done := make(chan struct{})
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		// A terminate flag set between two operators can be missed by a run that has not begun: set it until it ends.
		for {
			_ = ro.Terminate()
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	err = s.s.RunWithOptions(inputs, outputs, ro)
	close(done)
	if !stop() {
		<-stopped
	}
	_ = ro.Destroy()
	if err != nil {
		// A failed run makes no outputs; onnxruntime_go may leave typed nils in the slice, so it is not looked at.
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("session %s: %w", s.name, err)
	}
	result, err := s.collect(outputs, into)
	if err != nil {
		return nil, fmt.Errorf("session %s: %w", s.name, err)
	}
	if ctx.Err() != nil {
		s.release(result, into)
		return nil, ctx.Err()
	}
	return result, nil
}

func (s *Session) collect(outputs []ort.Value, into Values) (Values, error) {
	result := make(Values, len(outputs))
	for i, v := range outputs {
		name := s.outputs[i].Name
		if t, ok := into[name]; ok {
			result[name] = t
			continue
		}
		t, err := wrap(v)
		if err != nil {
			s.release(result, into)
			return nil, fmt.Errorf("output %s: %w", name, err)
		}
		result[name] = t
	}
	return result, nil
}

// release frees new outputs and leaves the caller's alone.
func (s *Session) release(result, into Values) {
	for name, t := range result {
		if into[name] != t {
			t.Close()
		}
	}
}

func fits(want *graph.Value, t *Tensor) error {
	if t == nil || t.value == nil {
		return fmt.Errorf("%s is missing, expected %s%s", want.Name, want.DType, want.Shape)
	}
	ok := t.dtype == want.DType && len(t.shape) == len(want.Shape)
	if ok {
		for i, d := range want.Shape {
			ok = ok && (!d.Known() || d.Size == int64(t.shape[i]))
		}
	}
	if !ok {
		return fmt.Errorf("%s is %s%s, expected %s%s", want.Name, t.dtype, strings.ReplaceAll(fmt.Sprint(t.shape), " ", ","), want.DType, want.Shape)
	}
	return nil
}

// Close frees the session, when runs that are under way have ended. It may be called twice.
func (s *Session) Close() error {
	if s == nil {
		return nil
	}
	s.running.Lock()
	defer s.running.Unlock()
	err := s.device.close()
	s.device = nil
	if s.s != nil {
		err = errors.Join(err, s.s.Destroy())
		s.s = nil
	}
	s.product.close() // these after the session that uses them
	s.weights.close()
	return err
}
