package scene

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
)

const (
	glbMagic = 0x46546C67 // "glTF"
	glbJSON  = 0x4E4F534A
	glbBIN   = 0x004E4942
)

// gltf holds what is read of a glTF 2.0 document.
type gltf struct {
	Scene  *int `json:"scene"`
	Scenes []struct {
		Nodes []int `json:"nodes"`
	} `json:"scenes"`
	Nodes []struct {
		Mesh        *int      `json:"mesh"`
		Children    []int     `json:"children"`
		Matrix      []float64 `json:"matrix"` // column-major
		Translation []float64 `json:"translation"`
		Rotation    []float64 `json:"rotation"` // x y z w
		Scale       []float64 `json:"scale"`
	} `json:"nodes"`
	Meshes []struct {
		Primitives []struct {
			Attributes map[string]int `json:"attributes"`
		} `json:"primitives"`
	} `json:"meshes"`
	Accessors   []gltfAccessor `json:"accessors"`
	BufferViews []struct {
		Buffer     int    `json:"buffer"`
		ByteOffset uint64 `json:"byteOffset"`
		ByteLength uint64 `json:"byteLength"`
		ByteStride uint64 `json:"byteStride"`
	} `json:"bufferViews"`
	Buffers []struct {
		URI string `json:"uri"`
	} `json:"buffers"`
}

type gltfAccessor struct {
	BufferView    *int            `json:"bufferView"`
	ByteOffset    uint64          `json:"byteOffset"`
	ComponentType int             `json:"componentType"`
	Normalized    bool            `json:"normalized"`
	Count         uint64          `json:"count"`
	Type          string          `json:"type"`
	Sparse        json.RawMessage `json:"sparse"`
}

var gltfComponents = map[int]numberType{
	5120: {size: 1, signed: true}, 5121: {size: 1}, 5122: {size: 2, signed: true}, 5123: {size: 2}, 5125: {size: 4}, 5126: {size: 4, real: true},
}

// matrix4 is row-major.
type matrix4 [16]float64

func (m matrix4) mul(n matrix4) (p matrix4) {
	for i := range 4 {
		for j := range 4 {
			for k := range 4 {
				p[4*i+j] += m[4*i+k] * n[4*k+j]
			}
		}
	}
	return p
}

// ReadGLB reads the vertices of every mesh of the default scene of a binary glTF 2.0 file, with the nodes' transforms.
// COLOR_0 is taken as it is stored. Data must be inside the file and neither sparse nor compressed.
func ReadGLB(r io.Reader) (*Cloud, Dropped, error) {
	doc, bin, err := glbChunks(r)
	if err != nil {
		return nil, Dropped{}, fmt.Errorf("glb: %w", err)
	}
	g := glbReader{doc: doc, bin: bin, budget: uint64(len(bin)) + 1<<16, hasColor: true}
	roots, err := g.roots()
	if err != nil {
		return nil, Dropped{}, fmt.Errorf("glb: %w", err)
	}
	for _, n := range roots {
		if err := g.node(n, matrix4{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}, 0); err != nil {
			return nil, g.out.dropped, fmt.Errorf("glb: %w", err)
		}
	}
	if !g.found {
		return nil, Dropped{}, errors.New("glb: the scene has no mesh with a POSITION")
	}
	c, dropped := g.out.finish(g.hasColor)
	return c, dropped, nil
}

func glbChunks(r io.Reader) (*gltf, []byte, error) {
	var head [12]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, nil, fmt.Errorf("header: %w", unexpected(err))
	}
	le := binary.LittleEndian
	if m := le.Uint32(head[:]); m != glbMagic {
		return nil, nil, fmt.Errorf("magic is %q, expected %q", head[:4], "glTF")
	}
	if v := le.Uint32(head[4:]); v != 2 {
		return nil, nil, fmt.Errorf("version is %d, expected 2", v)
	}
	// LimitReader and ReadAll grow with what is really there, not with the length that the header claims.
	body, err := io.ReadAll(io.LimitReader(r, int64(le.Uint32(head[8:]))-12))
	if err != nil {
		return nil, nil, err
	}
	var doc *gltf
	var bin []byte
	for at := 0; len(body)-at >= 8; {
		length, kind := uint64(le.Uint32(body[at:])), le.Uint32(body[at+4:])
		at += 8
		if length > uint64(len(body)-at) {
			return nil, nil, fmt.Errorf("chunk of %d bytes, but only %d are left: %w", length, len(body)-at, io.ErrUnexpectedEOF)
		}
		chunk := body[at : at+int(length)]
		at += int(length)
		switch {
		case kind == glbJSON && doc == nil:
			doc = &gltf{}
			if err := json.Unmarshal(chunk, doc); err != nil {
				return nil, nil, fmt.Errorf("JSON chunk: %w", err)
			}
		case kind == glbBIN && bin == nil:
			bin = chunk
		}
	}
	if doc == nil {
		return nil, nil, errors.New("file has no JSON chunk")
	}
	return doc, bin, nil
}

