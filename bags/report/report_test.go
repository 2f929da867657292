package report

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"image"
	"image/png"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stllm/stllm/bags/eval"
	"github.com/stllm/stllm/bags/judge"
	"github.com/stllm/stllm/node/kitchen"
	"github.com/stllm/stllm/node/kitchen/quiz"
	"github.com/stllm/stllm/node/stllm"
)

// mixed gives most right answers in the whole run, fewer in others, and fails now and then.
type mixed struct {
	name    string
	answers []string
	index   map[string]int
	wrong   int
}

func (m mixed) ID() string { return m.name }

func (m mixed) Answer(_ context.Context, q eval.Query) (eval.Reply, error) {
	i := m.index[q.ID]
	if i%23 == 7 {
		return eval.Reply{}, errors.New("the service <b>fell over</b>")
	}
	n := m.wrong
	if q.Run != eval.None {
		n = 2
	}
	r := eval.Reply{Text: m.answers[i]}
	if i%n == 0 {
		r.Text = m.answers[(i+5)%len(m.answers)]
	}
	if q.Run == eval.None {
		r.Evidence = &stllm.Evidence{Frames: []stllm.FrameEvidence{{Index: 0, Weight: 0.2}, {Index: 1, Weight: 0.8}},
			Regions: []stllm.RegionEvidence{{X: 1, Y: 2, Radius: 0.5, Weight: 0.7}}}
	}
	return r, nil
}

// evaluations makes two results folders over the same kitchens.
func evaluations(t *testing.T, count, width int) []Evaluation {
	t.Helper()
	o := kitchen.Options{Seconds: 8, Rate: 5, Width: width, Height: width * 3 / 4, Quiz: quiz.Options{Count: 20}}
	src, err := eval.Kitchens(eval.KitchenOptions{Seed: 7, Count: count, Frames: 8, Kitchen: o})
	if err != nil {
		t.Fatal(err)
	}
	items, err := src.Items(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	m := mixed{name: "nano-trained", index: map[string]int{}, wrong: 6}
	verdicts := map[string]judge.Result{}
	for i, it := range items {
		m.answers, m.index[it.ID] = append(m.answers, it.Reference), i
		verdicts[it.ID] = judge.Result{ID: it.ID, Task: string(it.Task), Verdict: []judge.Verdict{judge.Correct, judge.Wrong, judge.Invalid}[i%3]}
	}
	var out []Evaluation
	for _, name := range []string{"nano-trained", "nano-untrained"} {
		m.name, m.wrong = name, map[string]int{"nano-trained": 6, "nano-untrained": 2}[name]
		dir := t.TempDir()
		if _, err := eval.Run(t.Context(), eval.Options{Out: dir, Source: src, Answerer: m, Runs: eval.Ablations(), Workers: 2, Pictures: 4}); err != nil {
			t.Fatal(err)
		}
		out = append(out, Evaluation{Dir: dir})
	}
	out[0].Judges = []Judge{{"gpt-4o", verdicts}}
	return out
}

func TestReport(t *testing.T) {
	all := evaluations(t, 3, 64)
	o := Options{Title: "Kitchens & <more>", Evaluations: all, MaxItems: 70}
	page, err := Render(o)
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	for _, want := range []string{"Kitchens &amp; &lt;more&gt;", "nano-trained", "nano-untrained", "wrong-pose", "published: ST-LLM, paper version 1", "40.33", "231.58",
		"gpt-4o", "<svg", "data:image/png;base64,", "the service &lt;b&gt;fell over", "METEOR was not computed", "looked at", "frame 2 (80", "always the most frequent label", "60 of 60 items"} {
		if !strings.Contains(text, want) {
			t.Errorf("the page lacks %q", want)
		}
	}
	// One file: nothing is loaded, nothing runs.
	for _, bad := range []string{"<script", "http://", "https://", "@import", "url(", "<link", "fell over</b>", "ZgotmplZ", ">NaN", " NaN"} {
		if strings.Contains(text, bad) {
			t.Errorf("the page holds %q", bad)
		}
	}
	if again, err := Render(o); err != nil || !bytes.Equal(page, again) {
		t.Errorf("the same folders gave another page, %v", err)
	}
	o.MaxPictures, o.MaxItems = 1, 5
	if page, err = Render(o); err != nil || bytes.Contains(page, []byte("data:image")) || !bytes.Contains(page, []byte("5 of 60 items")) {
		t.Errorf("limits were not kept, %v", err)
	}
	path := filepath.Join(t.TempDir(), "report.html")
	if err := Write(path, o); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, page) {
		t.Error("the file is not the page")
	}
}

