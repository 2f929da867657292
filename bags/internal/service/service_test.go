package service

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestRetryAfter(t *testing.T) {
	for v, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-1": 0, "x": 0, "301": maxRetryAfter, "999999": maxRetryAfter,
		"9999999999999": 0, "99999999999999999999999": 0, "Mon, 02 Jan 2006 15:04:05 GMT": 0, "Fri, 31 Dec 9999 23:59:59 GMT": maxRetryAfter,
	} {
		if got := retryAfter(v); got != want {
			t.Errorf("%q: %s, expected %s", v, got, want)
		}
	}
}

func TestRefusalsAndKeys(t *testing.T) {
	const key = "sk-secret"
	reply := ""
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/chat/completions" || r.Header.Get("Authorization") != "Bearer "+key || r.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s with %v", r.URL.Path, r.Header)
		}
		if code := r.Header.Get("X-Code"); code == "429" {
			w.Header().Set("Retry-After", "86400")
			w.WriteHeader(http.StatusTooManyRequests)
		}
		fmt.Fprint(w, reply)
	}))
	defer srv.Close()
	s := Chat(srv.URL+"/v1/", key, nil)
	var out struct{ A int }
	reply = `{"a": 3}`
	if raw, err := s.Post(t.Context(), nil, &out); err != nil || out.A != 3 || string(raw) != reply {
		t.Errorf("%+v, %s, %v", out, raw, err)
	}
	reply = "no JSON for " + key
	if _, err := s.Post(t.Context(), nil, &out); err == nil || strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), "(key)") || !Transient(err) {
		t.Errorf("garbage: %v", err)
	}
	reply = strings.Repeat(" ", maxReply+1)
	if _, err := s.Post(t.Context(), nil, &out); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("too long: %v", err)
	}
	reply = strings.Repeat("é", 300) + key
	s.Header.Set("X-Code", "429")
	_, err := s.Post(t.Context(), nil, &out)
	var status *StatusError
	if !errors.As(err, &status) || status.Code != 429 || status.RetryAfter != maxRetryAfter || len(status.Body) > 203 || !Transient(err) {
		t.Errorf("refused: %v", err)
	}
	for code, want := range map[int]bool{400: false, 401: false, 408: true, 429: true, 500: true, 503: true} {
		if Transient(fmt.Errorf("ask: %w", &StatusError{Code: code})) != want {
			t.Errorf("%d: transient is not %v", code, want)
		}
	}
	if Transient(context.Canceled) || !Transient(context.DeadlineExceeded) {
		t.Error("a request that was cancelled is tried again, or one that took too long is not")
	}
}

func TestPace(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	l := NewLimiter(1)
	if err := l.Wait(ctx); err != nil {
		t.Errorf("the first permit: %v", err)
	}
	b := Backoff(40 * time.Second)
	cancel()
	if err := l.Wait(ctx); err != context.Canceled {
		t.Errorf("the second permit: %v", err)
	}
	if err := NewLimiter(0).Wait(ctx); err != context.Canceled {
		t.Errorf("no limit: %v", err)
	}
	for range 2 {
		if err := b.Wait(ctx, nil); err != context.Canceled || time.Duration(b) != maxPause {
			t.Errorf("%v, then a pause of %s", err, time.Duration(b))
		}
	}
}
