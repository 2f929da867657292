package trainer

import (
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	"github.com/stllm/stllm/node/ort/orttest"
)

// A question is answered alike alone, as the node asks it, and beside longer ones: what fills up a batch is seen by nobody.
func TestQuestionsDoNotMix(t *testing.T) {
	o := start(t)
	o.Out = filepath.Join(t.TempDir(), "out")
	env := orttest.Environment(t)
	tr, err := New(env, o)
	if err != nil {
		t.Fatal(err)
	}
	list, err := tr.encodeAll(t.Context(), tr.recipe.heldOut())
	if err != nil {
		t.Fatal(err)
	}
	tr.heads()
	p, err := tr.answerProgram(env, true, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	w := windowBatch{scene: list[0], window: &list[0].Windows[0], questions: list[0].Windows[0].Questions}
	if len(w.questions) < 2 {
		t.Fatalf("%d questions, expected several", len(w.questions))
	}
	say := func(w windowBatch) (answers, map[string][]float32) {
		t.Helper()
		b, a, err := tr.batch(w, rand.New(rand.NewPCG(1, 1)))
		if err != nil {
			t.Fatal(err)
		}
		known := Batch{}
		for name, f := range b {
			if p.takes(name) {
				known[name] = f
			}
		}
		_, shown, err := p.run(t.Context(), known)
		if err != nil {
			t.Fatal(err)
		}
		return a, shown
	}
	same := func(name string, got, want []float32) {
		t.Helper()
		if len(got) != len(want) {
			t.Fatalf("%s: %d numbers, expected %d", name, len(got), len(want))
		}
		for i := range got {
			if d := math.Abs(float64(got[i] - want[i])); !(d < 2e-4) {
				t.Fatalf("%s differs by %g at %d", name, d, i)
			}
		}
	}
	a, together := say(w)
	at, lengths := 0, map[int]bool{}
	for i, q := range w.questions {
		one := w
		one.questions = w.questions[i : i+1]
		_, alone := say(one)
		n := a.count[i] * tr.cfg.VocabSize
		same(q.Text+": logits", together["logits"][at:at+n], alone["logits"])
		same(q.Text+": places", together["places"][i*targets:(i+1)*targets], alone["places"])
		at += n
		lengths[len(tr.tok.Encode(q.Text))] = true
	}
	if len(lengths) < 2 {
		t.Errorf("all questions are of one length: nothing was tested")
	}
}
