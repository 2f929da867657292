package network

import (
	"fmt"

	"github.com/stllm/stllm/node/points"
)

// Mink is the shape of a sparse U-Net of the MinkUNet family.
type Mink struct {
	In      int   // input features per voxel
	Stem    int   // channels after the first convolution
	Encoder []int // channels of the encoder's stages, one per halving of the resolution
	Decoder []int // channels of the decoder's stages, as many
	Blocks  int   // residual blocks per stage
	Kernel  int   // edge of the first kernel
	Out     int   // output features per voxel
	Prefix  string
}

// MinkUNet18A is the published encoder: 289 tensors named net3d.*.
func MinkUNet18A() Mink {
	return Mink{In: 3, Stem: 32, Encoder: []int{32, 64, 128, 256}, Decoder: []int{128, 128, 96, 96}, Blocks: 2, Kernel: 5, Out: 768, Prefix: "net3d."}
}

// Levels are the levels of the neighbour tables that the network takes.
func (m Mink) Levels() points.Levels {
	return points.Levels{Count: len(m.Encoder) + 1, Kernel: m.Kernel}
}

// Validate reports the first field that does not fit.
func (m Mink) Validate() error {
	if len(m.Encoder) == 0 || len(m.Encoder) != len(m.Decoder) {
		return fmt.Errorf("sparse U-Net: %d encoder and %d decoder stages, expected one or more and as many", len(m.Encoder), len(m.Decoder))
	}
	for _, f := range []struct {
		name string
		size int
	}{{"input channels", m.In}, {"stem channels", m.Stem}, {"blocks per stage", m.Blocks}, {"output channels", m.Out}} {
		if f.size < 1 {
			return fmt.Errorf("sparse U-Net: %s is %d, expected 1 or more", f.name, f.size)
		}
	}
	for i := range m.Encoder {
		if m.Encoder[i] < 1 || m.Decoder[i] < 1 {
			return fmt.Errorf("sparse U-Net: stage %d has %d encoder and %d decoder channels, expected 1 or more", i, m.Encoder[i], m.Decoder[i])
		}
	}
	if k := m.Kernel; k != 1 && k != 3 && k != 5 && k != 7 {
		return fmt.Errorf("sparse U-Net: first kernel is %d, expected 1, 3, 5 or 7", k)
	}
	return nil
}

// MinkInputs are the inputs of the network. All tables are integer tensors as in [points.Tables].
type MinkInputs[V any] struct {
	Features V   // [N, In]
	Stem     V   // [N, Kernel³]
	K3       []V // [level] [N_l, 27]
	Down     []V // [level] [N_l+1, 8]
	Up       []V // [level] [N_l]
}

// Stage is an intermediate result, for tests: p1 and block1, block2, … of the published names.
type Stage[V any] struct {
	Name     string
	Channels int
	Level    int
	Value    V
}

// AddMink adds the network to a graph and returns its features [N, Out] and the stages on the way. Rows keep the order of
// the input.
func AddMink[V any](g Ops[V], m Mink, weights Weights, in MinkInputs[V]) (out V, stages []Stage[V], err error) {
	if err := m.Validate(); err != nil {
		return out, nil, err
	}
	depth := len(m.Encoder)
	if len(in.K3) != depth+1 || len(in.Down) != depth || len(in.Up) != depth {
		return out, nil, fmt.Errorf("sparse U-Net: tables of %d levels with %d strides down and %d up, expected %d, %d and %d", len(in.K3), len(in.Down), len(in.Up), depth+1, depth, depth)
	}
	u := minkBuilder[V]{g: g, prefix: m.Prefix, weights: reader{from: weights}, zeros: map[int]V{}}
	u.train, _ = g.(Training[V])
	keep := func(name string, channels, level int, v V) V {
		stages = append(stages, Stage[V]{name, channels, level, v})
		return v
	}
	x := g.Relu(u.conv(in.Features, in.Stem, "conv0p1s1", "bn0", m.Kernel*m.Kernel*m.Kernel, m.In, m.Stem))
	skips, width := []V{keep("p1", m.Stem, 0, x)}, []int{m.Stem}
	channels := m.Stem
	for i, planes := range m.Encoder {
		x = g.Relu(u.conv(x, in.Down[i], fmt.Sprintf("conv%dp%ds2", i+1, 1<<i), fmt.Sprintf("bn%d", i+1), 8, channels, channels))
		name := fmt.Sprintf("block%d", i+1)
		x = keep(name, planes, i+1, u.stage(x, in.K3[i+1], name, m.Blocks, channels, planes))
		channels = planes
		skips, width = append(skips, x), append(width, planes)
	}
	for i, planes := range m.Decoder {
		level := depth - 1 - i
		x = g.Relu(u.up(x, in.Up[level], fmt.Sprintf("convtr%dp%ds2", depth+i, 2<<level), fmt.Sprintf("bntr%d", depth+i), channels, planes))
		x = g.Concat(1, x, skips[level])
		name := fmt.Sprintf("block%d", depth+1+i)
		x = keep(name, planes, level, u.stage(x, in.K3[level], name, m.Blocks, planes+width[level], planes))
		channels = planes
	}
	var kernel V
	if u.train != nil {
		kernel = u.train.Parameter(m.Prefix+"final.kernel", channels, m.Out)
	} else {
		kernel = u.weight("final.kernel", u.weights.read(m.Prefix+"final.kernel", channels, m.Out), channels, m.Out)
	}
	out = g.MatMul(x, kernel)
	if u.weights.err != nil {
		return out, nil, fmt.Errorf("sparse U-Net: %w", u.weights.err)
	}
	return out, stages, nil
}

