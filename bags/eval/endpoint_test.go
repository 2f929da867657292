package eval

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stllm/stllm/node/imaging"
)

const secret = "sk-never-written"

// endpoint makes an answerer of a handler.
func endpoint(t *testing.T, o EndpointOptions, h http.HandlerFunc) *Endpoint {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	o.URL, o.Model, o.Key, o.Pause = s.URL+"/v1/", "qwen2-vl", secret, time.Millisecond
	return must(NewEndpoint(o))(t)
}

func says(w http.ResponseWriter, text string) {
	_ = json.NewEncoder(w).Encode(map[string]any{"choices": []any{map[string]any{"message": map[string]any{"content": text}}}})
}

type sent struct {
	Model       string
	Temperature *float64
	Messages    []struct {
		Role    string
		Content []part
	}
}

func TestEndpointRequest(t *testing.T) {
	var got []sent
	e := endpoint(t, EndpointOptions{Frames: 3, Width: 2}, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/chat/completions" || r.Header.Get("Authorization") != "Bearer "+secret {
			t.Errorf("%s, authorization %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		var s sent
		if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
			t.Error(err)
		}
		got = append(got, s)
		says(w, "It is behind you.")
	})
	items := directions(1)
	items[0].Choices = []string{"left", "right"}
	s := run(t, Options{Source: List{"made", items}, Answerer: e, Runs: []Ablation{None, Blind, NoVideo}}).Scores
	if len(s.Runs[None].Failed) != 0 || len(got) != 3 {
		t.Fatalf("%d requests, %+v", len(got), s.Runs[None].Failed)
	}
	c := got[0].Messages[0].Content
	if len(c) != 5 || got[0].Model != "qwen2-vl" || got[0].Temperature == nil || *got[0].Temperature != 0 || !strings.Contains(c[0].Text, "3 pictures") ||
		!strings.Contains(c[4].Text, "Where is thing 0?") || !strings.Contains(c[4].Text, "left; right") {
		t.Fatalf("%+v", c)
	}
	data, ok := strings.CutPrefix(c[1].Image.URL, "data:image/jpeg;base64,")
	b, err := base64.StdEncoding.DecodeString(data)
	if p, decodeErr := imaging.DecodeBytes(b); !ok || err != nil || decodeErr != nil || p.Width != 2 {
		t.Errorf("the picture does not come as a data URI: %v %v", err, decodeErr)
	}
	for i, name := range []string{"blind", "no-video"} {
		if n := len(got[i+1].Messages[0].Content); n != 1 {
			t.Errorf("%s: %d parts were sent, expected the question alone", name, n)
		}
	}
}

// A server that misbehaves is asked again; what does not pass is an error that names the status and never the key.
func TestEndpointMisbehaves(t *testing.T) {
	cut := func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			_ = c.Close()
		}
	}
	for name, c := range map[string]struct {
		bad   http.HandlerFunc
		times int32 // how often it misbehaves
		asked int32 // how often it is asked in all
		want  string
	}{
		"429 once":   {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Retry-After", "0"); w.WriteHeader(429) }, 1, 2, ""},
		"500 twice":  {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, 2, 3, ""},
		"500 always": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) }, 99, 3, "500"},
		"refused": {func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, "bad key "+secret, http.StatusUnauthorized)
		}, 99, 1, "401"},
		"garbage":    {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }, 1, 2, ""},
		"no choices": {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }, 99, 3, "no choices"},
		"cut":        {cut, 1, 2, ""},
		"slow":       {func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, 1, 2, ""},
		"half a body": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "999")
			_, _ = io.WriteString(w, "{")
		}, 1, 2, ""},
		"empty": {func(w http.ResponseWriter, _ *http.Request) { says(w, " ") }, 99, 1, "answer is empty"},
	} {
		t.Run(name, func(t *testing.T) {
			var asked atomic.Int32
			e := endpoint(t, EndpointOptions{Tries: 3, Timeout: 300 * time.Millisecond}, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // so that the server sees the client go
				if asked.Add(1) <= c.times {
					c.bad(w, r)
					return
				}
				says(w, "It is in front of you.")
			})
			s := run(t, Options{Source: List{"made", directions(1)}, Answerer: e}).Scores.Runs[None]
			text := fmt.Sprint(s.Failed)
			if asked.Load() != c.asked || (len(s.Failed) == 0) != (c.want == "") || !strings.Contains(text, c.want) || strings.Contains(text, secret) {
				t.Errorf("asked %d times, expected %d; %s, expected %q", asked.Load(), c.asked, text, c.want)
			}
		})
	}
}

func TestEndpointStops(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	e := endpoint(t, EndpointOptions{Tries: 100}, func(w http.ResponseWriter, _ *http.Request) {
		cancel()
		w.Header().Set("Retry-After", "3600")
		w.WriteHeader(429)
	})
	if _, err := e.Answer(ctx, Query{Question: "?", Clip: &Clip{}}); err != context.Canceled {
		t.Errorf("%v", err)
	}
}

func TestEndpointOptions(t *testing.T) {
	for name, o := range map[string]EndpointOptions{
		"no url":   {Model: "m"},
		"scheme":   {URL: "file:///etc", Model: "m"},
		"password": {URL: "http://me:" + secret + "@host/v1", Model: "m"},
		"not one":  {URL: "http://me:" + secret + "@host/%zz", Model: "m"},
		"no model": {URL: "http://host/v1"},
		"negative": {URL: "http://host/v1", Model: "m", Tries: -1},
	} {
		if _, err := NewEndpoint(o); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
