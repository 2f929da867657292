package stllm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/layout"
	"github.com/stllm/stllm/node/graph"
	"github.com/stllm/stllm/node/ort"
	"github.com/stllm/stllm/node/rays"
	"github.com/stllm/stllm/node/stllm/module"
	"github.com/stllm/stllm/node/stllm/prompt"
	"github.com/stllm/stllm/node/tokenizer"
)

// Options of a loaded model.
type Options struct {
	Device       string // "cpu" (default), "cuda", "cuda:1"
	Threads      int    // CPU threads; 0: all cores
	Spin         bool   // keep threads spinning between operators
	Int4         bool   // 4-bit weights in the language model
	Int4Block    int    // 32, 64 or 128; default 32
	PointWeights string // file of the point encoder where it lies outside the folder (OpenScene's .pth)
	MapWeights   bool   // use float32 weights in their file without repacking; see ort.Options
	Log          zerolog.Logger
}

// Network is ST-LLM from a model folder, run by ONNX Runtime. It implements [Model].
type Network struct {
	id         string
	cfg        *config.Config
	generation *config.Generation
	folder     *checkpoint.Folder
	tok        *tokenizer.Tokenizer
	prompts    *prompt.Builder
	decoderCfg module.DecoderConfig
	scratch    *module.Scratch
	log        zerolog.Logger

	vision, points, aligner, decoder *ort.Session

	fourier *rays.Fourier
	newline []float32
	table   *checkpoint.Tensor // token embeddings
	eos     []int32
	quant   []module.QuantisedMatrix

	env     *ort.Environment
	opt     Options
	answer  sync.Mutex // one answer at a time: the device is one
	kept    kept       // of the last answer, for the next one
	looking sync.Once  // builds the session that shows evidence
	lookErr error
	looker  *ort.Session
}

var _ Model = (*Network)(nil)

// Load opens a model folder and makes its sessions.
func Load(ctx context.Context, env *ort.Environment, dir string, o Options) (*Network, error) {
	if o.Int4 && o.MapWeights {
		return nil, errors.New("options Int4 and MapWeights exclude each other: mapped 4-bit weights would run by a slower kernel")
	}
	n := &Network{env: env, opt: o, log: o.Log, fourier: rays.NewPublishedFourier()}
	if err := n.load(ctx, dir); err != nil {
		return nil, errors.Join(fmt.Errorf("load model %s: %w", dir, err), n.Close())
	}
	return n, nil
}

func (n *Network) load(ctx context.Context, dir string) (err error) {
	if dir, err = checkpoint.ResolveFolder(dir); err != nil {
		return err
	}
	if n.cfg, err = config.Load(dir); err != nil {
		return err
	}
	if n.generation, err = config.LoadGeneration(dir); err != nil {
		return err
	}
	if n.id, err = modelID(dir); err != nil {
		return err
	}
	if n.tok, err = tokenizer.Open(filepath.Join(dir, "tokenizer.json")); err != nil {
		return err
	}
	if n.tok.Size() > n.cfg.VocabSize {
		return fmt.Errorf("tokenizer has ids up to %d, config field vocab_size is %d", n.tok.Size()-1, n.cfg.VocabSize)
	}
	n.prompts, err = NewPrompts(n.tok, n.cfg)
	if err != nil {
		return err
	}
	n.eos = n.generation.EOSTokenID
	if len(n.eos) == 0 {
		n.eos = n.cfg.EOSTokenID
	}
	var extra []string
	if n.opt.PointWeights != "" {
		extra = append(extra, n.opt.PointWeights)
	}
	if n.folder, err = checkpoint.OpenFolder(dir, extra...); err != nil {
		return err
	}
	report, err := layout.Check(n.folder, n.cfg)
	if err != nil {
		return err
	}
	if err := report.Err(); err != nil {
		return err
	}
	if n.scratch, err = module.NewScratch(""); err != nil {
		return err
	}
	if err := n.tables(); err != nil {
		return err
	}
	for _, part := range []struct {
		name string
		make func() (*ort.Session, error)
		to   **ort.Session
	}{
		{"vision", n.visionSession, &n.vision}, {"points", n.pointSession, &n.points},
		{"aligner", func() (*ort.Session, error) { return n.alignerSession(false) }, &n.aligner}, {"decoder", n.decoderSession, &n.decoder},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		n.log.Debug().Str("part", part.name).Msg("make session")
		if *part.to, err = part.make(); err != nil {
			return err
		}
	}
	return n.scratch.Unlink()
}

// NewPrompts writes prompts as a config has them. The trainer uses it as well, so that it trains on what the node asks.
func NewPrompts(tok *tokenizer.Tokenizer, c *config.Config) (*prompt.Builder, error) {
	o := prompt.Options{Timed: c.AddTimeInstruction, GenerationHeader: true}
	if c.RobotConfig != nil {
		o.System = c.RobotConfig.SystemPrompt
	}
	return prompt.New(promptTokens{tok}, o)
}

// promptTokens lets a tokenizer write prompts.
type promptTokens struct{ *tokenizer.Tokenizer }