func TestBadFolders(t *testing.T) {
	if _, err := Render(Options{}); err == nil {
		t.Error("a report of nothing")
	}
	if _, err := Render(Options{Evaluations: []Evaluation{{Dir: t.TempDir()}}}); err == nil {
		t.Error("a report of an empty folder")
	}
	all := evaluations(t, 1, 64)
	if err := os.WriteFile(filepath.Join(all[0].Dir, eval.ScoresFile), []byte(`{"runs`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Render(Options{Evaluations: all}); err == nil || !strings.Contains(err.Error(), eval.ScoresFile) {
		t.Errorf("cut scores: %v", err)
	}
	if _, err := readPicture(t.TempDir(), "../secret.png"); err == nil {
		t.Error("a picture outside of the folder was read")
	}
}

func TestMatrixIsCutToSize(t *testing.T) {
	c := eval.Confusion{Task: stllm.TaskPlanning}
	n := 40
	for i := range n {
		c.Labels = append(c.Labels, fmt.Sprintf("plan %02d", i))
		row := make([]int, n)
		row[i], row[(i+1)%n] = i+1, 1
		c.Counts = append(c.Counts, row)
	}
	m := matrixOf("x", c)
	if len(m.Columns) > maxLabels || !strings.HasSuffix(m.Rows[len(m.Rows)-1].Label, otherLabels) || m.Hidden == 0 {
		t.Errorf("%d columns, %d hidden", len(m.Columns), m.Hidden)
	}
	sum := 0
	for _, r := range m.Rows {
		for _, c := range r.Cells {
			sum += c.Count
		}
	}
	if want := n*(n+1)/2 + n; sum != want || m.Total != want || m.Right != n*(n+1)/2 {
		t.Errorf("%d counted, total %d, right %d; expected %d in all", sum, m.Total, m.Right, want)
	}
}

// browserPath finds a Chromium.
func browserPath(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("STLLM_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if name == "" {
			continue
		}
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no Chromium here: apt-get install chromium, or name it by STLLM_CHROMIUM")
	return ""
}

// The page is drawn by a real browser: no wider than the window, with every part in its place, and on paper. STLLM_SHOTS names
// a folder that the pictures are kept in, to be looked at.
func TestInBrowser(t *testing.T) {
	chromium := browserPath(t)
	dir := os.Getenv("STLLM_SHOTS")
	if dir == "" {
		dir = t.TempDir()
	}
	file := filepath.Join(dir, "report.html")
	if err := Write(file, Options{Title: "Synthetic kitchens", Evaluations: evaluations(t, 3, 160), MaxItems: 12}); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	opened := filepath.Join(dir, "opened.html") // with the first items unfolded
	if err := os.WriteFile(opened, bytes.Replace(b, []byte("<details><summary><span"), []byte("<details open><summary><span"), 3), 0o644); err != nil {
		t.Fatal(err)
	}
	start := func(args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
		defer cancel()
		args = append([]string{"--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--user-data-dir=" + t.TempDir()}, args...)
		if out, err := exec.CommandContext(ctx, chromium, args...).CombinedOutput(); err != nil {
			t.Fatalf("chromium: %v\n%s", err, out)
		}
	}
	shot := filepath.Join(dir, "report.png")
	start("--window-size=1240,4200", "--screenshot="+shot, "file://"+opened)
	f, err := os.Open(shot)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	if p.Bounds().Dx() != 1240 {
		t.Fatalf("the picture is %v", p.Bounds())
	}
	if left, right := ink(p, 0, 20), ink(p, 1220, 1240); left > 0 || right > 0 {
		t.Errorf("%d and %d dark pixels in the margins: the page is wider than the window", left, right)
	}
	// Bars of all runs are there, in their colours.
	for _, run := range eval.Ablations() {
		if n := count(p, colour(run)); n < 300 {
			t.Errorf("%d pixels in the colour of run %s", n, run)
		}
	}
	paper := filepath.Join(dir, "report.pdf")
	start("--no-pdf-header-footer", "--print-to-pdf="+paper, "file://"+file)
	if b, err := os.ReadFile(paper); err != nil || !bytes.HasPrefix(b, []byte("%PDF")) {
		t.Errorf("no PDF: %v", err)
	}
}

// ink counts dark pixels in a stretch of columns.
func ink(p image.Image, from, to int) int {
	n := 0
	for y := range p.Bounds().Dy() {
		for x := from; x < to; x++ {
			if r, g, b, _ := p.At(x, y).RGBA(); r+g+b < 3*0x8000 {
				n++
			}
		}
	}
	return n
}

func count(p image.Image, hex string) int {
	var r, g, b uint32
	if _, err := fmt.Sscanf(hex, "#%02x%02x%02x", &r, &g, &b); err != nil {
		return -1
	}
	n := 0
	for y := range p.Bounds().Dy() {
		for x := range p.Bounds().Dx() {
			if pr, pg, pb, _ := p.At(x, y).RGBA(); pr>>8 == r && pg>>8 == g && pb>>8 == b {
				n++
			}
		}
	}
	return n
}
