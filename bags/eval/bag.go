package eval

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/bags/replay"
	"github.com/stllm/stllm/calibration"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/picture"
	"github.com/stllm/stllm/node/scene"
	"github.com/stllm/stllm/node/stllm"
)

// BagOptions say how bags are replayed.
type BagOptions struct {
	Questions string             // questions file of a single bag; default: beside it, NAME.questions.yaml
	Params    params.Parameters  // of the robot; the zero value is params.Default()
	Links     []calibration.Link // static transforms that the bag lacks
	Frames    int                // frames that an answerer sees of a window, default 32
	Depth     stllm.DepthUse     // what it wants of measured depth
	// Boxes gives the furniture that pictures show, by bag; nil: none.
	Boxes func(bag string) []picture.Box
	Log   zerolog.Logger
}

// bagSource is a bag with questions. It is replayed by the robot of the live node once for all its questions, so an item
// shows exactly what the node would have seen at that moment.
type bagSource struct {
	bag   string
	o     BagOptions
	clips *cache[string, map[string]captured]
}

// Bags is the source of a bag, or of a folder of bags with their questions files.
func Bags(path string, o BagOptions) (Source, error) {
	if o.Params.FixedFrame == "" {
		o.Params = params.Default()
	}
	if o.Frames == 0 {
		o.Frames = 32
	}
	if o.Frames < 1 {
		return nil, fmt.Errorf("bags %s: frames is %d, expected at least 1", path, o.Frames)
	}
	shared := newCache[string, map[string]captured](1) // the pictures of one bag's questions can be hundreds of MB
	one := func(bag string) Source { return &bagSource{bag, o, shared} }
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("bags: %w", err)
	}
	if !info.IsDir() || isBag(path) {
		return one(path), nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, fmt.Errorf("bags: %w", err)
	}
	var all Several
	for _, e := range entries {
		if p := filepath.Join(path, e.Name()); isBag(p) {
			all = append(all, one(p))
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("bags: folder %s has no .bag, .mcap or .db3 and no ROS 2 bag folder", path)
	}
	if o.Questions != "" {
		return nil, fmt.Errorf("bags: one questions file %s for the folder %s of %d bags: put NAME.questions.yaml beside each", o.Questions, path, len(all))
	}
	return all, nil
}

// isBag tells by name, and of a folder by its metadata.
func isBag(path string) bool {
	if slices.Contains([]string{".bag", ".mcap", ".db3"}, filepath.Ext(path)) {
		return true
	}
	_, err := os.Stat(filepath.Join(path, "metadata.yaml"))
	return err == nil
}

func (s *bagSource) Name() string { return s.bag }

func (s *bagSource) questions() (string, []replay.Question, error) {
	path := s.o.Questions
	if path == "" {
		path = strings.TrimSuffix(s.bag, filepath.Ext(s.bag)) + ".questions.yaml"
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return path, nil, fmt.Errorf("bag %s: %w: %s is not there", s.bag, errNoQuestions, path)
		}
	}
	list, err := replay.ReadQuestions(path)
	return path, list, err
}

// Items lists the bag's questions. A bag whose questions cannot be read is one broken item.
func (s *bagSource) Items(context.Context) ([]Item, error) {
	stem := strings.TrimSuffix(filepath.Base(s.bag), filepath.Ext(s.bag))
	path, list, err := s.questions()
	if err != nil {
		return []Item{{ID: stem, File: path, Err: err}}, nil
	}
	var out []Item
	for _, q := range list {
		about, _ := q.Metadata["about"].(string)
		out = append(out, Item{
			ID: stem + "/" + q.ID, Task: stllm.Task(q.Task), Group: q.Group, Question: q.Text, Choices: q.Choices, Reference: q.Answer,
			Label: q.Label, About: about, File: path,
			Open: func(ctx context.Context) (*Clip, error) {
				all, err := s.clips.get(s.bag, func() (map[string]captured, error) { return replayed(ctx, s.bag, list, s.o) })
				if err != nil {
					return nil, err
				}
				return all[q.ID].get(s.bag)
			},
		})
	}
	return out, nil
}

