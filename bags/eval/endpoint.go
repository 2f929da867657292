package eval

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/stllm/stllm/bags/judge"
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
	HTTP      *http.Client  // default: one of its own
}

// Endpoint answers through a server: it sees the pictures in order and the question, and nothing of poses and map.
type Endpoint struct {
	o    EndpointOptions
	to   string
	mu   sync.Mutex
	next time.Time // of the next request, where there is a limit
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
	if o.HTTP == nil {
		o.HTTP = &http.Client{}
	}
	return &Endpoint{o: o, to: strings.TrimSuffix(u.String(), "/") + "/chat/completions"}, nil
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
	body, err := json.Marshal(map[string]any{"model": e.o.Model, "temperature": 0, "max_tokens": e.o.MaxTokens,
		"messages": []any{map[string]any{"role": "user", "content": content}}})
	if err != nil {
		return Reply{}, fmt.Errorf("ask %s: %w", e.o.Model, err)
	}
	pause := e.o.Pause
	for try := 1; ; try++ {
		if err := e.turn(ctx); err != nil {
			return Reply{}, err
		}
		text, err := e.post(ctx, body)
		if err == nil {
			return Reply{Text: text}, nil
		}
		if ctx.Err() != nil {
			return Reply{}, ctx.Err()
		}
		var status *judge.StatusError
		refused := errors.As(err, &status)
		if try >= e.o.Tries || refused && !status.Transient() {
			return Reply{}, fmt.Errorf("ask %s, try %d: %w", e.o.Model, try, err)
		}
		wait := pause + rand.N(pause/4+1) // workers that failed together do not come back together
		if refused {
			wait = max(wait, min(status.RetryAfter, 5*time.Minute))
		}
		if err := rest(ctx, wait); err != nil {
			return Reply{}, err
		}
		pause = min(2*pause, time.Minute)
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

// maxEndpointReply bounds what is read of a response.
const maxEndpointReply = 4 << 20

func (e *Endpoint) post(ctx context.Context, body []byte) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, e.o.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.to, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	if e.o.Key != "" {
		req.Header.Set("Authorization", "Bearer "+e.o.Key)
	}
	res, err := e.o.HTTP.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(res.Body, maxEndpointReply+1))
	if err != nil {
		return "", fmt.Errorf("read the reply: %w", err)
	}
	if len(raw) > maxEndpointReply {
		return "", fmt.Errorf("reply is longer than %d bytes", maxEndpointReply)
	}
	if res.StatusCode != http.StatusOK {
		return "", &judge.StatusError{Code: res.StatusCode, Body: e.clean(raw), RetryAfter: seconds(res.Header.Get("Retry-After"))}
	}
	var out struct {
		Choices []struct{ Message struct{ Content *string } }
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return "", fmt.Errorf("reply is not the expected JSON: %w: %s", err, e.clean(raw))
	}
	if len(out.Choices) == 0 || out.Choices[0].Message.Content == nil {
		return "", fmt.Errorf("reply has no choices with a text: %s", e.clean(raw))
	}
	return *out.Choices[0].Message.Content, nil
}

// clean shortens a reply for a message and takes the key out, should the server repeat it.
func (e *Endpoint) clean(b []byte) string {
	s := strings.Join(strings.Fields(strings.ToValidUTF8(string(b), "?")), " ")
	if e.o.Key != "" {
		s = strings.ReplaceAll(s, e.o.Key, "(key)")
	}
	if len(s) > 200 {
		s = strings.ToValidUTF8(s[:200], "") + "…"
	}
	return s
}

func seconds(v string) time.Duration {
	if s, err := strconv.Atoi(v); err == nil && s >= 0 && s < 1e6 {
		return time.Duration(s) * time.Second
	}
	if t, err := http.ParseTime(v); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}

// turn waits until the limit of requests a minute allows another one.
func (e *Endpoint) turn(ctx context.Context) error {
	if e.o.PerMinute == 0 {
		return ctx.Err()
	}
	e.mu.Lock()
	at := e.next
	if now := time.Now(); at.Before(now) {
		at = now
	}
	e.next = at.Add(time.Minute / time.Duration(e.o.PerMinute))
	e.mu.Unlock()
	return rest(ctx, time.Until(at))
}

func rest(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
