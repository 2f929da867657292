package trainer

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/rays"
	"github.com/stllm/stllm/node/stllm/placecode"
	"github.com/stllm/stllm/node/stllm/prompt"
	"github.com/stllm/stllm/node/trainer/record"
)

// The regression head's columns: places of the two things asked about, the first of them at the moment asked about, the
// camera of that moment, distances at the window's start and end. All in units of two metres but the turn.
const (
	targetFirst    = 0 // x, y, z in the level frame of the current camera
	targetSecond   = 3
	targetThen     = 6  // x, y in that of the moment
	targetCamera   = 8  // x, y, cos and sin of the turn
	targetDistance = 12 // at the start, at the end
	targets        = 14
	unit           = 2.0 // metres
)

// mode says which modalities a batch has.
type mode int

const (
	everything mode = iota
	noVideo
	noPoints
)

// windowBatch is one window of a scene with some of its questions.
type windowBatch struct {
	scene     *scene
	window    *record.Window
	questions []record.Question
	voxels    int // at most; 0: all
	mode      mode
}

// answers are where a batch's answer tokens stand, to be compared with what the decoder says.
type answers struct {
	ids   []int32 // of all answers, one after the other
	count []int   // by question
}

// batch lays out a window for the program: see answerProgram for the inputs.
func (t *Trainer) batch(w windowBatch, r *rand.Rand) (Batch, answers, error) {
	b := Batch{}
	if err := t.memory(b, w, r); err != nil {
		return nil, answers{}, err
	}
	a, err := t.texts(b, w)
	if err != nil {
		return nil, a, err
	}
	list, err := w.asked()
	if err != nil {
		return nil, a, err
	}
	if err := t.targets(b, w, list); err != nil {
		return nil, a, err
	}
	return b, a, t.moments(b, w, list)
}

// asked is where a question's answer lies: the level frame of the moment that it speaks of, and the places that decide it, of
// two to compare the one first that was nearer then, since the heads know no order of the two. There are none for what is
// not there.
type asked struct {
	then   geometry.Transform
	places []r3.Vec
}

func (w windowBatch) asked() ([]asked, error) {
	list := make([]asked, len(w.questions))
	for i, q := range w.questions {
		then, err := rays.Ego(q.Moment, r3.Vec{Z: 1})
		if err != nil {
			return nil, err
		}
		list[i].then = then
		if q.Label == "unseen" {
			continue
		}
		places := slices.Clone(q.Targets)
		if len(places) == 2 && strings.Contains(q.Kind, "nearer") {
			if a, b := then.Apply(places[0]), then.Apply(places[1]); math.Hypot(a.X, a.Y) > math.Hypot(b.X, b.Y) {
				places[0], places[1] = places[1], places[0]
			}
		}
		list[i].places = places
	}
	return list, nil
}

// memory adds voxels, patches and frames.
func (t *Trainer) memory(b Batch, w windowBatch, r *rand.Rand) error {
	s, c := w.scene, t.cfg
	pick := s.pick(w.voxels, r)
	win := placecode.Window{Grid: c.VisionConfig.Grid()}
	for _, i := range pick {
		for k := range 3 {
			win.Centroids = append(win.Centroids, float64(s.Centroids[3*i+k]))
		}
	}
	edge, per := c.VisionConfig.ImageSize, c.VisionConfig.Grid()*c.VisionConfig.Grid()
	for _, f := range w.window.Frames {
		win.Frames = append(win.Frames, placecode.Frame{Stamp: s.Frames[f].Stamp, Pose: s.Frames[f].Pose, K: s.K, Width: edge, Height: edge})
		if w.mode != noPoints && c.RobotConfig.Place() != config.RayPlace {
			win.PatchPlaces = append(win.PatchPlaces, s.Places[f]...)
		}
	}
	if w.mode == noVideo || !c.RobotConfig.PatchMemory {
		win.Grid = 0
	}
	if w.mode == noPoints {
		win.Centroids, pick = nil, nil
	}
	rows, err := t.code.Encode(win)
	if err != nil {
		return err
	}
	points := make([]float32, len(pick)*c.PcdFeatureDim)
	h := t.space.Half
	for n, i := range pick {
		t.widen(points[n*c.PcdFeatureDim:], s.Voxels[i*h:(i+1)*h], c.PcdFeatureDim)
	}
	frames := len(w.window.Frames)
	images, patches := make([]float32, frames*c.HiddenSize), []float32(nil)
	if w.mode != noVideo {
		patches = make([]float32, frames*per*c.HiddenSize)
		for n, f := range w.window.Frames {
			rows := patches[n*per*c.HiddenSize : (n+1)*per*c.HiddenSize]
			t.widen(rows, s.Patches[f], c.HiddenSize)
			mean := images[n*c.HiddenSize : (n+1)*c.HiddenSize]
			for i, v := range rows {
				mean[i%c.HiddenSize] += v / float32(per)
			}
		}
	}
	b.rows("points", points, c.PcdFeatureDim)
	b.rows("point_rays", rows.Voxels, c.PointColumns())
	if c.RobotConfig.PatchMemory {
		b.rows("patches", patches, c.HiddenSize)
		b.rows("patch_rays", rows.Patches, c.PointColumns())
	}
	b.rows("images", images, c.HiddenSize)
	b.rows("image_rays", rows.Cameras, c.ImageColumns())
	return nil
}

