// Package layout lists the tensors of a model by its config: names as the authors' code saves them, shapes, and how an
// untrained model starts. It is what a folder is checked against and what `stllm model init` writes.
package layout

import (
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/points/network"
)

// Prefixes of names in the published checkpoint.
const (
	Vision       = "model.vision_tower.vision_tower.vision_model."
	PointEncoder = "pcd_encoder."
)

// Part is a group of tensors of one network of the model.
type Part struct {
	Name    string // for people: "vision tower"
	Tensors []checkpoint.TensorSpec
	// Unused parts are stored in published checkpoints and never loaded; they may be absent.
	Unused bool
}

// Parts lists all tensors of a model. The point encoder's have the prefix pcd_encoder. and are fp32; OpenScene's own file has
// them without the prefix. The others have the config's torch_dtype.
func Parts(c *config.Config) ([]Part, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	l := &lister{config: c, dtype: map[string]checkpoint.DType{"bfloat16": checkpoint.BF16, "float16": checkpoint.F16, "float32": checkpoint.F32}[c.TorchDtype]}
	l.language()
	l.vision()
	if c.STLLM3D {
		l.part("point projector", false)
		l.linear("pcd_to_language_projection", c.PcdFeatureDim, c.HiddenSize, c.InitializerRange)
	} else {
		l.aligner()
	}
	l.unused()
	points, err := PointEncoderSpecs(c)
	if err != nil {
		return nil, err
	}
	for i := range points {
		points[i].Name = PointEncoder + points[i].Name
	}
	return append(l.parts, Part{Name: "point encoder", Tensors: points}), nil
}

// Tensors lists the tensors of all parts, unused ones included, as a published checkpoint has them.
func Tensors(c *config.Config) ([]checkpoint.TensorSpec, error) {
	parts, err := Parts(c)
	if err != nil {
		return nil, err
	}
	var out []checkpoint.TensorSpec
	for _, p := range parts {
		out = append(out, p.Tensors...)
	}
	return out, nil
}

// PointEncoderSpecs lists the point encoder's tensors by the names of its own file (net3d.… or detector.…).
func PointEncoderSpecs(c *config.Config) ([]checkpoint.TensorSpec, error) {
	if c.PointEncoderConfig.Type == config.MinkUNet {
		return Mink(c).Specs()
	}
	return Transformer(c).Specs()
}

// Mink is the sparse U-Net of a config.
func Mink(c *config.Config) network.Mink {
	m, p := network.MinkUNet18A(), c.PointEncoderConfig
	m.In, m.Stem, m.Encoder, m.Decoder, m.Out = c.VoxelColumns(), p.Stem, p.Encoder, p.Decoder, c.PcdFeatureDim
	return m
}

// Transformer is the masked transformer of a config.
func Transformer(c *config.Config) network.Transformer {
	t, p := network.PublishedTransformer(), c.PointEncoderConfig
	t.Samples, t.Samples2, t.Width, t.Heads, t.FFN, t.Layers = p.Samples, p.Samples2, p.HiddenSize, p.Heads, p.FFN, p.Layers
	return t
}

