package window

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

type weight int

func (w weight) Bytes() int { return int(w) }

func frame(stamp int64, bytes int) Frame {
	return Frame{Seq: uint64(stamp), Stamp: stamp, Features: weight(bytes)}
}

func stamps(frames []Frame) []int64 {
	var s []int64
	for _, f := range frames {
		s = append(s, f.Stamp)
	}
	return s
}

// Values are NumPy's: np.linspace(0, total-1, n, dtype=int).
func TestIndices(t *testing.T) {
	for _, c := range []struct {
		total, n int
		want     []int
	}{
		{10, 4, []int{0, 3, 6, 9}},
		{10, 3, []int{0, 4, 9}},
		{7, 5, []int{0, 1, 3, 4, 6}},
		{100, 7, []int{0, 16, 33, 49, 66, 82, 99}},
		{3, 5, []int{0, 0, 1, 1, 2}},
		{5, 1, []int{0}},
		{1, 3, []int{0, 0, 0}},
		{0, 3, nil},
		{3, 0, nil},
	} {
		if got := Indices(c.total, c.n); !slices.Equal(got, c.want) {
			t.Errorf("linspace(0, %d, %d) = %v, expected %v", c.total-1, c.n, got, c.want)
		}
	}
}

func TestPick(t *testing.T) {
	var all []Frame
	for i := range int64(10) {
		all = append(all, frame(i, 0))
	}
	if got := stamps(Pick(all, 4)); !slices.Equal(got, []int64{0, 3, 6, 9}) {
		t.Errorf("%v", got)
	}
	if got := stamps(Pick(all[:3], 4)); !slices.Equal(got, []int64{0, 1, 2}) {
		t.Errorf("fewer than wanted are not repeated: %v", got)
	}
	if Pick(nil, 4) != nil || Pick(all, 0) != nil {
		t.Error("nothing of nothing")
	}
}

func TestLimits(t *testing.T) {
	for _, l := range []Limits{{}, {Duration: 1, Frames: 1}, {Duration: 1, Bytes: 1}, {Frames: 1, Bytes: 1}} {
		if _, err := New(l); err == nil {
			t.Errorf("%+v is taken", l)
		}
	}
	w, err := New(Limits{Duration: 10, Frames: 5, Bytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []int64{1, 3, 2, 5, 4} {
		if !w.Add(frame(s, 10)) {
			t.Errorf("%d refused", s)
		}
	}
	if w.Add(frame(3, 10)) {
		t.Error("a stamp twice")
	}
	before := w.Snapshot(100)
	w.Add(frame(6, 10)) // one too many
	w.Add(frame(14, 10))
	w.Add(frame(1, 10)) // too old
	if got := stamps(w.Snapshot(14)); !slices.Equal(got, []int64{4, 5, 6, 14}) {
		t.Errorf("%v", got)
	}
	if got := stamps(w.Snapshot(5)); !slices.Equal(got, []int64{4, 5}) {
		t.Errorf("%v", got)
	}
	if w.Snapshot(3) != nil {
		t.Error("before the first frame")
	}
	if before != nil {
		t.Errorf("a snapshot long after the last frame holds %v", stamps(before))
	}
	if f, ok := w.Newest(13); !ok || f.Stamp != 6 {
		t.Errorf("%v %v", f.Stamp, ok)
	}
	if _, ok := w.Newest(3); ok {
		t.Error("nothing is before 4")
	}
	if err := w.SetLimits(Limits{Duration: time.Hour, Frames: 2, Bytes: 1 << 20}); err != nil || w.Len() != 2 {
		t.Errorf("%d %v", w.Len(), err)
	}
	if w.Clear() != 2 || w.Len() != 0 || w.Stats().Bytes != 0 {
		t.Error("clear")
	}
}

// Whatever comes, the window stays within its limits (but for a single frame that is too heavy), in order, and its counters
// add up. Snapshots do not change.
func TestProperty(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	w, err := New(Limits{Duration: 200, Frames: 20, Bytes: 20000})
	if err != nil {
		t.Fatal(err)
	}
	cleared := uint64(0)
	var old, copied []Frame
	for i := range 5000 {
		stamp := int64(i) + rng.Int64N(100)
		w.Add(frame(stamp, rng.IntN(3000)))
		s := w.Stats()
		if s.Frames > 20 || s.Frames > 1 && (s.Bytes > 20000 || s.Span() > 200) {
			t.Fatalf("%+v", s)
		}
		if cap(w.frames) > 400 {
			t.Fatalf("capacity %d", cap(w.frames))
		}
		if !slices.IsSorted(stamps(w.frames)) {
			t.Fatal("out of order")
		}
		bytes := 0
		for j := range w.frames {
			bytes += w.frames[j].bytes()
		}
		if bytes != s.Bytes {
			t.Fatalf("%d bytes, counted %d", bytes, s.Bytes)
		}
		if i%100 == 50 {
			if !slices.Equal(stamps(old), stamps(copied)) {
				t.Fatal("a snapshot changed")
			}
			old = w.Snapshot(stamp)
			copied = slices.Clone(old)
		}
		if i%1000 == 999 {
			cleared += uint64(w.Clear())
		}
	}
	if s := w.Stats(); s.Added != s.Evicted+cleared+uint64(s.Frames) {
		t.Errorf("%+v, %d cleared", s, cleared)
	}
}
