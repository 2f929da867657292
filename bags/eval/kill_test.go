package eval

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// childFolder tells the test's own binary to be an evaluation into a folder.
const childFolder = "STLLM_EVAL_TEST_CHILD"

func TestMain(m *testing.M) {
	if out := os.Getenv(childFolder); out != "" {
		if _, err := Run(context.Background(), killable(out, 4*time.Millisecond)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// slow takes its time for an answer.
type slow struct {
	reader
	pause time.Duration
}

func (s slow) Answer(ctx context.Context, q Query) (Reply, error) {
	time.Sleep(s.pause)
	if q.ID == "d007" {
		return Reply{}, fmt.Errorf("no answer to %s", q.ID)
	}
	return s.reader.Answer(ctx, q)
}

func killable(out string, pause time.Duration) Options {
	return Options{Out: out, Source: List{"made", directions(240)}, Answerer: slow{pause: pause}, Runs: Ablations(), Seed: 3, Workers: 2, Pictures: 2}
}

// An evaluation that is killed 20 times at random points, and whose file is cut at a random byte besides, comes to the same
// scores.
func TestKilled(t *testing.T) {
	want := t.TempDir()
	run(t, killable(want, 0))
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	child := func() *exec.Cmd {
		c := exec.Command(exe, "-test.run=^$")
		c.Env = append(os.Environ(), childFolder+"="+out)
		return c
	}
	r := rand.New(rand.NewPCG(1, 2))
	path := filepath.Join(out, PredictionsFile)
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	for kill := range 20 {
		c := child()
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan struct{})
		go func() {
			_ = c.Wait()
			close(ended)
		}()
		// Most are killed when they have written so many bytes more, the others at any time.
		goal := size() + 1 + r.Int64N(9000)
		if kill%5 == 4 {
			goal = 0
			time.Sleep(time.Duration(r.IntN(100)) * time.Millisecond)
		}
		for running := true; running && size() < goal; {
			select {
			case <-ended:
				running = false
			case <-time.After(time.Millisecond):
			}
		}
		select {
		case <-ended:
			t.Fatalf("child %d ended before it was killed: the test shows nothing", kill)
		default:
		}
		if err := c.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-ended
		if n := size(); kill%2 == 0 && n > 0 { // a write of which only a part came to the disk
			if err := os.Truncate(path, n-r.Int64N(min(n, 300)+1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if text, err := child().CombinedOutput(); err != nil {
		t.Fatalf("the last run: %v: %s", err, text)
	}
	a, err := os.ReadFile(filepath.Join(want, ScoresFile))
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(filepath.Join(out, ScoresFile))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(a, b) {
		at := 0
		for at < min(len(a), len(b)) && a[at] == b[at] {
			at++
		}
		from := max(0, at-200)
		t.Errorf("scores after 20 kills differ at byte %d:\n%s\nexpected:\n%s", at, b[from:min(len(b), at+200)], a[from:min(len(a), at+200)])
	}
	all, _, err := ReadPredictions(path)
	if err != nil || len(all) != 240*len(Ablations()) {
		t.Errorf("%d predictions, %v", len(all), err)
	}
}

// A file cut at any byte is read up to its last whole line.
func TestCutAnywhere(t *testing.T) {
	out := t.TempDir()
	run(t, Options{Out: out, Source: List{"made", directions(6)}, Answerer: reader{}})
	path := filepath.Join(out, PredictionsFile)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for n := range len(whole) + 1 {
		all, kept, err := decodePredictions(bytes.NewReader(whole[:n]))
		lines := bytes.Count(whole[:n], []byte{'\n'})
		if err != nil || len(all) != lines || kept != int64(bytes.LastIndexByte(whole[:n], '\n')+1) {
			t.Fatalf("cut at byte %d: %d predictions in %d bytes, %v; expected %d", n, len(all), kept, err, lines)
		}
	}
	for name, text := range map[string]string{"garbage": "{]\n", "no id": `{"run":"none"}` + "\n", "bytes": "{\"run\":\"none\",\"id\":\"\xff\"}\n"} {
		if _, _, err := decodePredictions(bytes.NewReader(append([]byte(text), whole...))); err == nil {
			t.Errorf("%s was read", name)
		}
	}
}

func FuzzPredictions(f *testing.F) {
	f.Add([]byte(`{"run":"none","id":"a","prediction":"left","label":"left","predicted_label":"left"}` + "\n"))
	f.Add([]byte("{\n{}\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		all, whole, err := decodePredictions(bytes.NewReader(b))
		if err == nil && (whole > int64(len(b)) || len(all) > bytes.Count(b, []byte{'\n'})) {
			t.Errorf("%d predictions in %d of %d bytes", len(all), whole, len(b))
		}
	})
}