type glbReader struct {
	doc      *gltf
	bin      []byte
	out      builder
	budget   uint64 // points and nodes still allowed: meshes may be used again and again
	found    bool
	hasColor bool
}

// roots are the nodes of the default scene, or all nodes that are nobody's child.
func (g *glbReader) roots() ([]int, error) {
	if len(g.doc.Scenes) > 0 {
		s := 0
		if g.doc.Scene != nil {
			s = *g.doc.Scene
		}
		if s < 0 || s >= len(g.doc.Scenes) {
			return nil, fmt.Errorf("scene is %d, expected 0 to %d", s, len(g.doc.Scenes)-1)
		}
		return g.doc.Scenes[s].Nodes, nil
	}
	child := make([]bool, len(g.doc.Nodes))
	for _, n := range g.doc.Nodes {
		for _, c := range n.Children {
			if c >= 0 && c < len(child) {
				child[c] = true
			}
		}
	}
	var roots []int
	for i, c := range child {
		if !c {
			roots = append(roots, i)
		}
	}
	return roots, nil
}

func (g *glbReader) node(index int, above matrix4, depth int) error {
	if index < 0 || index >= len(g.doc.Nodes) {
		return fmt.Errorf("node %d, expected 0 to %d", index, len(g.doc.Nodes)-1)
	}
	if depth > 64 {
		return errors.New("nodes are nested more than 64 deep, or in a circle")
	}
	if g.budget == 0 {
		return errors.New("nodes use the same meshes too often")
	}
	g.budget--
	n := g.doc.Nodes[index]
	m := matrix4{1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1}
	if n.Matrix != nil {
		if len(n.Matrix) != 16 {
			return fmt.Errorf("node %d: matrix has %d numbers, expected 16", index, len(n.Matrix))
		}
		for i := range 16 {
			m[i] = n.Matrix[i%4*4+i/4]
		}
	} else {
		for _, part := range []struct {
			name string
			v    []float64
			want int
		}{{"translation", n.Translation, 3}, {"rotation", n.Rotation, 4}, {"scale", n.Scale, 3}} {
			if part.v != nil && len(part.v) != part.want {
				return fmt.Errorf("node %d: %s has %d numbers, expected %d", index, part.name, len(part.v), part.want)
			}
		}
		if q := n.Rotation; q != nil {
			x, y, z, w := q[0], q[1], q[2], q[3]
			m = matrix4{
				1 - 2*(y*y+z*z), 2 * (x*y - z*w), 2 * (x*z + y*w), 0,
				2 * (x*y + z*w), 1 - 2*(x*x+z*z), 2 * (y*z - x*w), 0,
				2 * (x*z - y*w), 2 * (y*z + x*w), 1 - 2*(x*x+y*y), 0,
				0, 0, 0, 1,
			}
		}
		for k := range 3 {
			if n.Scale != nil {
				m[k], m[4+k], m[8+k] = m[k]*n.Scale[k], m[4+k]*n.Scale[k], m[8+k]*n.Scale[k]
			}
			if n.Translation != nil {
				m[4*k+3] = n.Translation[k]
			}
		}
	}
	m = above.mul(m)
	if n.Mesh != nil {
		if *n.Mesh < 0 || *n.Mesh >= len(g.doc.Meshes) {
			return fmt.Errorf("node %d: mesh is %d, expected 0 to %d", index, *n.Mesh, len(g.doc.Meshes)-1)
		}
		for i, p := range g.doc.Meshes[*n.Mesh].Primitives {
			if err := g.primitive(p.Attributes, m); err != nil {
				return fmt.Errorf("mesh %d: primitive %d: %w", *n.Mesh, i, err)
			}
		}
	}
	for _, c := range n.Children {
		if err := g.node(c, m, depth+1); err != nil {
			return err
		}
	}
	return nil
}

