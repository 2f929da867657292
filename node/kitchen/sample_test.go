package kitchen

import (
	"math"
	"reflect"
	"testing"

	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/kitchen/quiz"
	"github.com/stllm/stllm/node/kitchen/render"
	"github.com/stllm/stllm/node/label"
)

func TestSample(t *testing.T) {
	o := SampleOptions{Kitchen: Options{Rate: 5}, Width: 64, Height: 64, Frames: 8, Windows: 2, Questions: 20, Vary: true, PoseTrans: 0.05, PoseTurn: 2}
	s, err := NewSample(11, o)
	if err != nil {
		t.Fatal(err)
	}
	again, err := NewSample(11, o)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(s.Frames, again.Frames) || !reflect.DeepEqual(s.Cloud, again.Cloud) || !reflect.DeepEqual(s.Windows, again.Windows) {
		t.Error("the same seed gave another sample")
	}
	if len(s.Windows) != 2 || len(s.Frames) < 8 || len(s.Frames) > 16 || s.Cloud.Len() != len(s.PointClass) {
		t.Fatalf("%d windows, %d frames, %d points, %d classes", len(s.Windows), len(s.Frames), s.Cloud.Len(), len(s.PointClass))
	}
	n := 0
	for _, w := range s.Windows {
		last := s.Frames[w.Frames[len(w.Frames)-1]]
		if s.Kitchen.Frames[last.Index].Time != w.At {
			t.Errorf("the window at %g s ends with the frame of %g s", w.At, s.Kitchen.Frames[last.Index].Time)
		}
		for _, q := range w.Questions {
			n++
			// The targets give the label by the very frame that the model gets.
			if q.Kind == "direction" {
				p := Local(last.Camera, q.Targets[0])
				if d := s.Kitchen.Options.Quiz.Thresholds.Direction(p[0], p[2]); d != q.Label.Direction {
					t.Errorf("%s: %s by its target, %s by its label", q.Text, d, q.Label.Direction)
				}
			}
		}
	}
	if n != 20 {
		t.Errorf("%d questions, expected 20", n)
	}
	counts, dist, err := s.Patches(0, 8, 8)
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range counts {
		sum := 0
		for _, v := range c {
			sum += int(v)
		}
		if sum != 64 || !(dist[i] > 0.05 && dist[i] < 12) {
			t.Fatalf("patch %d has %d pixels at %g m", i, sum, dist[i])
		}
	}
	if _, _, err := s.Patches(0, 7, 8); err == nil {
		t.Error("7 patches of 64 pixels were accepted")
	}
	for _, f := range s.Frames {
		if d := r3.Norm(r3.Sub(f.Pose.Translation, f.Camera.Translation)); d == 0 || d > 0.4 {
			t.Errorf("jitter of %g m, expected about 0.05", d)
		}
	}
	if _, err := NewSample(1, SampleOptions{Width: 1}); err == nil {
		t.Error("a picture one pixel wide was accepted")
	}
}

