package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stllm/stllm/bags/eval"
	"github.com/stllm/stllm/bags/rea"
	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/kitchen/quiz"
)

// program builds the real program.
func program(t *testing.T) string {
	t.Helper()
	exe := filepath.Join(t.TempDir(), "stllm")
	if out, err := exec.Command("go", "build", "-o", exe, ".").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return exe
}

// smallBags writes bags of small kitchens with questions and a table of right answers, of which every third is taken from the
// question before.
func smallBags(t *testing.T, dir string, count int) (answers string) {
	t.Helper()
	table := map[string]string{}
	last := "There is nothing."
	for seed := range uint64(count) {
		k, err := kitchen.Generate(kitchen.Options{Seed: 50 + seed, Seconds: 6, Rate: 4, Width: 64, Height: 48, MapEdge: 0.1, Quiz: quiz.Options{Count: 20}})
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("k%d", 50+seed)
		if err := kitchen.Write(t.Context(), k, filepath.Join(dir, name+".bag"), nil); err != nil {
			t.Fatal(err)
		}
		for i, q := range k.Questions {
			text := q.Answer
			if i%3 == 2 {
				text = last
			}
			table[name+"/"+q.ID], last = text, q.Answer
		}
	}
	b, err := json.Marshal(table)
	if err != nil {
		t.Fatal(err)
	}
	answers = filepath.Join(t.TempDir(), "answers.json")
	if err := os.WriteFile(answers, b, 0o644); err != nil {
		t.Fatal(err)
	}
	return answers
}

// The program itself, killed 20 times at random points, comes to the same scores.json and predictions.
func TestEvalKilled(t *testing.T) {
	dir := t.TempDir()
	answers := smallBags(t, dir, 4)
	exe := program(t)
	command := func(out string) *exec.Cmd {
		return exec.Command(exe, "eval", "--items", dir, "--answers", answers, "--out", out, "--ablate", "none,blind,no-points,no-video,wrong-pose,shuffled",
			"--ngram-only", "--workers", "2", "--pictures", "4", "--frames", "8", "--seed", "5")
	}
	whole := filepath.Join(t.TempDir(), "whole")
	if out, err := command(whole).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	lines := func(out string) int {
		b, err := os.ReadFile(filepath.Join(out, "predictions.jsonl"))
		if err != nil {
			return 0
		}
		return bytes.Count(b, []byte("\n"))
	}
	// Killed after so many more answers, not after a time: however fast the machine is, 20 kills fit into the run.
	total := lines(whole)
	killed := filepath.Join(t.TempDir(), "killed")
	r := rand.New(rand.NewPCG(3, 4))
	early := 0
	for range 20 {
		c := command(killed)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- c.Wait() }()
		enough := lines(killed) + r.IntN(max(1, total/24))
		tick := time.NewTicker(time.Millisecond)
		for done := false; !done; {
			select {
			case err := <-ended:
				if done = true; err != nil {
					t.Fatalf("a run ended by itself: %v", err)
				}
			case <-tick.C:
				if lines(killed) >= enough {
					_ = c.Process.Kill() // it may have ended
					if err := <-ended; err != nil {
						early++
					}
					done = true
				}
			}
		}
		tick.Stop()
	}
	if early < 10 {
		t.Errorf("only %d of 20 runs were killed before they ended", early)
	}
	if out, err := command(killed).CombinedOutput(); err != nil {
		t.Fatalf("the last run: %v\n%s", err, out)
	}
	for _, name := range []string{"scores.json", "report.html"} {
		a, err1 := os.ReadFile(filepath.Join(whole, name))
		b, err2 := os.ReadFile(filepath.Join(killed, name))
		if err1 != nil || err2 != nil || !bytes.Equal(a, b) {
			t.Errorf("%s differs after 20 kills: %d and %d bytes, %v, %v", name, len(a), len(b), err1, err2)
		}
	}
	if _, err := os.Stat(filepath.Join(killed, ".kitchens")); err == nil {
		t.Error("the folder for kitchens is left over")
	}
}

