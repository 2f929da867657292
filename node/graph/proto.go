package graph

import (
	"encoding/binary"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strings"
)

// Versions that models are written for.
const (
	irVersion    = 10
	opset        = 21
	microsoftSet = 1
	ownSet       = 1
)

// Model is a finished graph: ModelProto bytes, and the folder that external initializers are relative to.
type Model struct {
	Name  string
	Proto []byte
	// Folder is the common ancestor of all external files, "" when there are none. ONNX Runtime refuses absolute paths
	// and paths that lead out of it (session.model_external_initializers_file_folder_path).
	Folder  string
	Inputs  []*Value
	Outputs []*Value
	Own     bool // it has operators of our own
	// External are the initializers that lie in files.
	External []*Value
}

// Model checks and serialises the graph.
func (g *Graph) Model() (*Model, error) {
	if g.err != nil {
		return nil, g.err
	}
	if len(g.outputs) == 0 {
		return nil, fmt.Errorf("graph %s has no output", g.name)
	}
	folder, err := g.folder()
	if err != nil {
		return nil, err
	}
	var m message
	m.int(1, irVersion)
	m.string(2, "stllm")
	var body message
	for _, n := range g.nodes {
		body.message(1, n.encode)
	}
	body.string(2, g.name)
	for _, v := range g.inits {
		if err := v.encodeInit(&body, folder); err != nil {
			return nil, err
		}
	}
	for _, v := range g.inputs {
		body.message(11, v.encodeInfo)
	}
	for _, v := range g.outputs {
		body.message(12, v.encodeInfo)
	}
	m.bytes(7, body)
	m.message(8, func(o *message) { o.string(1, ""); o.int(2, opset) })
	m.message(8, func(o *message) { o.string(1, Microsoft); o.int(2, microsoftSet) })
	external := slices.DeleteFunc(slices.Clone(g.inits), func(v *Value) bool { return v.Init.File == "" })
	own := slices.ContainsFunc(g.nodes, func(n *Node) bool { return n.Domain == Own })
	if own {
		m.message(8, func(o *message) { o.string(1, Own); o.int(2, ownSet) })
	}
	return &Model{Name: g.name, Proto: m, Folder: folder, Inputs: g.inputs, Outputs: g.outputs, Own: own, External: external}, nil
}

// folder finds the deepest folder that holds every external file. Links are resolved, since the Hugging Face cache is made
// of them and ONNX Runtime refuses links that lead out.
func (g *Graph) folder() (string, error) {
	common := ""
	for _, v := range g.inits {
		if v.Init.File == "" {
			continue
		}
		real, err := filepath.EvalSymlinks(v.Init.File)
		if err != nil {
			return "", fmt.Errorf("graph %s: weight %s: %w", g.name, v.Name, err)
		}
		if real, err = filepath.Abs(real); err != nil {
			return "", err
		}
		v.Init.File = real
		dir := filepath.Dir(real)
		if common == "" {
			common = dir
		}
		for common != dir && !strings.HasPrefix(dir+"/", strings.TrimSuffix(common, "/")+"/") {
			common = filepath.Dir(common)
		}
	}
	return common, nil
}

// message is a protobuf message being written.
type message []byte

func (m *message) tag(field, wire int)        { *m = binary.AppendUvarint(*m, uint64(field<<3|wire)) }
func (m *message) int(field int, v int64)     { m.tag(field, 0); *m = binary.AppendUvarint(*m, uint64(v)) }
func (m *message) string(field int, v string) { m.bytes(field, []byte(v)) }
func (m *message) bytes(field int, v []byte) {
	m.tag(field, 2)
	*m = binary.AppendUvarint(*m, uint64(len(v)))
	*m = append(*m, v...)
}
func (m *message) message(field int, f func(*message)) {
	var inner message
	f(&inner)
	m.bytes(field, inner)
}
func (m *message) float(field int, v float32) {
	m.tag(field, 5)
	*m = binary.LittleEndian.AppendUint32(*m, math.Float32bits(v))
}

// Attribute types of AttributeProto.
const (
	attrFloat  = 1
	attrInt    = 2
	attrString = 3
	attrFloats = 6
	attrInts   = 7
)

func (n *Node) encode(m *message) {
	name := func(v *Value) string {
		if v == nil {
			return ""
		}
		return v.Name
	}
	for _, v := range n.Inputs {
		m.string(1, name(v))
	}
	for _, v := range n.Outputs {
		m.string(2, name(v))
	}
	m.string(3, n.Name)
	m.string(4, n.Op)
	for _, a := range n.Attrs {
		m.message(5, func(at *message) {
			at.string(1, a.Name)
			switch v := a.Value.(type) {
			case float32:
				at.float(2, v)
				at.int(20, attrFloat)
			case int64:
				at.int(3, v)
				at.int(20, attrInt)
			case string:
				at.string(4, v)
				at.int(20, attrString)
			case []float32:
				for _, f := range v {
					at.float(7, f)
				}
				at.int(20, attrFloats)
			case []int64:
				for _, i := range v {
					at.int(8, i)
				}
				at.int(20, attrInts)
			default:
				panic(fmt.Sprintf("attribute %s of %s is a %T", a.Name, n.Name, a.Value)) // a fault of this package
			}
		})
	}
	if n.Domain != "" {
		m.string(7, n.Domain)
	}
}

func (v *Value) encodeInit(m *message, folder string) error {
	var t message
	for _, d := range v.Shape {
		t.int(1, d.Size)
	}
	t.int(2, int64(v.DType))
	t.string(8, v.Name)
	if v.Init.File == "" {
		t.bytes(9, v.Init.Data)
		m.bytes(5, t)
		return nil
	}
	rel, err := filepath.Rel(folder, v.Init.File)
	if err != nil {
		return fmt.Errorf("weight %s: %w", v.Name, err)
	}
	for _, kv := range [][2]string{{"location", rel}, {"offset", fmt.Sprint(v.Init.Offset)}, {"length", fmt.Sprint(v.Init.Length)}} {
		t.message(13, func(e *message) { e.string(1, kv[0]); e.string(2, kv[1]) })
	}
	t.int(14, 1) // EXTERNAL
	m.bytes(5, t)
	return nil
}

func (v *Value) encodeInfo(m *message) {
	m.string(1, v.Name)
	m.message(2, func(t *message) {
		t.message(1, func(tensor *message) {
			tensor.int(1, int64(v.DType))
			tensor.message(2, func(s *message) {
				for _, d := range v.Shape {
					s.message(1, func(dim *message) {
						if d.Known() {
							dim.int(1, d.Size)
						} else {
							dim.string(2, d.Name)
						}
					})
				}
			})
		})
	})
}

// Dump writes the graph for a person, one node a line.
func (g *Graph) Dump() string {
	var b strings.Builder
	for _, v := range g.inputs {
		fmt.Fprintf(&b, "input  %s\n", v)
	}
	for _, n := range g.nodes {
		var in, out []string
		for _, v := range n.Inputs {
			if v == nil {
				in = append(in, "-")
			} else {
				in = append(in, v.Name)
			}
		}
		for _, v := range n.Outputs {
			if v != nil {
				out = append(out, v.String())
			}
		}
		fmt.Fprintf(&b, "%s = %s(%s)", strings.Join(out, ", "), n.Op, strings.Join(in, ", "))
		for _, a := range slices.Clone(n.Attrs) {
			fmt.Fprintf(&b, " %s=%v", a.Name, a.Value)
		}
		b.WriteByte('\n')
	}
	for _, v := range g.outputs {
		fmt.Fprintf(&b, "output %s\n", v)
	}
	return b.String()
}