// Open opens a model folder's weights together with the file that holds the point encoder where that lies elsewhere; "" is none.
// A file that is named must hold the whole point encoder of the config, and the folder none of it: which of two would be used
// is nothing to guess.
func Open(dir, points string, c *config.Config) (*checkpoint.Folder, error) {
	f, err := checkpoint.OpenFolder(dir, points)
	if err != nil || points == "" {
		return f, err
	}
	if err := holdsPoints(f, points, c); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// holdsPoints looks for the point encoder in the file that was opened last.
func holdsPoints(f *checkpoint.Folder, points string, c *config.Config) error {
	specs, err := PointEncoderSpecs(c)
	if err != nil {
		return err
	}
	file := f.Files[len(f.Files)-1]
	var needed int
	var missing []string
	var own *checkpoint.Tensor
	for _, s := range specs {
		if strings.HasSuffix(s.Name, "num_batches_tracked") {
			continue
		}
		needed++
		held := false
		for _, name := range []string{s.Name, PointEncoder + s.Name} {
			switch t, ok := f.Tensor(name); {
			case ok && t.File == file:
				held = true
			case ok:
				own = t
			}
		}
		if !held {
			missing = append(missing, s.Name)
		}
	}
	switch {
	case len(missing) > 0:
		return fmt.Errorf("point weights %s: %d of the %d tensors of the point encoder are missing: %s", points, len(missing), needed, checkpoint.ListNames(missing))
	case own != nil:
		return fmt.Errorf("point weights %s: the model folder has a point encoder of its own (%s in %s); leave the file out, or name a folder without one", points, own.Name, f.Name(own.File))
	}
	return nil
}

// Report is what a folder has and lacks.
type Report struct {
	Missing    []string // needed, not stored
	Unexpected []string // stored, not part of the model
	Wrong      []string // stored with another shape: name, found, expected
}

// Err is nil where all needed tensors are there with the right shapes. Unexpected ones are no error.
func (r *Report) Err() error {
	var errs []error
	if len(r.Missing) > 0 {
		errs = append(errs, fmt.Errorf("%d tensors are missing: %s", len(r.Missing), checkpoint.ListNames(r.Missing)))
	}
	if len(r.Wrong) > 0 {
		errs = append(errs, fmt.Errorf("%d tensors contradict config.json: %s", len(r.Wrong), checkpoint.ListNames(r.Wrong)))
	}
	return errors.Join(errs...)
}

// Check compares a folder with its config. Point encoder tensors are found with and without the prefix pcd_encoder.
func Check(f *checkpoint.Folder, c *config.Config) (*Report, error) {
	parts, err := Parts(c)
	if err != nil {
		return nil, err
	}
	r := &Report{}
	known := map[string]bool{}
	for _, p := range parts {
		for _, spec := range p.Tensors {
			t, ok := f.Tensor(spec.Name, strings.TrimPrefix(spec.Name, PointEncoder))
			if codes, coded := Codes(f, spec.Name); !ok && coded {
				known[codes.Name] = true
				if scales, ok := f.Tensor(strings.TrimSuffix(codes.Name, checkpoint.CodesSuffix) + checkpoint.ScalesSuffix); ok {
					known[scales.Name] = true
				} else {
					r.Missing = append(r.Missing, strings.TrimSuffix(codes.Name, checkpoint.CodesSuffix)+checkpoint.ScalesSuffix)
				}
				continue // shapes are checked when the codes are multiplied
			}
			if !ok {
				if !p.Unused && !strings.HasSuffix(spec.Name, "num_batches_tracked") {
					r.Missing = append(r.Missing, spec.Name)
				}
				continue
			}
			known[t.Name] = true
			if err := t.Expect(spec.Shape...); err != nil && !p.Unused {
				r.Wrong = append(r.Wrong, fmt.Sprintf("%s in %s is %v, expected %v", t.Name, filepath.Base(t.File), t.Shape, spec.Shape))
			}
		}
	}
	for _, t := range f.Tensors {
		if !known[t.Name] {
			r.Unexpected = append(r.Unexpected, t.Name)
		}
	}
	return r, nil
}

type lister struct {
	config *config.Config
	dtype  checkpoint.DType
	parts  []Part
}

func (l *lister) part(name string, unused bool) {
	l.parts = append(l.parts, Part{Name: name, Unused: unused})
}

func (l *lister) add(name string, d checkpoint.DType, init checkpoint.Init, shape ...int) {
	wide := make([]int64, len(shape))
	for i, n := range shape {
		wide[i] = int64(n)
	}
	p := &l.parts[len(l.parts)-1]
	p.Tensors = append(p.Tensors, checkpoint.TensorSpec{Name: name, DType: d, Shape: wide, Init: init})
}

func (l *lister) normal(name string, std float64, shape ...int) {
	l.add(name, l.dtype, checkpoint.Init{Kind: checkpoint.Normal, Value: std}, shape...)
}

func (l *lister) constant(name string, value float64, n int) {
	l.add(name, l.dtype, checkpoint.Init{Value: value}, n)
}

// linear is a matrix [out, in] and a bias of zeros.
func (l *lister) linear(name string, in, out int, std float64) {
	l.normal(name+".weight", std, out, in)
	l.constant(name+".bias", 0, out)
}

// norm is a LayerNorm that begins as the identity.
func (l *lister) norm(name string, n int) {
	l.constant(name+".weight", 1, n)
	l.constant(name+".bias", 0, n)
}

func (l *lister) language() {
	c, std := l.config, l.config.InitializerRange
	l.part("language model", false)
	l.normal("model.embed_tokens.weight", std, c.VocabSize, c.HiddenSize)
	kv := c.NumKeyValueHeads * c.HeadDim()
	for i := range c.NumHiddenLayers {
		p := fmt.Sprintf("model.layers.%d.", i)
		l.linear(p+"self_attn.q_proj", c.HiddenSize, c.HiddenSize, std)
		l.linear(p+"self_attn.k_proj", c.HiddenSize, kv, std)
		l.linear(p+"self_attn.v_proj", c.HiddenSize, kv, std)
		l.normal(p+"self_attn.o_proj.weight", std, c.HiddenSize, c.HiddenSize)
		l.normal(p+"mlp.gate_proj.weight", std, c.IntermediateSize, c.HiddenSize)
		l.normal(p+"mlp.up_proj.weight", std, c.IntermediateSize, c.HiddenSize)
		l.normal(p+"mlp.down_proj.weight", std, c.HiddenSize, c.IntermediateSize)
		l.constant(p+"input_layernorm.weight", 1, c.HiddenSize)
		l.constant(p+"post_attention_layernorm.weight", 1, c.HiddenSize)
	}
	l.constant("model.norm.weight", 1, c.HiddenSize)
	if !c.TieWordEmbeddings {
		l.normal("lm_head.weight", std, c.VocabSize, c.HiddenSize)
	}
}

func (l *lister) vision() {
	c, v := l.config, l.config.VisionConfig
	std := 1 / math.Sqrt(float64(v.HiddenSize))
	l.part("vision tower", false)
	l.normal(Vision+"embeddings.patch_embedding.weight", 1/math.Sqrt(float64(3*v.PatchSize*v.PatchSize)), v.HiddenSize, 3, v.PatchSize, v.PatchSize)
	l.constant(Vision+"embeddings.patch_embedding.bias", 0, v.HiddenSize)
	l.normal(Vision+"embeddings.position_embedding.weight", std, v.Grid()*v.Grid(), v.HiddenSize)
	for i := range v.Layers() {
		p := fmt.Sprintf("%sencoder.layers.%d.", Vision, i)
		for _, name := range []string{"k_proj", "v_proj", "q_proj", "out_proj"} {
			l.linear(p+"self_attn."+name, v.HiddenSize, v.HiddenSize, std)
		}
		l.norm(p+"layer_norm1", v.HiddenSize)
		l.linear(p+"mlp.fc1", v.HiddenSize, v.IntermediateSize, std)
		l.linear(p+"mlp.fc2", v.IntermediateSize, v.HiddenSize, 1/math.Sqrt(float64(v.IntermediateSize)))
		l.norm(p+"layer_norm2", v.HiddenSize)
	}
	l.part("projector", false)
	l.linear("model.mm_projector.0", v.HiddenSize, c.HiddenSize, std)
	l.linear("model.mm_projector.2", c.HiddenSize, c.HiddenSize, 1/math.Sqrt(float64(c.HiddenSize)))
	l.normal("model.image_newline", 1/math.Sqrt(float64(c.HiddenSize)), c.HiddenSize)
}

func (l *lister) aligner() {
	c, q, std := l.config, l.config.QFormerConfig, l.config.InitializerRange
	l.part("ray encoders", false)
	in := c.PointColumns()
	l.linear("pcd_ray_encoder.pcd_ray_projection_to_qformer", in, c.PcdFeatureDim, 1/math.Sqrt(float64(in)))
	in = c.ImageColumns()
	l.linear("img_ray_encoder.img_ray_projection_to_qformer", in, q.HiddenSize, 1/math.Sqrt(float64(in)))
	if o := c.RobotConfig; o != nil && o.EmptyMemory {
		l.part("empty memory", false)
		l.normal("memory_empty.weight", 1, 1, c.PcdFeatureDim)
	}
	l.part("Q-Former", false)
	l.norm("qformer.embeddings.layernorm", q.HiddenSize)
	for i := range q.NumHiddenLayers {
		p := fmt.Sprintf("qformer.encoder.layer.%d.", i)
		l.attention(p+"attention.", q.HiddenSize, q.HiddenSize)
		if i%q.CrossAttentionFrequency == 0 {
			l.attention(p+"crossattention.", q.HiddenSize, q.EncoderHiddenSize)
		}
		l.linear(p+"intermediate_query.dense", q.HiddenSize, q.IntermediateSize, std)
		l.linear(p+"output_query.dense", q.IntermediateSize, q.HiddenSize, std)
		l.norm(p+"output_query.LayerNorm", q.HiddenSize)
	}
	l.part("aligner projections", false)
	l.linear("img_encoder_to_qformer_projection", c.ImgEncoderFeatureDim, q.HiddenSize, 1/math.Sqrt(float64(c.ImgEncoderFeatureDim)))
	l.linear("text_embed_to_qformer_projection", c.HiddenSize, q.HiddenSize, 1/math.Sqrt(float64(c.HiddenSize)))
	if o := c.RobotConfig; o != nil && o.TextContext > 0 {
		in := 2 * o.TextContext * c.HiddenSize
		l.normal("text_context_projection.weight", 1/math.Sqrt(float64(in)), q.HiddenSize, in)
	}
	l.normal("latent_query.weight", 1, q.NumQueryTokens, q.HiddenSize)
	l.linear("qformer_to_language_projection", q.HiddenSize, c.HiddenSize, std)
}

func (l *lister) attention(prefix string, n, keys int) {
	std := l.config.InitializerRange
	l.linear(prefix+"attention.query", n, n, std)
	l.linear(prefix+"attention.key", keys, n, std)
	l.linear(prefix+"attention.value", keys, n, std)
	l.linear(prefix+"output.dense", n, n, std)
	l.norm(prefix+"output.LayerNorm", n)
}

// unused lists what published checkpoints hold and the model never reads; the sizes of mlp_module are fixed in the code.
func (l *lister) unused() {
	c, q, std := l.config, l.config.QFormerConfig, l.config.InitializerRange
	if c.Profile != config.Published || c.STLLM3D {
		return
	}
	l.part("stored and unused", true)
	l.norm(Vision+"post_layernorm", c.VisionConfig.HiddenSize)
	l.normal("qformer.embeddings.word_embeddings.weight", std, q.VocabSize, q.HiddenSize)
	l.normal("qformer.embeddings.position_embeddings.weight", std, q.MaxPositionEmbeddings, q.HiddenSize)
	for i := range q.NumHiddenLayers {
		p := fmt.Sprintf("qformer.encoder.layer.%d.", i)
		l.linear(p+"intermediate.dense", q.HiddenSize, q.IntermediateSize, std)
		l.linear(p+"output.dense", q.IntermediateSize, q.HiddenSize, std)
		l.norm(p+"output.LayerNorm", q.HiddenSize)
	}
	for i, size := range [][2]int{{768, 64}, {64, 128}, {128, 768}} {
		linear, norm := fmt.Sprintf("mlp_module.%d", 3*i), fmt.Sprintf("mlp_module.%d", 3*i+1)
		l.linear(linear, size[0], size[1], 1/math.Sqrt(float64(size[0])))
		l.norm(norm, size[1])
		l.constant(norm+".running_mean", 0, size[1])
		l.constant(norm+".running_var", 1, size[1])
		l.add(norm+".num_batches_tracked", checkpoint.I64, checkpoint.Init{})
	}
}
