package judge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestParsers(t *testing.T) {
	for _, tc := range []struct {
		reply            string
		whole, published Verdict
	}{
		{"correct", Correct, Correct},
		{" Correct.\n", Correct, Correct},
		{"wrong", Wrong, Wrong},
		{"Incorrect", Wrong, Correct}, // the published fault
		{"not correct", Wrong, Correct},
		{"not wrong", Invalid, Wrong},
		{"correct or wrong?", Invalid, Correct},
		{"", Invalid, Invalid},
		{"maybe", Invalid, Invalid},
		{"incorrectly phrased", Invalid, Correct},
	} {
		if got := WholeWords(tc.reply); got != tc.whole {
			t.Errorf("whole words: %q is %s, expected %s", tc.reply, got, tc.whole)
		}
		if got := PublishedParse(tc.reply); got != tc.published {
			t.Errorf("published: %q is %s, expected %s", tc.reply, got, tc.published)
		}
	}
}

func TestPromptForms(t *testing.T) {
	for _, task := range append(Tasks(), "furniture_affordance_prediction") {
		p, err := prompt(Item{"1", task, "Q?", "R.", "P."}, Published, true)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(p, "\n") || !strings.HasSuffix(p, "\n") || !strings.Contains(p, "Predicted Result: P.\nGround Truth Result: R.\nQuery: Q?") {
			t.Errorf("%s: prompt %q", task, p)
		}
		s, _ := prompt(Item{"1", task, "Q?", "R.", "P."}, Strict, true)
		if strings.Contains(s, lenientDistance) || !strings.Contains(s, strictRules) {
			t.Errorf("%s: the strict form is lenient", task)
		}
	}
	if _, err := prompt(Item{ID: "7", Task: "riddle"}, Published, false); err == nil || !strings.Contains(err.Error(), "riddle") {
		t.Errorf("unknown task: %v", err)
	}
}

// unruly misbehaves in a set order for each item, then answers.
type unruly struct {
	mu     sync.Mutex
	seen   map[string]int
	bodies []string
	script func(item string, nth int, w http.ResponseWriter) bool // true: handled
}

func (s *unruly) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	item := "?"
	if i := strings.Index(string(b), "Query: item-"); i >= 0 {
		item = strings.SplitN(string(b)[i+len("Query: item-"):], `\n`, 2)[0]
	}
	s.mu.Lock()
	s.seen[item]++
	n := s.seen[item]
	s.bodies = append(s.bodies, string(b))
	s.mu.Unlock()
	if s.script(item, n, w) {
		return
	}
	fmt.Fprint(w, `{"choices":[{"message":{"role":"assistant","content":"correct"}}],"usage":{"prompt_tokens":9,"completion_tokens":1}}`)
}

func items(n int) []Item {
	var list []Item
	for i := range n {
		list = append(list, Item{ID: fmt.Sprint(i), Task: "relative_direction", Question: fmt.Sprintf("item-%d", i), Reference: "left", Prediction: "left"})
	}
	return list
}

func quick() Options {
	return Options{FirstPause: time.Millisecond, Timeout: 300 * time.Millisecond, Workers: 3}
}

func TestAServiceThatMisbehaves(t *testing.T) {
	s := &unruly{seen: map[string]int{}, script: func(item string, nth int, w http.ResponseWriter) bool {
		if nth > 1 && item != "5" && item != "6" {
			return false
		}
		switch item {
		case "0":
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		case "1":
			w.WriteHeader(http.StatusInternalServerError)
		case "2":
			time.Sleep(600 * time.Millisecond) // longer than the deadline
		case "3":
			fmt.Fprint(w, "<html>garbage")
		case "4":
			h, ok := w.(http.Hijacker)
			if !ok {
				return false
			}
			c, _, err := h.Hijack()
			if err == nil {
				c.Close() // cut connection
			}
		case "5":
			fmt.Fprint(w, `{"choices":[{"message":{"content":"I cannot say"}}]}`) // never valid
		case "6":
			w.WriteHeader(http.StatusUnauthorized) // never any use
		default:
			return false
		}
		return true
	}}
	srv := httptest.NewServer(s)
	defer srv.Close()
	c := &OpenAI{Endpoint: srv.URL + "/", Model: "m", Key: "secret", System: "be fair", HTTP: srv.Client()}
	saved := 0
	got, err := Run(t.Context(), c, items(8), nil, quick(), func(Result) error { saved++; return nil })
	if err != nil {
		t.Fatal(err)
	}
	if saved != 8 || len(got) != 8 {
		t.Fatalf("%d results saved, %d returned, expected 8", saved, len(got))
	}
	for id, want := range map[string]Verdict{"0": Correct, "1": Correct, "2": Correct, "3": Correct, "4": Correct, "5": Invalid, "6": Invalid, "7": Correct} {
		if got[id].Verdict != want {
			t.Errorf("item %s: %s (%s), expected %s", id, got[id].Verdict, got[id].Error, want)
		}
	}
	if len(got["5"].Replies) != 4 || got["5"].Error != "" {
		t.Errorf("item 5: %d replies kept, error %q, expected 4 and none", len(got["5"].Replies), got["5"].Error)
	}
	if s.seen["6"] != 1 || !strings.Contains(got["6"].Error, "401") {
		t.Errorf("item 6: asked %d times, error %q, expected once and 401", s.seen["6"], got["6"].Error)
	}
	if overall, by := Rate(got); overall != 6.0/8 || by["relative_direction"] != 6.0/8 {
		t.Errorf("rate %v %v, expected 0.75: invalid ones stay in the denominator", overall, by)
	}
	all, _ := json.Marshal(got)
	if strings.Contains(string(all), "secret") {
		t.Error("the key is in the results")
	}
}

