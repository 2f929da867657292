package judge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client asks one service one question.
type Client interface {
	// Ask returns the reply's text and its token counts.
	Ask(ctx context.Context, prompt string) (Reply, error)
	// Name says which service and model.
	Name() string
}

// Reply is what a service said, as it came.
type Reply struct {
	Text                    string
	PromptTokens, NewTokens int
	Raw                     json.RawMessage
}

// maxReply bounds what is read of a response.
const maxReply = 4 << 20

// StatusError is a refusal by the service. Transient ones are worth another try.
type StatusError struct {
	Code       int
	Body       string
	RetryAfter time.Duration
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("service answered %d %s: %s", e.Code, http.StatusText(e.Code), e.Body)
}

// Transient tells whether the same request may succeed later.
func (e *StatusError) Transient() bool {
	return e.Code == http.StatusTooManyRequests || e.Code == http.StatusRequestTimeout || e.Code >= 500
}

// OpenAI speaks the chat completions interface, which OpenAI, vLLM, ollama and llama.cpp's server offer.
type OpenAI struct {
	Endpoint string // base URL, for example http://127.0.0.1:8000/v1
	Model    string
	Key      string // sent as a bearer token; never logged or stored
	System   string // system message; empty: none
	HTTP     *http.Client
}

// Name of the judge.
func (c *OpenAI) Name() string { return c.Model }

// Ask sends one chat request at temperature 0.
func (c *OpenAI) Ask(ctx context.Context, prompt string) (Reply, error) {
	type message struct {
		Role    string `json:"role"`
		Content string `json:"content"`
	}
	var messages []message
	if c.System != "" {
		messages = append(messages, message{"system", c.System})
	}
	messages = append(messages, message{"user", prompt})
	var out struct {
		Choices []struct{ Message message }
		Usage   struct {
			PromptTokens     int `json:"prompt_tokens"`
			CompletionTokens int `json:"completion_tokens"`
		}
	}
	header := http.Header{}
	if c.Key != "" {
		header.Set("Authorization", "Bearer "+c.Key)
	}
	raw, err := post(ctx, c.HTTP, strings.TrimSuffix(c.Endpoint, "/")+"/chat/completions", header,
		map[string]any{"model": c.Model, "messages": messages, "temperature": 0}, &out)
	if err != nil {
		return Reply{}, err
	}
	if len(out.Choices) == 0 {
		return Reply{}, fmt.Errorf("reply of %s has no choices: %s", c.Model, snippet(raw))
	}
	return Reply{out.Choices[0].Message.Content, out.Usage.PromptTokens, out.Usage.CompletionTokens, raw}, nil
}

// Gemini speaks the generateContent interface.
type Gemini struct {
	Endpoint string // base URL, for example https://…/v1beta
	Model    string
	Key      string
	HTTP     *http.Client
}

// Name of the judge.
func (c *Gemini) Name() string { return c.Model }

// Ask sends one request at temperature 0 with at most 500 tokens, as the published evaluator does.
func (c *Gemini) Ask(ctx context.Context, prompt string) (Reply, error) {
	type part struct {
		Text string `json:"text"`
	}
	var out struct {
		Candidates []struct{ Content struct{ Parts []part } }
		Usage      struct{ PromptTokenCount, CandidatesTokenCount int } `json:"usageMetadata"`
	}
	header := http.Header{}
	if c.Key != "" {
		header.Set("x-goog-api-key", c.Key) // in a header: a URL ends up in logs
	}
	raw, err := post(ctx, c.HTTP, strings.TrimSuffix(c.Endpoint, "/")+"/models/"+url.PathEscape(c.Model)+":generateContent", header,
		map[string]any{
			"contents":         []any{map[string]any{"parts": []part{{prompt}}}},
			"generationConfig": map[string]any{"temperature": 0, "maxOutputTokens": 500},
		}, &out)
	if err != nil {
		return Reply{}, err
	}
	if len(out.Candidates) == 0 {
		return Reply{}, fmt.Errorf("reply of %s has no candidates: %s", c.Model, snippet(raw))
	}
	var text strings.Builder
	for _, p := range out.Candidates[0].Content.Parts {
		text.WriteString(p.Text)
	}
	return Reply{text.String(), out.Usage.PromptTokenCount, out.Usage.CandidatesTokenCount, raw}, nil
}

func post(ctx context.Context, c *http.Client, to string, header http.Header, body, into any) (json.RawMessage, error) {
	data, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to, bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("judge endpoint: %w", err)
	}
	req.Header = header
	req.Header.Set("Content-Type", "application/json")
	res, err := c.Do(req)
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
		return nil, &StatusError{res.StatusCode, snippet(raw), retryAfter(res.Header.Get("Retry-After"))}
	}
	if err := json.Unmarshal(raw, into); err != nil {
		return nil, fmt.Errorf("reply is not the expected JSON: %w: %s", err, snippet(raw))
	}
	return raw, nil
}

func retryAfter(v string) time.Duration {
	if s, err := strconv.Atoi(v); err == nil && s >= 0 {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}

func snippet(b []byte) string {
	s := strings.Join(strings.Fields(strings.ToValidUTF8(string(b), "?")), " ")
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

// transient tells whether an error is worth another try: the network's faults and the service's passing ones.
func transient(err error) bool {
	if errors.Is(err, context.Canceled) {
		return false
	}
	var status *StatusError
	if errors.As(err, &status) {
		return status.Transient()
	}
	return true
}
