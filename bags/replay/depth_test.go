package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/kitchen/render"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/stllm"
)

// measuring is an echo that wants depth of 8 × 8 patches, and says what it was told of it.
type measuring struct{ echo }

func (measuring) DepthUse() stllm.DepthUse { return stllm.DepthUse{Grid: 8, Near: 0.3, Far: 8} }

func (m measuring) Answer(ctx context.Context, req stllm.Request, emit func(stllm.Progress)) (stllm.Answer, error) {
	a, err := m.echo.Answer(ctx, req, func(stllm.Progress) {})
	for _, f := range req.Frames {
		a.Text += fmt.Sprintf("; %.4f", f.Depth)
	}
	emit(stllm.Progress{Stage: stllm.StageDecode, Tokens: 1, Delta: a.Text})
	return a, err
}

func deep(t *testing.T, depth bool) (string, *kitchen.Kitchen) {
	t.Helper()
	k, err := kitchen.Generate(kitchen.Options{Seed: 5, Seconds: 2.5, Width: 160, Height: 120, Depth: depth})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "k.bag")
	if err := kitchen.Write(t.Context(), k, path, nil); err != nil {
		t.Fatal(err)
	}
	return path, k
}

func playWith(t *testing.T, m stllm.Model, out string, rate float64, bag string) *Result {
	t.Helper()
	res, err := Run(t.Context(), Options{Bags: []string{bag}, Questions: questions(), Out: out, Rate: rate, Model: m, Params: params.Default()})
	if err != nil {
		t.Fatal(err)
	}
	return res
}

// A bag's depth reaches the model with every frame, at any rate the same; frames.jsonl and summary.json tell of it.
func TestDepth(t *testing.T) {
	bag, k := deep(t, true)
	fast, slow := t.TempDir(), t.TempDir()
	res := playWith(t, measuring{}, fast, 0, bag)
	playWith(t, measuring{}, slow, 3, bag)
	for _, name := range []string{"answers.jsonl", "frames.jsonl", "dropped.jsonl"} {
		if !bytes.Equal(read(t, fast, name), read(t, slow, name)) {
			t.Errorf("%s differs between rates", name)
		}
	}
	d := res.Status.Depth
	if res.Topics.Depth != kitchen.DepthTopic || d.Frames != res.Status.Frames || len(d.Lacking) != 0 || len(d.Refused) != 0 || res.Images != len(k.Frames) {
		t.Errorf("%+v: %+v, %d frames of %d images", res.Topics, d, res.Status.Frames, res.Images)
	}
	lines := 0
	for line := range strings.Lines(string(read(t, fast, "frames.jsonl"))) {
		var f struct {
			Patches int `json:"depth_patches"`
		}
		if err := json.Unmarshal([]byte(line), &f); err != nil || f.Patches < 32 || f.Patches > 64 {
			t.Errorf("%d patches have depth, %v", f.Patches, err)
		}
		lines++
	}
	for _, key := range []string{"encode_frame_seconds", "encode_seconds"} {
		if !regexp.MustCompile(`"` + key + `": [0-9.e-]*[1-9]`).Match(read(t, fast, "summary.json")) {
			t.Errorf("summary.json has no %s", key)
		}
	}
	if lines != int(d.Frames) || !strings.Contains(string(read(t, fast, "summary.json")), fmt.Sprintf(`"frames_with_depth": %d`, lines)) {
		t.Errorf("%d lines\n%s", lines, read(t, fast, "summary.json"))
	}
	right(t, res, k)
}

// right compares what the patches of frames are told with what is truly there, in the renderer's own depth. The camera's error
// that neighbours share has a standard deviation of 0.002 times the square of the distance, so half of all are within that; edges
// are among the last tenth.
func right(t *testing.T, res *Result, k *kitchen.Kitchen) {
	t.Helper()
	var pic render.Picture
	var off []float64
	for _, f := range res.Answers[1].Outcome.Frames { // of the question at 1.2 s
		k.Picture(int(f.Seq), &pic)
		for i, z := range f.Depth {
			// A patch's centre lies between two rows of pixels.
			above := ((i/8)*15+7)*160 + (i%8)*20 + 10
			if want := 2 / (1/pic.Depth[above] + 1/pic.Depth[above+160]); z > 0 {
				off = append(off, math.Abs(float64(z-want))/float64(want*want))
			}
		}
	}
	slices.Sort(off)
	if len(off) < 100 || off[len(off)/2] > 0.002 || off[len(off)*9/10] > 0.02 {
		t.Errorf("%d patches, half of them within %.4f times the square of the distance of the truth, nine tenths within %.4f", len(off), off[len(off)/2], off[len(off)*9/10])
	}
}

