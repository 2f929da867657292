// Package gguf reads a language model from one GGUF file, as llama.cpp writes them: the decoder's sizes, its weights under the
// names that Hugging Face gives them, the tokenizer and the chat template. The architectures llama and qwen2 are read.
package gguf

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/stllm/module"
	"github.com/stllm/stllm/node/tokenizer"
)

// Model is an open file. It is a module.Finder of the weights by their Hugging Face names.
type Model struct {
	Name      string // general.name, or the architecture
	Config    module.DecoderConfig
	Tokenizer *tokenizer.Tokenizer
	EOS       []int32 // tokens that end an answer
	Template  *Template
	// TemplateErr says why there is no Template.
	TemplateErr error

	file *checkpoint.GGUF
	arch string
	bos  int32 // before every text, where it is not negative
}

// maxContext bounds context_length: no model of today comes near, and tables are made of it.
const maxContext = 1 << 24

// Open maps a file and checks that it holds a whole model.
func Open(path string) (*Model, error) {
	f, err := checkpoint.OpenGGUF(path)
	if err != nil {
		return nil, err
	}
	m, err := New(f)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), f.Close())
	}
	return m, nil
}

// New is Open for a file that is open; the model's Close closes it.
func New(f *checkpoint.GGUF) (*Model, error) {
	m := &Model{file: f, bos: -1}
	m.arch, _ = f.Text("general.architecture")
	if m.arch != "llama" && m.arch != "qwen2" {
		return nil, fmt.Errorf("gguf: general.architecture is %q, expected llama or qwen2", m.arch)
	}
	if m.Name, _ = f.Text("general.name"); m.Name == "" {
		m.Name = m.arch
	}
	if err := m.config(); err != nil {
		return nil, err
	}
	if err := m.checkTensors(); err != nil {
		return nil, err
	}
	var err error
	if m.Tokenizer, err = tokenizer.FromGGUF(f); err != nil {
		return nil, err
	}
	if m.Tokenizer.Size() > m.Config.VocabSize {
		return nil, fmt.Errorf("gguf: the tokenizer has %d tokens, token_embd.weight %d rows", m.Tokenizer.Size(), m.Config.VocabSize)
	}
	if err := m.ends(); err != nil {
		return nil, err
	}
	text, ok := f.Text("tokenizer.chat_template")
	if !ok {
		m.TemplateErr = errors.New("the file has no chat template (tokenizer.chat_template)")
		return m, nil
	}
	if m.Template, m.TemplateErr = ParseTemplate(text); m.TemplateErr == nil {
		m.TemplateErr = m.Template.check(m)
	}
	return m, nil
}

// Close unmaps the file.
func (m *Model) Close() error { return m.file.Close() }

// size reads a whole number of the architecture's metadata.
func (m *Model) size(key string, fallback, limit int64) (int, error) {
	name := m.arch + "." + key
	if _, ok := m.file.Metadata[name]; !ok && fallback > 0 {
		return int(fallback), nil
	}
	n, ok := m.file.Int(name)
	if !ok || n < 1 || n > limit {
		return 0, fmt.Errorf("gguf: %s is %v, expected a whole number from 1 to %d", name, shown(m.file.Metadata[name]), limit)
	}
	return int(n), nil
}

// shown keeps a hostile file's long values out of messages.
func shown(v any) string {
	s := fmt.Sprint(v)
	if len(s) > 40 {
		s = s[:40] + "…"
	}
	return s
}

func (m *Model) config() error {
	c := &m.Config
	embed, ok := m.file.Tensor("token_embd.weight")
	if !ok || len(embed.Shape) != 2 {
		return errors.New("gguf: token_embd.weight is missing or is no matrix")
	}
	c.VocabSize, c.HiddenAct = int(embed.Shape[0]), "silu"
	const most = 1 << 20
	var err error
	for _, f := range []struct {
		key      string
		to       *int
		fallback func() int64
		limit    int64
	}{
		{"block_count", &c.NumHiddenLayers, nil, int64(len(m.file.Tensors))},
		{"context_length", &c.MaxPositionEmbeddings, nil, maxContext},
		{"embedding_length", &c.HiddenSize, nil, most},
		{"feed_forward_length", &c.IntermediateSize, nil, most},
		{"attention.head_count", &c.NumAttentionHeads, nil, most},
		{"attention.head_count_kv", &c.NumKeyValueHeads, func() int64 { return int64(c.NumAttentionHeads) }, most},
		{"attention.key_length", &c.HeadDim, func() int64 { return int64(c.HiddenSize / c.NumAttentionHeads) }, most},
	} {
		fallback := int64(0)
		if f.fallback != nil {
			fallback = f.fallback()
		}
		if *f.to, err = m.size(f.key, fallback, f.limit); err != nil {
			return err
		}
	}
	for _, key := range []string{"attention.value_length", "rope.dimension_count"} {
		n, err := m.size(key, int64(c.HeadDim), most)
		if err != nil {
			return err
		}
		if n != c.HeadDim {
			return fmt.Errorf("gguf: %s.%s is %d, which is supported only where it is the head size %d", m.arch, key, n, c.HeadDim)
		}
	}
	if err := m.constants(); err != nil {
		return err
	}
	_, head := m.file.Tensor("output.weight")
	_, bias := m.file.Tensor("blk.0.attn_q.bias")
	c.TieWordEmbeddings, c.AttentionBias = !head, bias
	return c.Validate()
}