// rows adds a matrix; what is left out is one empty row, as in the node.
func (b Batch) rows(name string, data []float32, width int) {
	if len(data) == 0 {
		data = make([]float32, width)
	}
	b[name] = Feed{Shape: []int{len(data) / width, width}, Float32s: data}
}

// pick chooses voxels: furniture first, the rest by chance; all where most is 0.
func (s *scene) pick(most int, r *rand.Rand) []int {
	n := len(s.Object)
	if most == 0 || n <= most {
		out := make([]int, n)
		for i := range out {
			out[i] = i
		}
		return out
	}
	var object, rest []int
	for i, o := range s.Object {
		if o {
			object = append(object, i)
		} else {
			rest = append(rest, i)
		}
	}
	r.Shuffle(len(object), func(i, j int) { object[i], object[j] = object[j], object[i] })
	r.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	take := min(len(object), most*5/6)
	out := append(object[:take:take], rest[:min(len(rest), most-take)]...)
	slices.Sort(out)
	return out
}

// hidden is what a score of something that is not there gets.
const hidden = -1e4

// texts adds the questions for the aligner and the sequences for the decoder.
func (t *Trainer) texts(b Batch, w windowBatch) (answers, error) {
	c := t.cfg
	n, frames := len(w.questions), len(w.window.Frames)
	var a answers
	var asked, tails [][]int32
	var head, middle []int32
	for _, q := range w.questions {
		p, err := t.prompt(w, q.Text)
		if err != nil {
			return a, err
		}
		asked = append(asked, p.QFormer)
		var text [][]int32
		for _, block := range prompt.Splice(p.IDs, 1, 1) {
			if block.Kind == prompt.Text {
				text = append(text, block.IDs)
			}
		}
		if len(text) != 3 {
			return a, fmt.Errorf("prompt has %d stretches of text, expected three", len(text))
		}
		head, middle = text[0], text[1]
		answer := append(t.tok.Encode(q.Answer), t.end)
		a.ids = append(a.ids, answer...)
		a.count = append(a.count, len(answer))
		tails = append(tails, append(slices.Clone(text[2]), answer...))
	}
	longest := 0
	for _, ids := range asked {
		longest = max(longest, len(ids))
	}
	text := make([]float32, n*longest*c.HiddenSize)
	lead := c.QFormerConfig.NumQueryTokens + frames
	mask := make([]float32, n*(lead+longest))
	for i, ids := range asked {
		t.embed(text[i*longest*c.HiddenSize:], ids)
		for j := len(ids); j < longest; j++ {
			mask[i*(lead+longest)+lead+j] = hidden
		}
	}
	b["text"] = Feed{Shape: []int{n, longest, c.HiddenSize}, Float32s: text}
	b["text_mask"] = Feed{Shape: []int{n, 1, 1, lead + longest}, Float32s: mask}
	if err := t.steps(b, w, asked); err != nil {
		return a, err
	}

	long := 0
	for _, ids := range tails {
		long = max(long, len(ids))
	}
	tail := make([]float32, n*long*c.HiddenSize)
	spatial := c.QFormerConfig.NumQueryTokens // tokens of a question, of which its own words may be fewer than the longest's
	if c.RobotConfig.SequenceTokens {
		spatial = lead + longest
	}
	total := len(head) + spatial + len(middle) + 2*frames + long
	var at, label, order []int64
	for i, ids := range tails {
		t.embed(tail[i*long*c.HiddenSize:], ids)
		gap, after := 0, len(head)+spatial // absent tokens end here
		if c.RobotConfig.SequenceTokens {
			gap = longest - len(asked[i])
		}
		for j := range total {
			switch {
			case j < after-gap:
				order = append(order, int64(i*total+j))
			case j < total-gap:
				order = append(order, int64(i*total+j+gap))
			default:
				order = append(order, int64(i*total+j-(total-after))) // behind everything, where nobody looks
			}
		}
		first := total - long - gap
		for j := len(ids) - a.count[i]; j < len(ids); j++ {
			at = append(at, int64(i*total+first+j-1)) // the state before says the token
			label = append(label, int64(ids[j]))
		}
	}
	b.rows("head", t.embedding(head), c.HiddenSize)
	b.rows("middle", t.embedding(middle), c.HiddenSize)
	b["tail"] = Feed{Shape: []int{n, long, c.HiddenSize}, Float32s: tail}
	b["order"] = Feed{Shape: []int{len(order)}, Int64s: order}
	b["at"] = Feed{Shape: []int{len(at)}, Int64s: at}
	b["label"] = Feed{Shape: []int{len(label)}, Int64s: label}
	place, causal := make([]int64, total), make([]float32, total*total)
	for i := range total {
		place[i] = int64(i)
		for j := i + 1; j < total; j++ {
			causal[i*total+j] = hidden
		}
	}
	b["place"] = Feed{Shape: []int{total}, Int64s: place}
	b["causal"] = Feed{Shape: []int{1, 1, 1, total, total}, Float32s: causal}
	return a, nil
}