// captured is what the robot would have answered a question from, or why it would not have.
type captured struct {
	clip *Clip
	err  error
}

func (c captured) get(bag string) (*Clip, error) {
	if c.clip == nil && c.err == nil {
		return nil, fmt.Errorf("the replay of %s did not come to the question", bag)
	}
	return c.clip, c.err
}

// replayed drives the robot by a bag and catches what each question would be answered from.
func replayed(ctx context.Context, bag string, list []replay.Question, opt BagOptions) (map[string]captured, error) {
	// What the recorder says would not pass for a choice or a plan, and neither changes what is seen.
	asked := slices.Clone(list)
	for i := range asked {
		asked[i].Choices, asked[i].Task = nil, ""
	}
	res, err := replay.Run(ctx, replay.Options{Bags: []string{bag}, Questions: asked, Model: recorder{opt.Frames, opt.Depth}, Params: opt.Params, Links: opt.Links, Log: opt.Log})
	if err != nil {
		return nil, err
	}
	var boxes []picture.Box
	if opt.Boxes != nil {
		boxes = opt.Boxes(bag)
	}
	out := map[string]captured{}
	for _, a := range res.Answers {
		o := a.Outcome
		if o.Answer.ErrorCode != 0 {
			out[a.Question.ID] = captured{err: fmt.Errorf("the node would not have answered: %s (error code %d)", o.Answer.ErrorMessage, o.Answer.ErrorCode)}
			continue
		}
		c := &Clip{Boxes: boxes}
		if o.Map != nil {
			c.Map = o.Map.Cloud
		}
		for _, f := range o.Frames {
			p, ok := f.Features.(recorded)
			if !ok {
				return nil, fmt.Errorf("replay of %s: a frame has features %T", bag, f.Features)
			}
			c.Frames = append(c.Frames, Frame{Name: fmt.Sprintf("image_%06d", f.Seq), Stamp: f.Stamp, Picture: p.RGB, Pose: f.Pose, K: f.K, Width: f.Width, Height: f.Height, Depth: f.Depth})
		}
		for _, f := range o.Seen {
			c.Path = append(c.Path, f.Pose)
		}
		if n := len(o.Seen); n > 1 {
			c.Seconds = float64(o.Seen[n-1].Stamp-o.Seen[0].Stamp) / 1e9
		}
		out[a.Question.ID] = captured{clip: c}
	}
	return out, nil
}

// Onlooker is a model that only looks: it keeps nothing of what it is shown and has nothing to say of it.
type Onlooker struct{ recorder }

// Frames is 1: nothing is done with them.
func (Onlooker) Frames() int { return 1 }

// EncodeFrame keeps nothing.
func (Onlooker) EncodeFrame(context.Context, *imaging.RGB) (stllm.FrameFeatures, error) {
	return recorded{&imaging.RGB{}}, nil
}

// recorder is a model that only remembers what it is shown.
type recorder struct {
	frames int
	depth  stllm.DepthUse
}

type recorded struct{ *imaging.RGB }

func (r recorded) Bytes() int { return len(r.Pix) }

type recordedMap struct{ *scene.Cloud }

func (recordedMap) Voxels() int { return 0 }

func (recorder) ID() string    { return "recorder" }
func (r recorder) Frames() int { return r.frames }
func (recorder) Close() error  { return nil }

// DepthUse is that of the model which is asked later.
func (r recorder) DepthUse() stllm.DepthUse { return r.depth }

func (recorder) EncodeFrame(_ context.Context, img *imaging.RGB) (stllm.FrameFeatures, error) {
	return recorded{img}, nil
}

func (recorder) EncodeMap(_ context.Context, c *scene.Cloud) (stllm.MapFeatures, error) {
	return recordedMap{c}, nil
}

func (recorder) Answer(context.Context, stllm.Request, func(stllm.Progress)) (stllm.Answer, error) {
	return stllm.Answer{Text: "seen", Finish: stllm.FinishStop}, nil
}
