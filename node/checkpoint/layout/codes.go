package layout

import (
	"context"
	"fmt"
	"strings"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
)

// joint names the matrices that are one when they are codes, because they multiply the same x, in the order of their rows.
var joint = map[string][]string{"qkv_proj": {"q_proj", "k_proj", "v_proj"}, "gate_up_proj": {"gate_proj", "up_proj"}}

// Codes finds the codes that stand for a matrix in a quantised folder, which may be those of several together.
func Codes(f *checkpoint.Folder, name string) (*checkpoint.Tensor, bool) {
	names := []string{name + checkpoint.CodesSuffix}
	for all, parts := range joint {
		for _, part := range parts {
			if head, ok := strings.CutSuffix(name, "."+part+".weight"); ok {
				names = append(names, head+"."+all+".weight"+checkpoint.CodesSuffix)
			}
		}
	}
	return f.Tensor(names...)
}

// coded is a matrix of a quantised folder and those that it is made of, one below the other.
type coded struct {
	name  string
	parts []*checkpoint.Tensor
}

// matrices lists the language model's matrices that are quantised: all but the embedding table, whose rows are looked up.
func matrices(f *checkpoint.Folder, c *config.Config) ([]coded, error) {
	var list []coded
	add := func(head, name string, parts ...string) error {
		m := coded{name: head + name + ".weight"}
		for _, part := range parts {
			t, ok := f.Tensor(head + part + ".weight")
			if codes, coded := Codes(f, head+part+".weight"); !ok && coded {
				return fmt.Errorf("its weights are 4-bit codes already (%s); name the folder that it was made from", codes.Name)
			}
			if !ok {
				return fmt.Errorf("tensor %s is missing", head+part+".weight")
			}
			if len(t.Shape) != 2 {
				return fmt.Errorf("tensor %s has shape %v, expected a matrix", t.Name, t.Shape)
			}
			m.parts = append(m.parts, t)
		}
		list = append(list, m)
		return nil
	}
	for i := range c.NumHiddenLayers {
		layer := fmt.Sprintf("model.layers.%d.", i)
		for _, m := range []string{"self_attn.qkv_proj", "self_attn.o_proj", "mlp.gate_up_proj", "mlp.down_proj"} {
			group, name, _ := strings.Cut(m, ".")
			parts, several := joint[name]
			if !several {
				parts = []string{name}
			}
			if err := add(layer+group+".", name, parts...); err != nil {
				return nil, err
			}
		}
	}
	head := "lm_head"
	if c.TieWordEmbeddings {
		head = "model.embed_tokens"
	}
	return list, add("", head, head)
}

// QuantiseOptions say how a folder is quantised.
type QuantiseOptions struct {
	Block int // weights to a scale: 32, 64 or 128
	// Rest is the type (F32, BF16 or F16) of what stays a float: a network that computes in it has it mapped from the file and
	// not converted at every load. "": as it is stored. The embedding table, of which only rows are read, is always that.
	Rest checkpoint.DType
}

// rest is the type that a tensor gets.
func (o QuantiseOptions) rest(t *checkpoint.Tensor) checkpoint.DType {
	if o.Rest == "" || t.Name == "model.embed_tokens.weight" || t.DType != checkpoint.F32 && t.DType != checkpoint.BF16 && t.DType != checkpoint.F16 {
		return t.DType
	}
	return o.Rest
}