func (t *Trainer) prompt(w windowBatch, question string) (prompt.Prompt, error) {
	s, f := w.scene, w.window.Frames
	first := s.Frames[f[0]].Stamp
	times := make([]float64, len(f))
	for i, k := range f {
		times[i] = float64(s.Frames[k].Stamp-first) / 1e9
	}
	return t.prompts.Build(question, times, times[len(times)-1])
}

// embed writes the rows of tokens.
func (t *Trainer) embed(to []float32, ids []int32) {
	d := t.cfg.HiddenSize
	for i, id := range ids {
		copy(to[i*d:(i+1)*d], t.table.Data[int(id)*d:])
	}
}

func (t *Trainer) embedding(ids []int32) []float32 {
	out := make([]float32, len(ids)*t.cfg.HiddenSize)
	t.embed(out, ids)
	return out
}

// targets adds what the regression head is to say, with a weight for each number (0: nothing is known), the class of the
// furniture that the answer names, and whether the thing is there at all.
func (t *Trainer) targets(b Batch, w windowBatch, list []asked) error {
	n := len(w.questions)
	value, weight := make([]float32, n*targets), make([]float32, n*targets)
	classes := len(t.space.Direction)
	class, unseen := make([]float32, n*classes), make([]float32, n)
	now, err := rays.Ego(w.scene.Frames[w.window.Frames[len(w.window.Frames)-1]].Pose, r3.Vec{Z: 1})
	if err != nil {
		return err
	}
	for i, q := range w.questions {
		set := func(at int, v ...float64) {
			for k, x := range v {
				value[i*targets+at+k], weight[i*targets+at+k] = float32(x), 1
			}
		}
		unseen[i] = -1
		if q.Label == "unseen" {
			unseen[i] = 1
			continue
		}
		then, places := list[i].then, list[i].places
		if len(places) == 0 {
			continue
		}
		for k, p := range places[:min(2, len(places))] {
			v := r3.Scale(1/unit, now.Apply(p))
			set(targetFirst+3*k, v.X, v.Y, v.Z)
		}
		v := r3.Scale(1/unit, then.Apply(places[0]))
		set(targetThen, v.X, v.Y)
		camera := then.Inverse()
		at := r3.Scale(1/unit, now.Apply(camera.Translation))
		ahead := now.Rotate(camera.Rotate(r3.Vec{Y: 1}))
		set(targetCamera, at.X, at.Y, ahead.Y, ahead.X)
		if q.Distances != [2]float64{} {
			set(targetDistance, q.Distances[0]/unit, q.Distances[1]/unit)
		}
		if k := named(q.Label); k >= 0 {
			class[i*classes+k] = 1
		}
	}
	b["target"] = Feed{Shape: []int{n, targets}, Float32s: value}
	b["target_weight"] = Feed{Shape: []int{n, targets}, Float32s: weight}
	b["class"] = Feed{Shape: []int{n, classes}, Float32s: class}
	b["unseen"] = Feed{Shape: []int{n, 1}, Float32s: unseen}
	return nil
}

