// Package service asks servers of models over HTTP: with a bounded reply, at a bounded rate, again after passing faults, and
// without the key in an error.
package service

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxReply bounds what is read of a response.
const maxReply = 4 << 20

// maxRetryAfter bounds for how long a server can have us wait.
const maxRetryAfter = 5 * time.Minute

// StatusError is a refusal by the server.
type StatusError struct {
	Code       int
	Body       string        // shortened
	RetryAfter time.Duration // what the server asks for, at most 5 min
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("service answered %d %s: %s", e.Code, http.StatusText(e.Code), e.Body)
}

// Transient tells whether an error is worth another try: the network's faults and the server's passing ones.
func Transient(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false
	}
	var status *StatusError
	if errors.As(err, &status) {
		return status.Code == http.StatusTooManyRequests || status.Code == http.StatusRequestTimeout || status.Code >= 500
	}
	return true
}

// Server is where questions of one kind go.
type Server struct {
	URL    string
	Header http.Header  // sent along; nil: none
	Key    string       // what is taken out of a reply that goes into an error
	HTTP   *http.Client // nil: [http.DefaultClient]
}

// Chat is the chat completions interface below a base URL (for example http://127.0.0.1:8000/v1), which OpenAI, vLLM, ollama
// and llama.cpp's server offer. The key is sent as a bearer token; empty: none.
func Chat(base, key string, c *http.Client) Server {
	s := Server{URL: strings.TrimSuffix(base, "/") + "/chat/completions", Header: http.Header{}, Key: key, HTTP: c}
	if key != "" {
		s.Header.Set("Authorization", "Bearer "+key)
	}
	return s
}

// Post sends JSON and decodes the reply, which it returns as it came, too. A refusal is a *[StatusError].
func (s Server) Post(ctx context.Context, body, into any) (json.RawMessage, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("endpoint: %w", err)
	}
	if s.Header != nil {
		req.Header = s.Header.Clone()
	}
	req.Header.Set("Content-Type", "application/json")
	client := s.HTTP
	if client == nil {
		client = http.DefaultClient
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxReply+1))
	if err != nil {
		return nil, fmt.Errorf("read the reply: %w", err)
	}
	if len(raw) > maxReply {
		return nil, fmt.Errorf("reply is longer than %d bytes", maxReply)
	}
	if res.StatusCode != http.StatusOK {
		return nil, &StatusError{res.StatusCode, s.Snippet(raw), retryAfter(res.Header.Get("Retry-After"))}
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return nil, fmt.Errorf("reply is not the expected JSON: %w: %s", err, s.Snippet(raw))
	}
	return raw, nil
}

// Snippet shortens a reply for a message and takes the key out, should the server repeat it.
func (s Server) Snippet(reply []byte) string {
	text := strings.Join(strings.Fields(strings.ToValidUTF8(string(reply), "?")), " ")
	if s.Key != "" {
		text = strings.ReplaceAll(text, s.Key, "(key)")
	}
	if len(text) > 200 {
		text = strings.ToValidUTF8(text[:200], "") + "…"
	}
	return text
}

// retryAfter reads the header: whole seconds, or a date. What is neither, or absurd, is 0.
func retryAfter(v string) time.Duration {
	if s, err := strconv.Atoi(v); err == nil && s >= 0 && s < 1e6 { // far more would overflow
		return min(time.Duration(s)*time.Second, maxRetryAfter)
	}
	if t, err := http.ParseTime(v); err == nil {
		return min(max(0, time.Until(t)), maxRetryAfter)
	}
	return 0
}
