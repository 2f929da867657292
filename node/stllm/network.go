package stllm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
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
	Spin         bool   // the language model's threads spin between the operators of a run
	Int4         bool   // 4-bit weights in the language model
	Int4Block    int    // 32, 64 or 128; default 32
	PointWeights string // file of the point encoder where it lies outside the folder (OpenScene's .pth)
	MapWeights   bool   // use float32 weights in their file without repacking; see ort.Options
	// DType of weights and activations: "fp32", "bf16" or "fp16"; "" is fp32 on the CPU and bf16 on CUDA. 4-bit weights are
	// multiplied in it. On a CPU bf16 is for the speed of many rows (pictures, aligner, prompt): their numbers are rounded to it
	// where they are multiplied, and all else is float32. The point encoder is always fp32, as it was trained.
	DType string
	// Progress, when not nil, is told how much of the weights is loaded, in bytes of the checkpoint's tensors.
	Progress func(part string, done, total int64)
	Log      zerolog.Logger
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
	precision
	log zerolog.Logger

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
	copying sync.Once // builds the session that copies a cache
	copyErr error
	copier  *ort.Session
	loaded  loading
	forms   forms
}

var _ Model = (*Network)(nil)

// Load opens a model folder and makes its sessions.
func Load(ctx context.Context, env *ort.Environment, dir string, o Options) (*Network, error) {
	if o.Int4 && o.MapWeights {
		return nil, errors.New("options Int4 and MapWeights exclude each other: mapped 4-bit weights would run by a slower kernel")
	}
	precision, err := o.precision(ort.RoundedProducts())
	if err != nil {
		return nil, err
	}
	n := &Network{env: env, opt: o, log: o.Log, fourier: rays.NewPublishedFourier(), precision: precision}
	err = n.open(dir)
	if err == nil {
		err = n.sessions(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("load model %s: %w", dir, err), n.Close())
	}
	return n, nil
}

// open reads everything of a model folder but the networks.
func (n *Network) open(dir string) (err error) {
	if dir, err = checkpoint.ResolveFolder(dir); err != nil {
		return err
	}
	if n.cfg, err = config.Load(dir); err != nil {
		return err
	}
	if err = n.openText(dir); err != nil {
		return err
	}
	if n.folder, err = layout.Open(dir, n.opt.PointWeights, n.cfg); err != nil {
		return err
	}
	report, err := layout.Check(n.folder, n.cfg)
	if err != nil {
		return err
	}
	if err := report.Err(); err != nil {
		return err
	}
	if len(report.Unexpected) > 0 {
		n.log.Warn().Str("folder", dir).Int("tensors", len(report.Unexpected)).Str("names", checkpoint.ListNames(report.Unexpected)).
			Msg("the folder has weights that config.json leaves unused")
	}
	return n.tables()
}

// openText reads all that text needs: how a prompt is written, its tokens, and how an answer is decoded.
func (n *Network) openText(dir string) (err error) {
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
	if n.prompts, err = NewPrompts(n.tok, n.cfg); err != nil {
		return err
	}
	if n.eos = n.generation.EOSTokenID; len(n.eos) == 0 {
		n.eos = n.cfg.EOSTokenID
	}
	return nil
}

// CheckText reports what a model folder's tokenizer.json and generation_config.json lack for it to be loaded.
func CheckText(dir string, c *config.Config) error {
	n := &Network{cfg: c}
	return n.openText(dir)
}

// sessions makes those of all networks.
func (n *Network) sessions(ctx context.Context) (err error) {
	n.loaded.total = n.neededBytes()
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
		n.loaded.part = part.name
		if *part.to, err = part.make(); err != nil {
			return err
		}
	}
	if n.opt.Progress != nil { // a few small tensors are read by nobody's session
		n.opt.Progress(n.loaded.part, n.loaded.total, n.loaded.total)
	}
	debug.FreeOSMemory() // the sessions have copies of the small weights and of the graphs that they were made of
	ort.Trim()
	return nil
}

// loading is how far Load has come.
type loading struct {
	part        string
	done, total int64
	seen        map[string]bool
}

// watched finds stored tensors for a session that is being made, and tells the progress of that.
type watched struct{ n *Network }

// Tensor implements [module.Finder].
func (w watched) Tensor(names ...string) (*checkpoint.Tensor, bool) {
	n := w.n
	t, ok := n.folder.Tensor(names...)
	l := &n.loaded
	if !ok || n.opt.Progress == nil || l.seen[t.Name] {
		return t, ok
	}
	if l.seen == nil {
		l.seen = map[string]bool{}
	}
	l.seen[t.Name] = true
	l.done = min(l.done+t.Length, l.total)
	n.opt.Progress(l.part, l.done, l.total)
	return t, ok
}

// neededBytes is how much of the folder the sessions take in: all but what is stored and never used, and the embedding
// table, which stays in its file.
func (n *Network) neededBytes() int64 {
	parts, err := layout.Parts(n.cfg)
	if err != nil {
		return 0 // Check has said so before
	}
	unused := map[string]bool{n.table.Name: true}
	for _, p := range parts {
		for _, spec := range p.Tensors {
			if p.Unused {
				unused[spec.Name] = true
			}
		}
	}
	total := int64(0)
	for _, t := range n.folder.Tensors {
		if !unused[t.Name] {
			total += t.Length
		}
	}
	return total
}

// NewPrompts writes prompts as a config has them. The trainer uses it as well, so that it trains on what the node asks.
func NewPrompts(tok *tokenizer.Tokenizer, c *config.Config) (*prompt.Builder, error) {
	o := prompt.Options{Timed: c.AddTimeInstruction, GenerationHeader: true}
	if c.RobotConfig != nil {
		o.System = c.RobotConfig.SystemPrompt
	}
	return prompt.New(promptTokens{tok}, o)
}