// Every answer is read back as its label, names what is there, and holds by geometry that is computed another way.
func TestAnswers(t *testing.T) {
	kinds := map[string]int{}
	for seed := range uint64(25) {
		k, err := Generate(Options{Seed: 500 + seed, Rate: 5, Width: 64, Height: 48, Quiz: quiz.Options{Count: 40}})
		if err != nil {
			t.Fatal(err)
		}
		single := map[string]int{}
		for _, b := range k.Boxes {
			single[b.Name]++
		}
		ids := map[string]bool{}
		for _, q := range k.Questions {
			kinds[q.Kind]++
			if ids[q.ID] {
				t.Errorf("id %s twice", q.ID)
			}
			ids[q.ID] = true
			got, err := label.Parse(q.Task, q.Answer)
			if err != nil || got.String() != q.Label.String() {
				t.Errorf("%q was read as %q, expected %q (%v)", q.Answer, got, q.Label, err)
			}
			if q.Kind == "absent" && single[q.About] != 0 {
				t.Errorf("seed %d: %q, though there is a %s", seed, q.Text, q.About)
			}
			switch q.Kind {
			case "direction", "route", "trend", "then", "nearer", "then nearer":
				if !q.Label.Unseen && single[q.About] != 1 {
					t.Errorf("seed %d: %q, though there are %d", seed, q.Text, single[q.About])
				}
			}
			if q.Kind == "trend" && !q.Label.Unseen {
				flat := func(at float64) float64 {
					c := k.Camera(at).Translation
					return math.Hypot(c.X-q.Targets[0].X, c.Y-q.Targets[0].Y)
				}
				change := flat(q.At) - flat(q.Window[0])
				want := "same"
				if change > 0.4 {
					want = "further"
				} else if change < -0.4 {
					want = "closer"
				}
				if q.Label.Change != want {
					t.Errorf("%q: %s, but the distance changed by %.2f m", q.Text, q.Label, change)
				}
			}
			if q.Kind == "find" {
				for i, it := range k.tour.Items {
					if it.Item.Kind != q.About {
						continue
					}
					pos, _, carried := k.tour.ItemPlace(i, q.At)
					if d := r3.Norm(r3.Sub(k.mapped(pos), q.Targets[0])); d > 0.25 || carried {
						t.Errorf("%q: the item lies %.2f m from where the answer has it", q.Text, d)
					}
				}
			}
			if q.Kind == "unseen" {
				for i, it := range k.World.Items {
					for j, f := range k.Frames {
						if it.Kind == q.About && f.Time <= q.At && k.Frames[j].Seen[i] > 0.0005 {
							t.Errorf("%q: but it was seen at %.1f s", q.Text, f.Time)
						}
					}
				}
			}
		}
	}
	for _, kind := range []string{"direction", "nearer", "affordance", "route", "find", "trend", "then", "then nearer", "next", "absent", "unseen"} {
		if kinds[kind] < 10 {
			t.Errorf("only %d questions of the kind %s in 25 kitchens: %v", kinds[kind], kind, kinds)
		}
	}
}

func BenchmarkSample(b *testing.B) {
	for i := range b.N {
		if _, err := NewSample(uint64(i), SampleOptions{Width: 64, Height: 64}); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkPicture(b *testing.B) {
	k, err := Generate(Options{Seed: 1, Rate: 2})
	if err != nil {
		b.Fatal(err)
	}
	var pic render.Picture
	b.ResetTimer()
	for i := range b.N {
		k.Picture(i%len(k.Frames), &pic)
	}
}

// What is in use is in use from its event on, and is a thing that one can use or an item that was taken.
func TestSampleInUse(t *testing.T) {
	used, held, before := 0, 0, 0
	for seed := range uint64(4) {
		s, err := NewSample(20+seed, SampleOptions{Kitchen: Options{Rate: 5}, Width: 64, Height: 64, Frames: 12, Windows: 2, Questions: 8})
		if err != nil {
			t.Fatal(err)
		}
		for i := range s.Frames {
			f := &s.Frames[i]
			now := s.Kitchen.Frames[f.Index].Time
			could := map[string]bool{} // categories that an event has begun to use, items that one has begun to take
			for _, e := range s.Kitchen.World.Events {
				if (e.Verb == "open" || e.Verb == "turn on") && e.Start < now {
					could[s.Kitchen.World.Things[e.Thing].Category] = true
				}
				if e.Verb == "take" && e.Start < now {
					could[e.Object] = true
				}
			}
			for j, in := range f.InUse {
				if !in {
					continue
				}
				used++
				if f.Item[j] >= 0 {
					held++
				}
				if c := Classes()[f.Class[j]]; !could[c] {
					t.Fatalf("seed %d, %g s: %s is in use, events so far use %v", 20+seed, now, c, could)
				}
			}
			if len(could) == 0 {
				before++
			}
		}
	}
	if used == held || held == 0 || before == 0 {
		t.Errorf("%d pixels in use, %d of items, %d frames before any event: nothing was tested", used, held, before)
	}
}
