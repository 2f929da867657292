package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/pflag"

	"github.com/stllm/stllm/bags/eval"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/stllm"
)

// answerFlags say who answers.
type answerFlags struct {
	kind     string
	table    string
	endpoint eval.EndpointOptions
	keyEnv   string
}

func (f *answerFlags) add(s *pflag.FlagSet) {
	s.StringVar(&f.kind, "model-kind", "stllm", "stllm, or llava: the same graph without map and aligner, from video and text alone")
	s.StringVar(&f.table, "answers", "", "score answers that were made elsewhere: a JSON object of item id and text")
	s.StringVar(&f.endpoint.URL, "endpoint", "", "have a server answer instead of the model: base URL of an OpenAI-compatible one (vLLM, ollama, llama.cpp)")
	s.StringVar(&f.endpoint.Model, "endpoint-model", "", "model name at the endpoint")
	s.StringVar(&f.keyEnv, "endpoint-key-env", "OPENAI_API_KEY", "environment variable that holds the endpoint's key; it is never written anywhere")
	s.IntVar(&f.endpoint.Width, "endpoint-width", 448, "pictures are scaled down to this width, pixels")
	s.IntVar(&f.endpoint.PerMinute, "endpoint-rpm", 0, "requests a minute at most; 0: no limit")
}

// named gives an answerer an id that changes with everything that its answers depend on.
type named struct {
	eval.Answerer
	id string
}

func (n named) ID() string { return n.id }

// wanted is what an answerer wants to be shown.
type wanted struct {
	frames int // of a window
	depth  stllm.DepthUse
}

// answerer makes who answers, and tells what it wants.
func (a *app) answerer(ctx context.Context, e *evalFlags, p *params.Parameters) (who eval.Answerer, w wanted, end func(), err error) {
	end = func() {}
	w.frames = 32 // as published
	if p.Frames > 0 {
		w.frames = int(p.Frames)
	}
	h := sha256.New()
	id := ""
	switch f := &e.answers; {
	case f.kind != "stllm" && f.kind != "llava":
		return nil, w, end, usageError{fmt.Errorf("--model-kind is %q, expected stllm or llava", f.kind)}
	case f.table != "":
		data, err := os.ReadFile(f.table)
		if err != nil {
			return nil, w, end, fmt.Errorf("answers: %w", err)
		}
		t := eval.Table{Name: filepath.Base(f.table)}
		if err := json.Unmarshal(data, &t.Answers); err != nil {
			return nil, w, end, fmt.Errorf("answers %s: expected an object of item ids and texts: %w", f.table, err)
		}
		h.Write(data)
		who, id = t, t.Name
	case f.endpoint.URL != "":
		f.endpoint.Frames, f.endpoint.Key = w.frames, os.Getenv(f.keyEnv)
		f.endpoint.MaxTokens = int(p.MaxNewTokens)
		if who, err = eval.NewEndpoint(f.endpoint); err != nil {
			return nil, w, end, usageError{err}
		}
		id = who.ID()
		fmt.Fprint(h, f.endpoint.URL, f.endpoint.Width)
	default:
		dir, err := e.model.folder(ctx)
		if err != nil {
			return nil, w, end, err
		}
		if err := fingerprint(h, dir); err != nil {
			return nil, w, end, err
		}
		n, err := a.load(ctx, &e.model)
		if err != nil {
			return nil, w, end, err
		}
		end = func() { _ = n.Close() }
		if p.Frames == 0 {
			w.frames = n.Frames()
		}
		w.depth = n.DepthUse()
		d := stllm.Decoding{MaxNewTokens: int(p.MaxNewTokens), DoSample: p.DoSample, NumBeams: int(p.NumBeams), Temperature: p.Temperature, TopP: p.TopP,
			TopK: int(p.TopK), RepetitionPenalty: p.RepetitionPenalty, LengthPenalty: p.LengthPenalty, Seed: uint64(p.Seed)}
		who, id = eval.NewModel(n, d, p.Evidence), n.ID()
		if f.kind == "llava" {
			who, id = eval.NewVideoModel(n, d), n.ID()+"-llava"
		}
		fmt.Fprint(h, f.kind, e.model.opt.Int4, e.model.opt.PointWeights, e.model.opt.DType)
	}
	settings, err := json.Marshal(p)
	if err != nil {
		return nil, w, end, err
	}
	h.Write(settings)
	fmt.Fprint(h, w.frames)
	return named{who, id + "@" + hex.EncodeToString(h.Sum(nil))[:8]}, w, end, nil
}

// fingerprint hashes a folder's files: names, sizes and samples of the content, so that a model of many GB is quick.
func fingerprint(h io.Writer, dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("model folder: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() || !slices.Contains([]string{".safetensors", ".json", ".pth", ".bin"}, filepath.Ext(e.Name())) {
			continue
		}
		if err := sample(h, filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("model folder: %w", err)
		}
	}
	return nil
}

func sample(h io.Writer, path string) error {
	const pieces, size = 256, 16 << 10
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	fmt.Fprint(h, filepath.Base(path), info.Size())
	if info.Size() <= pieces*size {
		_, err := io.Copy(h, f)
		return err
	}
	buf := make([]byte, size)
	for i := range int64(pieces) {
		if _, err := f.ReadAt(buf, i*(info.Size()-size)/(pieces-1)); err != nil {
			return err
		}
		if _, err := h.Write(buf); err != nil {
			return err
		}
	}
	return nil
}