func TestResume(t *testing.T) {
	path := filepath.Join(t.TempDir(), "judge.jsonl")
	s := &unruly{seen: map[string]int{}, script: func(string, int, http.ResponseWriter) bool { return false }}
	srv := httptest.NewServer(s)
	defer srv.Close()
	c := &OpenAI{Endpoint: srv.URL, Model: "m", HTTP: srv.Client()}
	save := func(stop int) func(Result) error {
		n := 0
		return func(r Result) error {
			if n++; n > stop {
				return errors.New("killed")
			}
			f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
			if err != nil {
				return err
			}
			defer f.Close()
			return json.NewEncoder(f).Encode(r)
		}
	}
	for i := range 5 {
		done, err := Load(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(done) != 3*i {
			t.Fatalf("run %d: %d results on disk, expected %d", i, len(done), 3*i)
		}
		if _, err := Run(t.Context(), c, items(20), done, quick(), save(3)); err == nil {
			t.Fatal("a failing save went unnoticed")
		}
		// What a kill leaves: half a line.
		f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
		if err != nil {
			t.Fatal(err)
		}
		info, _ := f.Stat()
		fmt.Fprint(f, `{"id":"1`)
		f.Close()
		if done, err = Load(path); err != nil || len(done) != 3*(i+1) {
			t.Fatalf("after a cut line: %d results, %v", len(done), err)
		}
		if err := os.Truncate(path, info.Size()); err != nil {
			t.Fatal(err)
		}
	}
	done, _ := Load(path)
	got, err := Run(t.Context(), c, items(20), done, quick(), func(Result) error { return nil })
	if err != nil || len(got) != 20 {
		t.Fatalf("%d results, %v", len(got), err)
	}
	e, err := EstimateRun(items(20), done, quick())
	if err != nil || e.Requests != 5 || e.PromptTokens == 0 {
		t.Errorf("estimate %+v, %v; expected 5 requests", e, err)
	}
}

func TestCancelEndsTheRun(t *testing.T) {
	s := &unruly{seen: map[string]int{}, script: func(_ string, _ int, w http.ResponseWriter) bool {
		w.WriteHeader(http.StatusServiceUnavailable)
		return true
	}}
	srv := httptest.NewServer(s)
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	o := quick()
	o.FirstPause = time.Hour
	if _, err := Run(ctx, &OpenAI{Endpoint: srv.URL, HTTP: srv.Client()}, items(50), nil, o, func(Result) error { return nil }); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("ended with %v", err)
	}
}

func TestGemini(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/models/gemini-x:generateContent" || r.Header.Get("x-goog-api-key") != "k" || r.URL.RawQuery != "" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Fprint(w, `{"candidates":[{"content":{"parts":[{"text":"Wr"},{"text":"ong"}]}}],"usageMetadata":{"promptTokenCount":5}}`)
	}))
	defer srv.Close()
	r, err := (&Gemini{Endpoint: srv.URL, Model: "gemini-x", Key: "k", HTTP: srv.Client()}).Ask(t.Context(), "?")
	if err != nil || WholeWords(r.Text) != Wrong || r.PromptTokens != 5 {
		t.Errorf("%+v, %v", r, err)
	}
}