// The forms of the scores and of the commands around them.
func TestEvalCommands(t *testing.T) {
	dir := t.TempDir()
	answers := smallBags(t, dir, 1)
	out := filepath.Join(t.TempDir(), "out")
	call := func(args ...string) (int, string) {
		var o, e bytes.Buffer
		code := run(context.Background(), args, strings.NewReader(""), &o, &e)
		return code, o.String() + e.String()
	}
	code, text := call("eval", "--items", dir, "--answers", answers, "--out", out, "--ngram-only", "--ablate", "none,shuffled", "--frames", "4", "--pictures", "2")
	if code != 0 || !strings.Contains(text, "answers/s") || !strings.Contains(text, "shuffled") {
		t.Fatalf("%d %s", code, text)
	}
	b, err := os.ReadFile(filepath.Join(out, eval.ScoresFile))
	if err != nil {
		t.Fatal(err)
	}
	var scores struct {
		Runs map[string]struct {
			LabelAccuracy float64            `json:"label_accuracy"`
			Groups, Tasks map[string]float64 `json:""`
			Metrics       struct{ Raw, PTB map[string]float64 }
		}
	}
	if err := json.Unmarshal(b, &scores); err != nil {
		t.Fatal(err)
	}
	if s := scores.Runs["none"]; s.LabelAccuracy < 0.6 || s.LabelAccuracy > 0.9 || s.Groups["now"] == 0 || s.Groups["video"] == 0 || len(s.Tasks) < 3 || s.Metrics.Raw["bleu4"] == 0 || s.Metrics.PTB["cider_d"] == 0 {
		t.Errorf("%s", b[:min(len(b), 2000)])
	}
	if code, text := call("eval", "compare", out, out); code != 0 || !strings.Contains(text, "p 1.0000") {
		t.Errorf("compare: %d %s", code, text)
	}
	page := filepath.Join(t.TempDir(), "both.html")
	if code, text := call("eval", "report", "first="+out, "second="+out, "--out", page); code != 0 {
		t.Errorf("report: %d %s", code, text)
	}
	if b, err := os.ReadFile(page); err != nil || !bytes.Contains(b, []byte("second")) {
		t.Error("the page lacks the second evaluation", err)
	}
	if code, text := call("eval", "score", out, "--ngram-only"); code != 0 || !strings.Contains(text, "BLEU-4") {
		t.Errorf("score: %d %s", code, text)
	}
	// REA items of the same bag are evaluated, and come back as a bag.
	items := filepath.Join(t.TempDir(), "rea")
	if code, text := call("rea", "export", dir, "--out", items, "--frames", "4"); code != 0 {
		t.Fatalf("export: %d %s", code, text)
	}
	if code, text := call("rea", "export", "kitchens:50..51", "--out", filepath.Join(items, "made"), "--frames", "4", "--kitchen-questions", "2", "--kitchen-rate", "2"); code != 0 {
		t.Errorf("export of kitchens: %d %s", code, text)
	}
	if made, broken, err := rea.Read(filepath.Join(items, "made", "items.json")); err != nil || len(made) != 4 || len(broken) > 0 {
		t.Errorf("of two kitchens %d items came, %v, %v", len(made), broken, err)
	}
	if code, text := call("rea", "import", filepath.Join(items, "items.json"), "--out", filepath.Join(items, "bags")); code != 0 || !strings.Contains(text, "20 items") {
		t.Errorf("import: %d %s", code, text)
	}
	if code, text := call("rea", "generate", filepath.Join(dir, "k50.bag"), "--out", filepath.Join(items, "new"), "--count", "10", "--frames", "4"); code != 0 || !strings.Contains(text, "10 questions") {
		t.Errorf("generate: %d %s", code, text)
	}
	for name, c := range map[string]struct {
		code int
		args []string
	}{
		"no items":    {2, []string{"eval", "--out", out, "--answers", answers}},
		"no out":      {2, []string{"eval", "--items", dir, "--answers", answers}},
		"seeds":       {2, []string{"eval", "--items", "kitchens:9..3", "--out", t.TempDir(), "--answers", answers}},
		"ablation":    {2, []string{"eval", "--items", dir, "--out", t.TempDir(), "--answers", answers, "--ablate", "deaf"}},
		"kind":        {2, []string{"eval", "--items", dir, "--out", t.TempDir(), "--model-kind", "gpt"}},
		"judge":       {2, []string{"eval", "--items", dir, "--out", t.TempDir(), "--answers", answers, "--judge", "me"}},
		"another one": {1, []string{"eval", "--items", dir, "--out", out, "--answers", answers, "--ngram-only", "--seed", "8", "--frames", "4"}},
		"no bag":      {1, []string{"eval", "--items", filepath.Join(dir, "none.bag"), "--out", t.TempDir(), "--answers", answers}},
		"half a run":  {1, []string{"eval", "compare", out, t.TempDir()}},
		"rules":       {2, []string{"rea", "generate", filepath.Join(dir, "k50.bag"), "--out", items, "--rules", "none"}},
	} {
		if code, text := call(c.args...); code != c.code {
			t.Errorf("%s: exit code %d, expected %d: %s", name, code, c.code, text)
		}
	}
}