type minkBuilder[V any] struct {
	g       Ops[V]
	prefix  string
	weights reader
	zeros   map[int]V
	train   Training[V] // nil: the encoder only runs
}

func (u *minkBuilder[V]) weight(name string, data []float32, shape ...int) V {
	return u.g.Weight(u.prefix+name, data, shape...)
}

// conv is a sparse convolution and its BatchNorm: rows of neighbours side by side, times the kernel.
func (u *minkBuilder[V]) conv(x, table V, kernel, norm string, volume, in, out int) V {
	if u.train != nil {
		rows := u.g.Reshape(u.g.Gather(u.padded(x, in), table), -1, volume*in)
		w := u.g.Reshape(u.train.Parameter(u.prefix+kernel+".kernel", volume, in, out), volume*in, out)
		return u.train.BatchNorm(u.g.MatMul(rows, w), u.prefix+norm+".bn", out)
	}
	bn := u.weights.batchNorm(u.prefix+norm+".bn", out)
	k := bn.columns(u.weights.read(u.prefix+kernel+".kernel", volume, in, out))
	w, bias := u.weight(kernel+".kernel", k, volume*in, out), u.weight(norm+".bias", bn.bias(), out)
	if own, ok := u.g.(Neighbours[V]); ok {
		if y, ok := own.Neighbours(x, table, w, bias); ok {
			return y
		}
	}
	return u.g.Gemm(u.g.Reshape(u.g.Gather(u.padded(x, in), table), -1, volume*in), w, bias)
}

// padded appends the row of zeros that stands for a missing neighbour: index −1 is the last row.
func (u *minkBuilder[V]) padded(x V, channels int) V {
	zero, ok := u.zeros[channels]
	if !ok {
		zero = u.weight(fmt.Sprintf("zero%d", channels), make([]float32, channels), 1, channels)
		u.zeros[channels] = zero
	}
	return u.g.Concat(0, x, zero)
}

// up is a transposed convolution and its BatchNorm. Every fine voxel has one parent and one offset: all eight products of
// the coarse rows are made in one matrix product, and each fine row picks its own. Surfaces have three to four children a
// voxel, so about half of the products are used; the coarse levels are small enough not to mind.
func (u *minkBuilder[V]) up(x, table V, kernel, norm string, in, out int) V {
	if u.train != nil {
		w := u.g.Transpose(u.train.Parameter(u.prefix+kernel+".kernel", 8, in, out), 1, 0, 2)
		all := u.g.Reshape(u.g.MatMul(x, u.g.Reshape(w, in, 8*out)), -1, out)
		return u.train.BatchNorm(u.g.Gather(all, table), u.prefix+norm+".bn", out)
	}
	bn := u.weights.batchNorm(u.prefix+norm+".bn", out)
	k := bn.columns(u.weights.read(u.prefix+kernel+".kernel", 8, in, out))
	side := make([]float32, len(k)) // [in, 8·out]
	for o := range 8 {
		for i := range in {
			copy(side[(i*8+o)*out:(i*8+o+1)*out], k[(o*in+i)*out:(o*in+i+1)*out])
		}
	}
	all := u.g.Reshape(u.g.MatMul(x, u.weight(kernel+".kernel", side, in, 8*out)), -1, out)
	return u.g.Add(u.g.Gather(all, table), u.weight(norm+".bias", bn.bias(), out))
}

// stage is a row of residual blocks; the first changes the number of channels.
func (u *minkBuilder[V]) stage(x, table V, name string, blocks, in, out int) V {
	for b := range blocks {
		x = u.block(x, table, fmt.Sprintf("%s.%d.", name, b), in, out)
		in = out
	}
	return x
}

func (u *minkBuilder[V]) block(x, table V, name string, in, out int) V {
	y := u.g.Relu(u.conv(x, table, name+"conv1", name+"norm1", 27, in, out))
	y = u.conv(y, table, name+"conv2", name+"norm2", 27, out, out)
	if in != out && u.train != nil {
		x = u.train.BatchNorm(u.g.MatMul(x, u.train.Parameter(u.prefix+name+"downsample.0.kernel", in, out)), u.prefix+name+"downsample.1.bn", out)
	} else if in != out {
		bn := u.weights.batchNorm(u.prefix+name+"downsample.1.bn", out)
		k := bn.columns(u.weights.read(u.prefix+name+"downsample.0.kernel", in, out))
		x = u.g.Gemm(x, u.weight(name+"downsample.0.kernel", k, in, out), u.weight(name+"downsample.1.bias", bn.bias(), out))
	}
	return u.g.Relu(u.g.Add(y, x))
}