func (p promptTokens) ID(content string) (int32, bool) {
	id, err := p.Special(content)
	return id, err == nil
}

// modelID is what the folder calls itself (config field _name_or_path), or the folder's name.
func modelID(dir string) (string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return "", err
	}
	var c struct {
		Name string `json:"_name_or_path"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return "", fmt.Errorf("config.json: %w", err)
	}
	if c.Name != "" {
		return c.Name, nil
	}
	return filepath.Base(dir), nil
}

// tables reads the small weights that Go itself uses.
func (n *Network) tables() error {
	line, ok := n.folder.Tensor("model.image_newline")
	if !ok {
		return errors.New("tensor model.image_newline is missing")
	}
	var err error
	if n.newline, err = line.Float32(); err != nil {
		return err
	}
	if n.table, ok = n.folder.Tensor("model.embed_tokens.weight"); !ok {
		return errors.New("tensor model.embed_tokens.weight is missing")
	}
	return nil
}

func (n *Network) builder(name string) *module.Builder {
	return &module.Builder{G: graph.New(name), Find: n.folder, DType: graph.Float32, Scratch: n.scratch}
}

func (n *Network) session(g *graph.Graph) (*ort.Session, error) {
	m, err := g.Model()
	if err != nil {
		return nil, err
	}
	return ort.NewSession(n.env, m, ort.Options{Device: n.opt.Device, Threads: n.opt.Threads, Spin: n.opt.Spin, MapWeights: n.opt.MapWeights})
}

// visionSession goes from pixels to pooled features of one frame.
func (n *Network) visionSession() (*ort.Session, error) {
	b, c := n.builder("vision"), n.cfg
	v := c.VisionConfig
	pixels := b.G.Input("pixels", graph.Float32, graph.D(1), graph.D(v.NumChannels), graph.D(v.ImageSize), graph.D(v.ImageSize))
	x := b.Vision(pixels, v, layout.Vision)
	x = b.Projector(x, c.MMHiddenSize, c.HiddenSize, "model.mm_projector.")
	if c.RobotConfig != nil && c.RobotConfig.PatchMemory {
		b.G.Output("patches", x)
	}
	b.G.Output("pooled", b.Pool(x, v.Grid(), c.PooledGrid(), c.MMSpatialPoolMode, c.MMSpatialPoolStride))
	return n.session(b.G)
}

// alignerSession goes from features and rays to spatial tokens; the looking one also says where they come from.
func (n *Network) alignerSession(looking bool) (*ort.Session, error) {
	b := n.builder("aligner")
	if c := n.cfg; c.STLLM3D {
		// STLLM-3D: the map's tokens go straight to the language model, as wide as it is.
		points := b.G.Input("points", graph.Float32, graph.N("voxels"), graph.D(c.PcdFeatureDim))
		b.G.Output("prefix", b.Linear(b.G.Cast(points, b.DType), "pcd_to_language_projection", c.PcdFeatureDim, c.HiddenSize, true))
		return n.session(b.G)
	}
	b.Decompose = looking
	if looking {
		// The scratch file is gone by now; what has to be converted stays in the model's bytes.
		b.Scratch = nil
	}
	a := module.Aligner{Config: n.cfg}
	spatial, evidence := a.Build(b, a.Inputs(b))
	b.G.Output("prefix", spatial)
	if evidence != nil {
		b.G.Output("evidence_points", evidence.Points)
		b.G.Output("evidence_images", evidence.Images)
	}
	return n.session(b.G)
}

func (n *Network) decoderSession() (*ort.Session, error) {
	c, b := n.cfg, n.builder("decoder")
	if n.opt.Int4 {
		block := n.opt.Int4Block
		if block == 0 {
			block = 32
		}
		b.Quant = &module.Quant{Block: block}
	}
	n.decoderCfg = module.DecoderOf(c)
	o := module.DecoderOptions{Positions: c.MaxPositionEmbeddings}
	n.decoderCfg.Build(b, n.decoderCfg.Inputs(b, o), o)
	n.quant = b.Quantised
	return n.session(b.G)
}

// ID names the weights.
func (n *Network) ID() string { return n.id }

// Frames is the number of frames of a window.
func (n *Network) Frames() int { return n.cfg.NumFrames }

// Config is the model's configuration; it must not be changed.
func (n *Network) Config() *config.Config { return n.cfg }

// Generation is the model's own decoding setting.
func (n *Network) Generation() config.Generation { return *n.generation }

// Tokens counts the tokens of a question.
func (n *Network) Tokens(text string) int { return len(n.tok.Encode(text)) }

// Quantised lists the matrices that were quantised at load, with their errors.
func (n *Network) Quantised() []module.QuantisedMatrix { return n.quant }

// Close frees sessions and files.
func (n *Network) Close() error {
	var errs []error
	for _, s := range []*ort.Session{n.vision, n.points, n.aligner, n.decoder, n.looker} {
		errs = append(errs, s.Close())
	}
	if n.folder != nil {
		errs = append(errs, n.folder.Close())
		n.folder = nil
	}
	return errors.Join(errs...)
}
