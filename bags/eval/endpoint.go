package eval

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/stllm/stllm/bags/internal/service"
	"github.com/stllm/stllm/node/imaging"
)

// EndpointOptions describe a server that speaks the chat completions interface with pictures (vLLM, ollama, llama.cpp's
// server, OpenAI).
type EndpointOptions struct {
	URL       string // base, for example http://127.0.0.1:8000/v1
	Model     string
	Key       string        // sent as a bearer token; never logged or stored
	Width     int           // pictures are scaled down to this width, pixels, default 448
	Frames    int           // pictures at most, taken evenly; default 32
	MaxTokens int           // of an answer, default 256
	Tries     int           // default 4
	Pause     time.Duration // before the second try, doubled after each; default 2 s
	Timeout   time.Duration // of one request, default 3 min
	PerMinute int           // requests a minute at most; 0: no limit
	HTTP      *http.Client  // nil: the default one
}

// Endpoint answers through a server: it sees the pictures in order and the question, and nothing of poses and map.
type Endpoint struct {
	o      EndpointOptions
	server service.Server
	limit  *service.Limiter
}

// NewEndpoint checks the options.
func NewEndpoint(o EndpointOptions) (*Endpoint, error) {
	u, err := url.Parse(o.URL)
	switch {
	case err != nil:
		return nil, errors.New("endpoint: url is not one") // the parser's error would repeat a password in it
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return nil, fmt.Errorf("endpoint: url has scheme %q and host %q, expected for example http://127.0.0.1:8000/v1", u.Scheme, u.Host)
	case u.User != nil:
		return nil, errors.New("endpoint: url holds a user or password: give the key by the environment")
	case o.Model == "":
		return nil, errors.New("endpoint: model is missing")
	case o.Width < 0 || o.Frames < 0 || o.MaxTokens < 0 || o.Tries < 0 || o.PerMinute < 0:
		return nil, fmt.Errorf("endpoint: width %d, frames %d, max tokens %d, tries %d, per minute %d: none may be negative", o.Width, o.Frames, o.MaxTokens, o.Tries, o.PerMinute)
	}
	for _, d := range []struct {
		field *int
		value int
	}{{&o.Width, 448}, {&o.Frames, 32}, {&o.MaxTokens, 256}, {&o.Tries, 4}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.Pause <= 0 {
		o.Pause = 2 * time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = 3 * time.Minute
	}
	return &Endpoint{o: o, server: service.Chat(u.String(), o.Key, o.HTTP), limit: service.NewLimiter(o.PerMinute)}, nil
}

// ID names the model.
func (e *Endpoint) ID() string { return e.o.Model }

// part is a piece of a message.
type part struct {
	Type  string    `json:"type"`
	Text  string    `json:"text,omitempty"`
	Image *imageURL `json:"image_url,omitempty"`
}

type imageURL struct {
	URL string `json:"url"`
}

// Answer sends pictures and question, at temperature 0.
func (e *Endpoint) Answer(ctx context.Context, q Query) (Reply, error) {
	content, err := e.content(q)
	if err != nil {
		return Reply{}, err
	}
	body := map[string]any{"model": e.o.Model, "temperature": 0, "max_tokens": e.o.MaxTokens,
		"messages": []any{map[string]any{"role": "user", "content": content}}}
	pause := service.Backoff(e.o.Pause)
	for try := 1; ; try++ {
		if err := e.limit.Wait(ctx); err != nil {
			return Reply{}, err
		}
		text, err := e.post(ctx, body)
		if err == nil {
			return Reply{Text: text}, nil
		}
		if ctx.Err() != nil {
			return Reply{}, ctx.Err()
		}
		if try >= e.o.Tries || !service.Transient(err) {
			return Reply{}, fmt.Errorf("ask %s, try %d: %w", e.o.Model, try, err)
		}
		if err := pause.Wait(ctx, err); err != nil {
			return Reply{}, err
		}
	}
}

// content is the message: a sentence on the pictures, the pictures, the question.
func (e *Endpoint) content(q Query) ([]part, error) {
	var frames []Frame
	for _, f := range q.Clip.Frames {
		if f.Picture != nil {
			frames = append(frames, f)
		}
	}
	var out []part
	if n := min(len(frames), e.o.Frames); n > 0 {
		out = append(out, part{Type: "text", Text: fmt.Sprintf("These are %d pictures in order of time from a video that a person's camera took while walking through a room. The last one shows what is ahead of the person now.", n)})
		for i := range n {
			at := len(frames) - 1
			if n > 1 {
				at = i * (len(frames) - 1) / (n - 1)
			}
			data, err := e.jpeg(frames[at].Picture)
			if err != nil {
				return nil, fmt.Errorf("frame %s: %w", frames[at].Name, err)
			}
			out = append(out, part{Type: "image_url", Image: &imageURL{"data:image/jpeg;base64," + base64.StdEncoding.EncodeToString(data)}})
		}
	}
	text := q.Question
	if len(q.Choices) > 0 {
		text += "\nAnswer with exactly one of: " + strings.Join(q.Choices, "; ")
	}
	return append(out, part{Type: "text", Text: text}), nil
}

func (e *Endpoint) jpeg(p *imaging.RGB) ([]byte, error) {
	if p.Width > e.o.Width {
		var err error
		if p, err = p.Resize(e.o.Width, max(1, p.Height*e.o.Width/p.Width)); err != nil {
			return nil, err
		}
	}
	return p.JPEG(90)
}

func (e *Endpoint) post(ctx context.Context, body any) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, e.o.Timeout)
	defer cancel()
	var out struct {
		Choices []struct{ Message struct{ Content *string } }
	}
	raw, err := e.server.Post(ctx, body, &out)
	if err != nil {
		return "", err
	}
	if len(out.Choices) == 0 || out.Choices[0].Message.Content == nil {
		return "", fmt.Errorf("reply has no choices with a text: %s", e.server.Snippet(raw))
	}
	return *out.Choices[0].Message.Content, nil
}