// constants reads numbers that are no sizes, and refuses what would change the mathematics and is not known here.
func (m *Model) constants() error {
	c := &m.Config
	c.RopeTheta = 10000
	for _, f := range []struct {
		key      string
		to       *float64
		required bool
	}{{"attention.layer_norm_rms_epsilon", &c.RMSNormEps, true}, {"rope.freq_base", &c.RopeTheta, false}} {
		name := m.arch + "." + f.key
		if _, there := m.file.Metadata[name]; !there && !f.required {
			continue
		}
		v, ok := m.file.Float(name)
		if !ok || !(v > 0 && v < 1e12) {
			return fmt.Errorf("gguf: %s is %v, expected a number above 0", name, shown(m.file.Metadata[name]))
		}
		*f.to = v
	}
	for _, key := range []string{"expert_count", "attention.sliding_window"} {
		if n, ok := m.file.Int(m.arch + "." + key); ok && n != 0 {
			return fmt.Errorf("gguf: %s.%s is %d, which is not supported", m.arch, key, n)
		}
	}
	if kind, ok := m.file.Text(m.arch + ".rope.scaling.type"); ok && kind != "none" {
		return fmt.Errorf("gguf: %s.rope.scaling.type is %q, which is not supported", m.arch, shown(kind))
	}
	if t, ok := m.file.Tensor("rope_freqs.weight"); ok {
		if err := t.Expect(int64(c.HeadDim / 2)); err != nil {
			return err
		}
		var err error
		if c.RopeFactors, err = t.Float32(); err != nil {
			return err
		}
	}
	return nil
}

// parts are the tensors of one layer: Hugging Face's name, GGUF's, and the shape.
func (m *Model) parts() []part {
	c := m.Config
	q, kv := c.NumAttentionHeads*c.HeadDim, c.NumKeyValueHeads*c.HeadDim
	list := []part{
		{"input_layernorm.weight", "attn_norm.weight", []int64{int64(c.HiddenSize)}},
		{"post_attention_layernorm.weight", "ffn_norm.weight", []int64{int64(c.HiddenSize)}},
		{"self_attn.q_proj.weight", "attn_q.weight", []int64{int64(q), int64(c.HiddenSize)}},
		{"self_attn.k_proj.weight", "attn_k.weight", []int64{int64(kv), int64(c.HiddenSize)}},
		{"self_attn.v_proj.weight", "attn_v.weight", []int64{int64(kv), int64(c.HiddenSize)}},
		{"self_attn.o_proj.weight", "attn_output.weight", []int64{int64(c.HiddenSize), int64(q)}},
		{"mlp.gate_proj.weight", "ffn_gate.weight", []int64{int64(c.IntermediateSize), int64(c.HiddenSize)}},
		{"mlp.up_proj.weight", "ffn_up.weight", []int64{int64(c.IntermediateSize), int64(c.HiddenSize)}},
		{"mlp.down_proj.weight", "ffn_down.weight", []int64{int64(c.HiddenSize), int64(c.IntermediateSize)}},
	}
	if c.AttentionBias {
		list = append(list, part{"self_attn.q_proj.bias", "attn_q.bias", []int64{int64(q)}},
			part{"self_attn.k_proj.bias", "attn_k.bias", []int64{int64(kv)}}, part{"self_attn.v_proj.bias", "attn_v.bias", []int64{int64(kv)}})
	}
	return list
}

type part struct {
	name, stored string
	shape        []int64
}

// outer are the tensors outside the layers.
func (m *Model) outer() []part {
	c := m.Config
	list := []part{
		{"model.embed_tokens.weight", "token_embd.weight", []int64{int64(c.VocabSize), int64(c.HiddenSize)}},
		{"model.norm.weight", "output_norm.weight", []int64{int64(c.HiddenSize)}},
	}
	if !c.TieWordEmbeddings {
		list = append(list, part{"lm_head.weight", "output.weight", []int64{int64(c.VocabSize), int64(c.HiddenSize)}})
	}
	return list
}