// Quantise writes a folder's weights into another with the language model's matrices as 4-bit codes; what a model never uses is
// left out. Nothing is in memory as a whole. progress, which may be nil, is told the bytes of the original that are done.
func Quantise(ctx context.Context, f *checkpoint.Folder, c *config.Config, dir string, o QuantiseOptions, progress func(done, total int64)) ([]checkpoint.QuantisedMatrix, error) {
	block := o.Block
	report, err := Check(f, c)
	if err == nil {
		err = report.Err()
	}
	if err != nil {
		return nil, err
	}
	list, err := matrices(f, c)
	if err != nil {
		return nil, err
	}
	var specs []checkpoint.TensorSpec
	total := int64(0)
	instead := map[string]bool{} // stored as codes
	for _, m := range list {
		rows, width := int64(0), m.parts[0].Shape[1]
		for _, t := range m.parts {
			if t.Shape[1] != width || block < 1 || width%int64(block) != 0 {
				return nil, fmt.Errorf("quantise %s: shape %v, expected rows of %d, a multiple of the block size %d", t.Name, t.Shape, width, block)
			}
			rows += t.Shape[0]
			total += t.Length
			instead[t.Name] = true
		}
		specs = append(specs,
			checkpoint.TensorSpec{Name: m.name + checkpoint.CodesSuffix, DType: checkpoint.U8, Shape: []int64{rows, width / int64(block), int64(block / 2)}},
			checkpoint.TensorSpec{Name: m.name + checkpoint.ScalesSuffix, DType: checkpoint.F32, Shape: []int64{rows, width / int64(block)}})
	}
	if c.TieWordEmbeddings {
		instead["model.embed_tokens.weight"] = false // its rows are looked up as well
	}
	parts, err := Parts(c)
	if err != nil {
		return nil, err
	}
	var kept []*checkpoint.Tensor
	for _, p := range parts {
		for _, spec := range p.Tensors {
			t, ok := f.Tensor(spec.Name, strings.TrimPrefix(spec.Name, PointEncoder))
			if !ok || p.Unused || instead[t.Name] {
				continue
			}
			kept = append(kept, t)
			total += t.Length
			specs = append(specs, checkpoint.TensorSpec{Name: t.Name, DType: o.rest(t), Shape: t.Shape})
		}
	}
	w, err := checkpoint.CreateFolder(dir, specs, checkpoint.FolderOptions{})
	if err != nil {
		return nil, err
	}
	q := quantiser{w: w, opt: o, tell: func(n int64) {}}
	done := int64(0)
	if progress != nil {
		q.tell = func(n int64) { done += n; progress(done, total) }
	}
	if err := q.all(ctx, list, kept); err != nil {
		w.Abort()
		return nil, err
	}
	return q.made, w.Close()
}

type quantiser struct {
	w    *checkpoint.FolderWriter
	opt  QuantiseOptions
	tell func(bytes int64)
	made []checkpoint.QuantisedMatrix
}

func (q *quantiser) all(ctx context.Context, list []coded, kept []*checkpoint.Tensor) error {
	for _, m := range list {
		if err := q.matrix(ctx, m); err != nil {
			return err
		}
	}
	for _, t := range kept {
		if err := ctx.Err(); err != nil {
			return err
		}
		shard, err := q.w.Shard(t.Name)
		if err != nil {
			return err
		}
		if to := q.opt.rest(t); to == t.DType {
			err = shard.Copy(t.Name, t)
		} else {
			err = q.convert(t, to)
		}
		if err != nil {
			return err
		}
		q.tell(t.Length)
	}
	return nil
}

// convert stores a tensor in another type.
func (q *quantiser) convert(t *checkpoint.Tensor, to checkpoint.DType) error {
	write, err := q.pieces(t.Name)
	if err != nil {
		return err
	}
	return t.Convert(to, write)
}

// pieces begins a tensor of the new folder.
func (q *quantiser) pieces(name string) (func(int64, []byte) error, error) {
	shard, err := q.w.Shard(name)
	if err != nil {
		return nil, err
	}
	return shard.Pieces(name)
}

func (q *quantiser) matrix(ctx context.Context, m coded) error {
	codes, err := q.pieces(m.name + checkpoint.CodesSuffix)
	if err != nil {
		return err
	}
	scales, err := q.pieces(m.name + checkpoint.ScalesSuffix)
	if err != nil {
		return err
	}
	row := int64(0)
	for _, t := range m.parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		width := t.Shape[1]
		e, err := checkpoint.QuantiseRows(t, q.opt.Block, func(first int, c []byte, s []float32) error {
			at := row + int64(first)
			if err := codes(at*width/2, c); err != nil {
				return err
			}
			data, err := checkpoint.EncodeFloat32(checkpoint.F32, s)
			if err != nil {
				return err
			}
			return scales(at*(width/int64(q.opt.Block))*4, data)
		})
		if err != nil {
			return err
		}
		q.made = append(q.made, checkpoint.QuantisedMatrix{Name: t.Name, Error: e})
		row += t.Shape[0]
		q.tell(t.Length)
	}
	return nil
}