// NewTrainingPrompts writes the text of the published training, in which the sentence on the video's times always stands.
func NewTrainingPrompts(tok *tokenizer.Tokenizer) (*prompt.Builder, error) {
	return prompt.New(promptTokens{tok}, prompt.Options{Timed: true})
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

// session builds a graph with the folder's weights and makes a session of it. Weights that have to be converted go through a
// scratch file of the session's own, which is gone from the disk when the last session that maps it is.
func (n *Network) session(name string, build func(b *module.Builder) error) (_ *ort.Session, err error) {
	scratch, err := module.NewScratch("")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, scratch.Unlink()) }()
	b := &module.Builder{G: graph.New(name), Find: watched{n}, DType: n.dtype, Scratch: scratch, Products: n.dtype == graph.Float32}
	b.Panels, b.G.Rounded = b.Products && ort.Panels(), n.rounded
	if err := build(b); err != nil {
		return nil, err
	}
	m, err := b.G.Model()
	if err != nil {
		return nil, err
	}
	return ort.NewSession(n.env, m, ort.Options{Device: n.opt.Device, Threads: n.opt.Threads, Spin: n.opt.Spin && name == decoderName, MapWeights: n.opt.MapWeights,
		Shrink: name == "points" || name == "aligner"}) // hundreds of megabytes for a large map; a picture or a token needs little
}

// output gives a value out as float32, in which everything outside of the sessions is computed.
func output(b *module.Builder, name string, v *graph.Value) {
	b.G.Output(name, b.G.Cast(v, graph.Float32))
}

// visionSession goes from pixels to pooled features of one frame.
func (n *Network) visionSession() (*ort.Session, error) {
	return n.session("vision", func(b *module.Builder) error {
		c := n.cfg
		v := c.VisionConfig
		pixels := b.G.Input("pixels", graph.Float32, graph.D(1), graph.D(v.NumChannels), graph.D(v.ImageSize), graph.D(v.ImageSize))
		x := b.Vision(b.G.Cast(pixels, b.DType), v, layout.Vision)
		x = b.Projector(x, c.MMHiddenSize, c.HiddenSize, "model.mm_projector.")
		if c.RobotConfig != nil && c.RobotConfig.PatchMemory {
			output(b, "patches", x)
		}
		output(b, "pooled", b.Pool(x, v.Grid(), c.PooledGrid(), c.MMSpatialPoolMode, c.MMSpatialPoolStride))
		return nil
	})
}

// alignerSession goes from features and rays to spatial tokens; the looking one also says where they come from.
func (n *Network) alignerSession(looking bool) (*ort.Session, error) {
	return n.session("aligner", func(b *module.Builder) error {
		if c := n.cfg; c.STLLM3D {
			// STLLM-3D: the map's tokens go straight to the language model, as wide as it is.
			points := b.G.Input("points", graph.Float32, graph.N("voxels"), graph.D(c.PcdFeatureDim))
			output(b, "prefix", b.Linear(b.G.Cast(points, b.DType), "pcd_to_language_projection", c.PcdFeatureDim, c.HiddenSize, true))
			return nil
		}
		b.Decompose = looking
		a := module.Aligner{Config: n.cfg}
		spatial, evidence := a.Build(b, a.Inputs(b))
		output(b, "prefix", spatial)
		if evidence != nil {
			output(b, "evidence_points", evidence.Points)
			output(b, "evidence_images", evidence.Images)
			if evidence.Last != nil {
				output(b, "evidence_last", evidence.Last)
			}
		}
		return nil
	})
}

// decoderName is the session of many small operators a run, where threads that spin between them are worth it; those of the
// encoders run few large ones, all the time that a camera sees.
const decoderName = "decoder"

func (n *Network) decoderSession() (*ort.Session, error) {
	return n.session(decoderName, func(b *module.Builder) error {
		b.CodeProducts = b.Products && ort.CodeProducts()
		if codes, ok := layout.Codes(n.folder, "lm_head.weight"); ok && n.opt.MapWeights {
			return fmt.Errorf("option MapWeights is not for 4-bit weights (%s): they would run by a kernel that is a hundred times slower", codes.Name)
		}
		if n.opt.Int4 {
			block := n.opt.Int4Block
			if block == 0 {
				block = 32
			}
			b.Quant = &module.Quant{Block: block}
		}
		n.decoderCfg = module.DecoderOf(n.cfg)
		o := module.DecoderOptions{Positions: n.cfg.MaxPositionEmbeddings}
		n.decoderCfg.Build(b, n.decoderCfg.Inputs(b, o), o)
		n.quant = b.Quantised
		return nil
	})
}

// ID names the weights.
func (n *Network) ID() string { return n.id }

// Types says for people what is computed in, and what the weights are stored as.
func (n *Network) Types() string {
	stored := map[checkpoint.DType]int64{}
	most := checkpoint.DType("")
	for _, t := range n.folder.Tensors {
		if stored[t.DType] += t.Length; stored[t.DType] > stored[most] {
			most = t.DType
		}
	}
	text := fmt.Sprintf("weights mostly stored as %s, computed in %s", most, n.dtype)
	if n.rounded {
		text += ", products of many rows in bfloat16"
	}
	if n.opt.Int4 {
		text += ", the language model's weights as 4-bit codes"
	}
	return text
}

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
	for _, s := range []*ort.Session{n.vision, n.points, n.aligner, n.decoder, n.looker, n.copier} {
		errs = append(errs, s.Close())
	}
	if n.folder != nil {
		errs = append(errs, n.folder.Close())
		n.folder = nil
	}
	return errors.Join(errs...)
}