// A model that wants no depth does the same whether the bag has depth or not; one that wants it works with a bag that has none.
func TestDepthIsOptional(t *testing.T) {
	with, _ := deep(t, true)
	without, _ := deep(t, false)
	a, b, c := t.TempDir(), t.TempDir(), t.TempDir()
	one := playWith(t, echo{}, a, 0, with)
	playWith(t, echo{}, b, 0, without)
	lacking := playWith(t, measuring{}, c, 0, without)
	for _, name := range []string{"answers.jsonl", "frames.jsonl", "dropped.jsonl"} {
		if !bytes.Equal(read(t, a, name), read(t, b, name)) {
			t.Errorf("%s differs with a depth topic that nobody wants", name)
		}
	}
	if !bytes.Equal(read(t, b, "frames.jsonl"), read(t, c, "frames.jsonl")) {
		t.Error("frames.jsonl differs with a model that wants depth, of a bag that has none")
	}
	if one.Topics.Depth != "" || lacking.Topics.Depth != "" || lacking.Status.Depth.Wanted {
		t.Errorf("%+v, %+v, %+v", one.Topics, lacking.Topics, lacking.Status.Depth)
	}
	for _, topic := range []string{"/elsewhere", kitchen.InfoTopic} { // the second one is there, but not of images
		p := params.Default()
		p.DepthTopic = topic
		if _, err := Run(t.Context(), Options{Bags: []string{without}, Model: measuring{}, Params: p}); err == nil || !strings.Contains(err.Error(), "depth images on "+topic) {
			t.Errorf("%s for a depth topic: %v", topic, err)
		}
	}
}

// Frames that still wait for depth at the bag's end enter the window, however long they might have waited.
func TestDepthThatNeverComes(t *testing.T) {
	bag, k := deep(t, true)
	short := filepath.Join(t.TempDir(), "short.bag")
	copyWithout(t, bag, short, kitchen.DepthTopic, 3)
	p := params.Default()
	p.DepthTimeout = 20
	end := Question{ID: "end", Text: "what?", End: true}
	res, err := Run(t.Context(), Options{Bags: []string{short}, Questions: []Question{end}, Out: t.TempDir(), Model: measuring{}, Params: p})
	if err != nil {
		t.Fatal(err)
	}
	st := res.Status
	if int(st.Frames) != len(k.Frames) || int(st.Depth.Frames) != len(k.Frames)-3 || st.Depth.Lacking["none within depth_timeout"] != 3 {
		t.Errorf("%d frames of %d, %+v", st.Frames, len(k.Frames), st.Depth)
	}
	if o := res.Answers[0].Outcome; o.Answer.ErrorCode != 0 {
		t.Errorf("at the end: %s", o.Answer.ErrorMessage)
	}
}

// copyWithout copies a bag but for the last messages of a topic.
func copyWithout(t *testing.T, from, to, topic string, last int) {
	t.Helper()
	r, err := bags.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w, err := bags.Create(to)
	if err != nil {
		t.Fatal(err)
	}
	ids, left := map[*bags.Connection]*bags.Connection{}, -last
	for _, c := range r.Info().Connections {
		if ids[c], err = w.Add(*c); err != nil {
			t.Fatal(err)
		}
		if c.Topic == topic {
			left += int(c.Count)
		}
	}
	it := r.Messages(bags.Filter{})
	defer it.Close()
	for {
		m, err := it.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if m.Connection.Topic == topic {
			if left--; left < 0 {
				continue
			}
		}
		if err := w.Write(ids[m.Connection], m.LogTime, m.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
}

// Topics of depth images are told by their names, and never taken for the camera's.
func TestTopicsWithDepth(t *testing.T) {
	conn := func(topic, typ string) *bags.Connection {
		return &bags.Connection{Topic: topic, Type: "sensor_msgs/" + typ}
	}
	colour, info := conn("/c/color/image_raw", "Image"), conn("/c/color/camera_info", "CameraInfo")
	for _, c := range []struct {
		conns        []*bags.Connection
		image, depth string
	}{
		{[]*bags.Connection{conn("/c/depth/image_rect_raw", "Image"), colour, conn("/c/aligned_depth_to_color/image_raw", "Image"), info}, colour.Topic, "/c/aligned_depth_to_color/image_raw"},
		{[]*bags.Connection{conn("/c/depth/image_rect_raw", "Image"), colour, conn("/c/depth_registered/image_raw/compressedDepth", "CompressedImage"), info}, colour.Topic, "/c/depth_registered/image_raw/compressedDepth"},
		{[]*bags.Connection{conn("/c/depth/image_raw/compressedDepth", "CompressedImage"), conn("/c/color/image_raw/compressed", "CompressedImage"), info}, "/c/color/image_raw/compressed", "/c/depth/image_raw/compressedDepth"},
		{[]*bags.Connection{conn("/depth_to_rgb/image_raw", "Image"), conn("/rgb/image_raw", "Image"), conn("/rgb/camera_info", "CameraInfo")}, "/rgb/image_raw", "/depth_to_rgb/image_raw"},
		{[]*bags.Connection{colour, info}, colour.Topic, ""},
	} {
		p := params.Default()
		got, err := chooseTopics(c.conns, &p)
		if err == nil {
			got.Depth, err = chooseDepth(c.conns, &p, measuring{}, zerolog.Nop())
		}
		if err != nil || got.Image != c.image || got.Depth != c.depth || !strings.HasPrefix(c.depth, p.DepthTopic) {
			t.Errorf("%+v %q, %v, expected %s and %s", got, p.DepthTopic, err, c.image, c.depth)
		}
	}
}