func (g *glbReader) primitive(attributes map[string]int, m matrix4) error {
	index, ok := attributes["POSITION"]
	if !ok {
		return nil
	}
	position, err := g.accessor(index)
	if err != nil {
		return fmt.Errorf("POSITION: %w", err)
	}
	if position.width != 3 || !position.number.real {
		return errors.New("POSITION: expected VEC3 of float")
	}
	var color accessor
	index, hasColor := attributes["COLOR_0"]
	if hasColor {
		if color, err = g.accessor(index); err != nil {
			return fmt.Errorf("COLOR_0: %w", err)
		}
		if color.width < 3 || color.count < position.count {
			return fmt.Errorf("COLOR_0: %d entries of %d numbers, expected %d of 3 or 4", color.count, color.width, position.count)
		}
	}
	g.hasColor = g.hasColor && hasColor
	if uint64(position.count) > g.budget {
		return errors.New("meshes are used so often that there would be more points than bytes in the file")
	}
	g.budget -= uint64(position.count)
	g.found = true
	for i := range position.count {
		x, y, z := position.at(i, 0), position.at(i, 1), position.at(i, 2)
		if !g.out.add(m[0]*x+m[1]*y+m[2]*z+m[3], m[4]*x+m[5]*y+m[6]*z+m[7], m[8]*x+m[9]*y+m[10]*z+m[11]) {
			continue
		}
		var rgb [3]uint8
		for k := range 3 {
			if hasColor {
				rgb[k] = byteOf(math.Round(color.at(i, k) * color.scale))
			}
		}
		g.out.cloud.RGB = append(g.out.cloud.RGB, rgb[:]...)
	}
	return nil
}

// accessor is a checked view of the binary chunk.
type accessor struct {
	data          []byte
	stride, width int
	count         int
	number        numberType
	scale         float64 // to 0…255
}

func (a accessor) at(i, k int) float64 { return a.number.at(a.data[i*a.stride+k*a.number.size:]) }