// checkTensors compares the tensors with the sizes. One that is not known would change the mathematics, so it is an error.
func (m *Model) checkTensors() error {
	want := map[string][]int64{}
	for _, p := range m.outer() {
		want[p.stored] = p.shape
	}
	for i := range m.Config.NumHiddenLayers {
		for _, p := range m.parts() {
			want["blk."+strconv.Itoa(i)+"."+p.stored] = p.shape
		}
	}
	var missing, unknown []string
	for name, shape := range want {
		t, ok := m.file.Tensor(name)
		if !ok {
			missing = append(missing, name)
			continue
		}
		if err := t.Expect(shape...); err != nil {
			return fmt.Errorf("gguf: %w", err)
		}
	}
	for _, t := range m.file.Tensors {
		if _, ok := want[t.Name]; !ok && t.Name != "rope_freqs.weight" {
			unknown = append(unknown, t.Name)
		}
	}
	slices.Sort(missing)
	if len(missing) > 0 {
		return fmt.Errorf("gguf: %d tensors are missing: %s", len(missing), checkpoint.ListNames(missing))
	}
	if len(unknown) > 0 {
		return fmt.Errorf("gguf: %d tensors are not part of a %s model as it is known here: %s", len(unknown), m.arch, checkpoint.ListNames(unknown))
	}
	return nil
}

// ends finds the tokens that begin texts and end answers.
func (m *Model) ends() error {
	for _, key := range []string{"tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.bos_token_id"} {
		id, ok := m.file.Int(key)
		if !ok {
			continue
		}
		if id < 0 || id >= int64(m.Config.VocabSize) {
			return fmt.Errorf("gguf: %s is %d, expected a token below %d", key, id, m.Config.VocabSize)
		}
		if key != "tokenizer.ggml.bos_token_id" {
			m.addEnd(int32(id))
			continue
		}
		if add, _ := m.file.Metadata["tokenizer.ggml.add_bos_token"].(bool); add {
			m.bos = int32(id)
		}
	}
	for _, content := range []string{"<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|end_of_text|>"} {
		if id, err := m.Tokenizer.Special(content); err == nil {
			m.addEnd(id)
		}
	}
	if len(m.EOS) == 0 {
		return errors.New("gguf: no token ends an answer (tokenizer.ggml.eos_token_id)")
	}
	return nil
}

func (m *Model) addEnd(id int32) {
	if !slices.Contains(m.EOS, id) {
		m.EOS = append(m.EOS, id)
	}
}

// Tensor finds a weight by its Hugging Face name, with the dimensions and the row order that go with it.
func (m *Model) Tensor(names ...string) (*checkpoint.Tensor, bool) {
	for _, name := range names {
		if t, ok := m.find(name); ok {
			return t, true
		}
	}
	return nil, false
}

func (m *Model) find(name string) (*checkpoint.Tensor, bool) {
	for _, p := range m.outer() {
		if p.name == name {
			return m.file.Tensor(p.stored)
		}
	}
	rest, ok := strings.CutPrefix(name, "model.layers.")
	layer, rest, ok2 := strings.Cut(rest, ".")
	if !ok || !ok2 {
		return nil, false
	}
	for _, p := range m.parts() {
		if p.name != rest {
			continue
		}
		t, ok := m.file.Tensor("blk." + layer + "." + p.stored)
		if ok && m.arch == "llama" && (strings.HasPrefix(rest, "self_attn.q_") || strings.HasPrefix(rest, "self_attn.k_")) {
			t = halves(t, m.Config.HeadDim)
		}
		return t, ok
	}
	return nil, false
}

// halves puts the rows of each head back from neighbouring rotary pairs, as GGUF has them for llama, to two halves, as
// Hugging Face has them: row h·d/2 + j of a head is stored as row 2j + h. Codes of a row stay together, so this is exact for
// every type.
func halves(t *checkpoint.Tensor, d int) *checkpoint.Tensor {
	rows := int(t.Shape[0])
	size := len(t.Data) / rows
	out := *t
	out.Offset, out.Data = -1, make([]byte, len(t.Data))
	for r := range rows {
		in := r % d
		from := r - in + 2*(in%(d/2)) + in/(d/2)
		copy(out.Data[r*size:(r+1)*size], t.Data[from*size:(from+1)*size])
	}
	return &out
}
