package judge

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/stllm/stllm/bags/internal/service"
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

// OpenAI speaks the chat completions interface, which OpenAI, vLLM, ollama and llama.cpp's server offer.
type OpenAI struct {
	Endpoint string // base URL, for example http://127.0.0.1:8000/v1
	Model    string
	Key      string       // sent as a bearer token; never logged or stored
	System   string       // system message; empty: none
	HTTP     *http.Client // nil: the default one
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
	server := service.Chat(c.Endpoint, c.Key, c.HTTP)
	raw, err := server.Post(ctx, map[string]any{"model": c.Model, "messages": messages, "temperature": 0}, &out)
	if err != nil {
		return Reply{}, err
	}
	if len(out.Choices) == 0 {
		return Reply{}, fmt.Errorf("reply of %s has no choices: %s", c.Model, server.Snippet(raw))
	}
	return Reply{out.Choices[0].Message.Content, out.Usage.PromptTokens, out.Usage.CompletionTokens, raw}, nil
}

// Gemini speaks the generateContent interface.
type Gemini struct {
	Endpoint string // base URL, for example https://…/v1beta
	Model    string
	Key      string
	HTTP     *http.Client // nil: the default one
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
	server := service.Server{URL: strings.TrimSuffix(c.Endpoint, "/") + "/models/" + url.PathEscape(c.Model) + ":generateContent", Header: header, Key: c.Key, HTTP: c.HTTP}
	raw, err := server.Post(ctx, map[string]any{
		"contents":         []any{map[string]any{"parts": []part{{prompt}}}},
		"generationConfig": map[string]any{"temperature": 0, "maxOutputTokens": 500},
	}, &out)
	if err != nil {
		return Reply{}, err
	}
	if len(out.Candidates) == 0 {
		return Reply{}, fmt.Errorf("reply of %s has no candidates: %s", c.Model, server.Snippet(raw))
	}
	var text strings.Builder
	for _, p := range out.Candidates[0].Content.Parts {
		text.WriteString(p.Text)
	}
	return Reply{text.String(), out.Usage.PromptTokenCount, out.Usage.CandidatesTokenCount, raw}, nil
}