func (g *glbReader) accessor(index int) (accessor, error) {
	if index < 0 || index >= len(g.doc.Accessors) {
		return accessor{}, fmt.Errorf("accessor %d, expected 0 to %d", index, len(g.doc.Accessors)-1)
	}
	s := g.doc.Accessors[index]
	number, ok := gltfComponents[s.ComponentType]
	if !ok {
		return accessor{}, fmt.Errorf("accessor %d: componentType is %d, expected 5120 to 5126", index, s.ComponentType)
	}
	width := map[string]int{"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4}[s.Type]
	if width == 0 {
		return accessor{}, fmt.Errorf("accessor %d: type is %q, expected SCALAR to VEC4", index, s.Type)
	}
	if s.Sparse != nil {
		return accessor{}, fmt.Errorf("accessor %d is sparse, which is not read", index)
	}
	if s.BufferView == nil {
		return accessor{}, fmt.Errorf("accessor %d has no bufferView (compressed meshes are not read)", index)
	}
	v := *s.BufferView
	if v < 0 || v >= len(g.doc.BufferViews) {
		return accessor{}, fmt.Errorf("accessor %d: bufferView is %d, expected 0 to %d", index, v, len(g.doc.BufferViews)-1)
	}
	view := g.doc.BufferViews[v]
	if view.Buffer != 0 || len(g.doc.Buffers) > 0 && g.doc.Buffers[0].URI != "" {
		return accessor{}, fmt.Errorf("bufferView %d: data outside the file is not read", v)
	}
	if size := uint64(len(g.bin)); view.ByteOffset > size || view.ByteLength > size-view.ByteOffset {
		return accessor{}, fmt.Errorf("bufferView %d: bytes %d and %d more, expected within %d", v, view.ByteOffset, view.ByteLength, size)
	}
	data := g.bin[view.ByteOffset : view.ByteOffset+view.ByteLength]
	entry := uint64(width * number.size)
	stride := view.ByteStride
	if stride == 0 {
		stride = entry
	}
	if stride < entry || stride > 1<<16 {
		return accessor{}, fmt.Errorf("bufferView %d: byteStride is %d, expected %d or more", v, stride, entry)
	}
	if s.Count > uint64(len(data)) || s.Count > 0 && (s.ByteOffset > uint64(len(data)) || (s.Count-1)*stride+entry > uint64(len(data))-s.ByteOffset) {
		return accessor{}, fmt.Errorf("accessor %d: %d entries from byte %d, %d bytes apart, do not fit bufferView %d of %d bytes", index, s.Count, s.ByteOffset, stride, v, len(data))
	}
	a := accessor{stride: int(stride), width: width, count: int(s.Count), number: number, scale: 255}
	if s.Count > 0 {
		a.data = data[s.ByteOffset:]
	}
	switch {
	case number.real:
	case s.Normalized || number.size > 1:
		a.scale = 255 / float64(uint64(1)<<(8*number.size)-1)
	default:
		a.scale = 1
	}
	return a, nil
}

// WriteGLB writes the cloud as one mesh of points. Coordinates are float32, relative to the centre of the cloud's box, which
// is the node's translation: little is lost far from the origin.
func WriteGLB(w io.Writer, c *Cloud) error {
	if c.Len() == 0 {
		return errors.New("glb: a cloud without points cannot be written")
	}
	box, _ := c.Bounds()
	mid := [3]float64{(box.Min.X + box.Max.X) / 2, (box.Min.Y + box.Max.Y) / 2, (box.Min.Z + box.Max.Z) / 2}
	var bin []byte
	lo, hi := [3]float32{math.MaxFloat32, math.MaxFloat32, math.MaxFloat32}, [3]float32{-math.MaxFloat32, -math.MaxFloat32, -math.MaxFloat32}
	for i, v := range c.XYZ {
		f := float32(v - mid[i%3])
		lo[i%3], hi[i%3] = min(lo[i%3], f), max(hi[i%3], f)
		bin = binary.LittleEndian.AppendUint32(bin, math.Float32bits(f))
	}
	positions := len(bin)
	attributes := map[string]int{"POSITION": 0}
	views := []map[string]any{{"buffer": 0, "byteOffset": 0, "byteLength": positions}}
	accessors := []map[string]any{{"bufferView": 0, "componentType": 5126, "count": c.Len(), "type": "VEC3", "min": lo, "max": hi}}
	if c.HasColor {
		for i := 0; i < len(c.RGB); i += 3 {
			bin = append(bin, c.RGB[i], c.RGB[i+1], c.RGB[i+2], 255)
		}
		attributes["COLOR_0"] = 1
		views = append(views, map[string]any{"buffer": 0, "byteOffset": positions, "byteLength": len(bin) - positions})
		accessors = append(accessors, map[string]any{"bufferView": 1, "componentType": 5121, "normalized": true, "count": c.Len(), "type": "VEC4"})
	}
	text, err := json.Marshal(map[string]any{
		"asset": map[string]any{"version": "2.0"}, "scene": 0, "scenes": []any{map[string]any{"nodes": []int{0}}},
		"nodes":     []any{map[string]any{"mesh": 0, "translation": mid}},
		"meshes":    []any{map[string]any{"primitives": []any{map[string]any{"attributes": attributes, "mode": 0}}}},
		"accessors": accessors, "bufferViews": views, "buffers": []any{map[string]any{"byteLength": len(bin)}},
	})
	if err != nil {
		return fmt.Errorf("glb: %w", err)
	}
	for len(text)%4 != 0 {
		text = append(text, ' ')
	}
	total := 12 + 8 + len(text) + 8 + len(bin) // the binary chunk is a multiple of 4 as it is
	if uint64(total) > math.MaxUint32 {
		return fmt.Errorf("glb: %d bytes, expected at most %d", total, uint32(math.MaxUint32))
	}
	le := binary.LittleEndian
	out := le.AppendUint32(le.AppendUint32(le.AppendUint32(nil, glbMagic), 2), uint32(total))
	out = append(le.AppendUint32(le.AppendUint32(out, uint32(len(text))), glbJSON), text...)
	out = le.AppendUint32(le.AppendUint32(out, uint32(len(bin))), glbBIN)
	if _, err := w.Write(out); err != nil {
		return err
	}
	_, err = w.Write(bin)
	return err
}