// Poses this near to that of the moment asked about show the same: metres and radians.
const (
	nearMetres = 0.3
	nearTurn   = 0.35
)

// moments adds what the head on frame tokens is to say: the first thing's place in the level frame of each frame, and the
// share of each frame in the moment asked about, by how near its camera is to that of the moment.
func (t *Trainer) moments(b Batch, w windowBatch, list []asked) error {
	n, frames, lead := len(w.questions), len(w.window.Frames), t.cfg.QFormerConfig.NumQueryTokens
	length := b["text_mask"].Shape[3]
	target, weight := make([]float32, 2*n*length), make([]float32, 2*n*length)
	share, mask := make([]float32, n*length), make([]float32, length)
	for i := range mask {
		if i < lead || i >= lead+frames {
			mask[i] = hidden
		}
	}
	egos, cameras := make([]geometry.Transform, frames), make([]r3.Vec, frames)
	for i, f := range w.window.Frames {
		var err error
		if egos[i], err = rays.Ego(w.scene.Frames[f].Pose, r3.Vec{Z: 1}); err != nil {
			return err
		}
		cameras[i] = egos[i].Inverse().Translation
	}
	for i, q := range list {
		camera := q.then.Inverse()
		heading := camera.Rotate(r3.Vec{Y: 1})
		row, sum := share[i*length+lead:][:frames], float32(0)
		best, at := math.Inf(1), 0
		for k, ego := range egos {
			d := r3.Norm(r3.Sub(cameras[k], camera.Translation)) / nearMetres
			a := ego.Rotate(heading)
			turn := math.Atan2(a.X, a.Y) / nearTurn
			far := d*d + turn*turn
			if far < best {
				best, at = far, k
			}
			row[k] = float32(math.Exp(-far))
			sum += row[k]
		}
		if sum < 0.1 { // no frame is near: the nearest one stands for the moment
			clear(row)
			row[at], sum = 1, 1
		}
		for k := range row {
			row[k] /= sum
		}
		if len(q.places) == 0 {
			continue
		}
		for k, ego := range egos {
			p := r3.Scale(1/unit, ego.Apply(q.places[0]))
			j := 2 * (i*length + lead + k)
			target[j], target[j+1], weight[j], weight[j+1] = float32(p.X), float32(p.Y), 1, 1
		}
	}
	b["frame_target"] = Feed{Shape: []int{n, length, 2}, Float32s: target}
	b["frame_weight"] = Feed{Shape: []int{n, length, 2}, Float32s: weight}
	b["moment"] = Feed{Shape: []int{n, length}, Float32s: share}
	b["moment_mask"] = Feed{Shape: []int{1, length}, Float32s: mask}
	return nil
}

// named is the class of furniture that a label names first before a comma, "nearer: x" included; -1 for none.
func named(label string) int {
	name, _, _ := strings.Cut(strings.TrimPrefix(label, "nearer: "), ",")
	return slices.Index(kitchen.Classes(), name)
}
