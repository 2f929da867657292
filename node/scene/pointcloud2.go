package scene

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"math/bits"

	"github.com/stllm/stllm/msgs"
)

// ColorSource says which fields of a PointCloud2 gave the colours.
type ColorSource string

// The sources of colours.
const (
	ColorNone      ColorSource = "none"
	ColorPacked    ColorSource = "rgb"       // one field rgb or rgba, 0xAARRGGBB as float32 or uint32
	ColorSeparate  ColorSource = "r g b"     // three fields; integers, or real numbers 0…1 or 0…255
	ColorIntensity ColorSource = "intensity" // shown as grey
)

// Report says what became of a PointCloud2 besides its points.
type Report struct {
	Dropped
	Color ColorSource
}

// fieldTypes are the datatypes of sensor_msgs/PointField.
var fieldTypes = map[uint8]numberType{
	1: {size: 1, signed: true}, 2: {size: 1}, 3: {size: 2, signed: true}, 4: {size: 2},
	5: {size: 4, signed: true}, 6: {size: 4}, 7: {size: 4, real: true}, 8: {size: 8, real: true},
}

// field is one checked field of a point.
type field struct {
	numberType
	offset int
	ok     bool
}

func (f field) in(point []byte) float64 { return f.at(point[f.offset:]) }

// layout is a checked PointCloud2: every read within it is in range.
type layout struct {
	width, height, step, row int
	xyz                      [3]field
	packed                   field
	rgb                      [3]field
	intensity                field
}

// FromPointCloud2 reads a cloud of any field layout, in the frame of its header. x, y and z are float32 or float64 fields;
// colours come from rgb or rgba, from r g b (or red green blue), or from intensity, in this order of preference. Rows with a
// coordinate that is NaN or infinite are left out and counted, whatever is_dense says. Intensity is scaled so that its
// largest value is white when it is above 255, and by 255 when none is above 1.
func FromPointCloud2(m *msgs.PointCloud2) (*Cloud, Report, error) {
	l, err := layoutOf(m)
	if err != nil {
		return nil, Report{}, fmt.Errorf("point cloud of frame %q: %w", m.Header.FrameID, err)
	}
	report := Report{Color: ColorNone}
	b := builder{}
	n := l.width * l.height // not more than the bytes of data
	b.cloud.XYZ = make([]float64, 0, 3*n)
	add := func([]byte) {}
	switch {
	case l.packed.ok:
		report.Color = ColorPacked
		b.cloud.RGB = make([]uint8, 0, 3*n)
		add = func(point []byte) {
			v := binary.LittleEndian.Uint32(point[l.packed.offset:])
			if l.packed.big {
				v = bits.ReverseBytes32(v)
			}
			b.cloud.RGB = append(b.cloud.RGB, uint8(v>>16), uint8(v>>8), uint8(v))
		}
	case l.rgb[0].ok && l.rgb[1].ok && l.rgb[2].ok:
		report.Color = ColorSeparate
		if l.rgb[0].real || l.rgb[1].real || l.rgb[2].real {
			add = func(point []byte) { b.addReal(l.rgb[0].in(point), l.rgb[1].in(point), l.rgb[2].in(point)) }
			break
		}
		b.cloud.RGB = make([]uint8, 0, 3*n)
		add = func(point []byte) {
			for _, f := range l.rgb {
				v := f.in(point)
				if f.size == 2 && !f.signed {
					v /= 257 // 16 bits a colour
				}
				b.cloud.RGB = append(b.cloud.RGB, byteOf(v))
			}
		}
	case l.intensity.ok:
		report.Color = ColorIntensity
		add = func(point []byte) {
			v := l.intensity.in(point)
			b.addReal(v, v, v)
		}
	}
	l.points(m.Data, &b, add)
	if report.Color == ColorIntensity && b.top > 255 && finite(float64(b.top)) {
		for i := range b.colors {
			b.colors[i] *= 255 / b.top
		}
	}
	c, dropped := b.finish(report.Color != ColorNone)
	report.Dropped = dropped
	return c, report, nil
}

// points calls add for every finite point.
func (l *layout) points(data []byte, b *builder, add func(point []byte)) {
	single := l.xyz[0].size == 4 && l.xyz[1].size == 4 && l.xyz[2].size == 4
	x, y, z, big := l.xyz[0].offset, l.xyz[1].offset, l.xyz[2].offset, l.xyz[0].big
	for r := range l.height {
		row := data[r*l.row : r*l.row+l.width*l.step]
		for ; len(row) > 0; row = row[l.step:] {
			point := row[:l.step]
			if !single {
				if b.add(l.xyz[0].in(point), l.xyz[1].in(point), l.xyz[2].in(point)) {
					add(point)
				}
				continue
			}
			ux, uy, uz := binary.LittleEndian.Uint32(point[x:]), binary.LittleEndian.Uint32(point[y:]), binary.LittleEndian.Uint32(point[z:])
			if big {
				ux, uy, uz = bits.ReverseBytes32(ux), bits.ReverseBytes32(uy), bits.ReverseBytes32(uz)
			}
			if b.add(float64(math.Float32frombits(ux)), float64(math.Float32frombits(uy)), float64(math.Float32frombits(uz))) {
				add(point)
			}
		}
	}
}

// layoutOf checks sizes and fields. All products are of 32-bit numbers in 64 bits.
func layoutOf(m *msgs.PointCloud2) (*layout, error) {
	step, row := uint64(m.PointStep), uint64(m.RowStep)
	width, height := uint64(m.Width), uint64(m.Height)
	if width == 0 || height == 0 {
		width, height = 0, 0
	}
	if width > 0 {
		if step == 0 {
			return nil, fmt.Errorf("point_step is 0, expected the size of a point in bytes")
		}
		if height == 1 {
			row = width * step // some publishers leave row_step at 0 for unordered clouds
		}
		if row < width*step {
			return nil, fmt.Errorf("row_step is %d bytes, expected at least %d (width %d × point_step %d)", row, width*step, width, step)
		}
		if need := (height-1)*row + width*step; need > uint64(len(m.Data)) {
			return nil, fmt.Errorf("data is %d bytes, expected %d (height %d, row_step %d, width %d, point_step %d)", len(m.Data), need, height, row, width, step)
		}
	}
	l := &layout{width: int(width), height: int(height), step: int(step), row: int(row)}
	places := map[string]*field{
		"x": &l.xyz[0], "y": &l.xyz[1], "z": &l.xyz[2], "rgb": &l.packed, "rgba": &l.packed, "intensity": &l.intensity,
		"r": &l.rgb[0], "g": &l.rgb[1], "b": &l.rgb[2], "red": &l.rgb[0], "green": &l.rgb[1], "blue": &l.rgb[2],
	}
	for _, f := range m.Fields {
		to, ok := places[f.Name]
		if !ok {
			continue
		}
		number, ok := fieldTypes[f.Datatype]
		if !ok {
			return nil, fmt.Errorf("field %s: datatype is %d, expected 1 to 8", f.Name, f.Datatype)
		}
		number.big = m.IsBigendian
		switch {
		case to.ok:
			return nil, fmt.Errorf("field %s is listed twice, or under two names", f.Name)
		case uint64(f.Offset)+uint64(number.size) > step:
			return nil, fmt.Errorf("field %s: bytes %d to %d, expected within point_step %d", f.Name, f.Offset, uint64(f.Offset)+uint64(number.size), step)
		case len(f.Name) == 1 && f.Name >= "x" && !number.real:
			return nil, fmt.Errorf("field %s: datatype is %d, expected FLOAT32 (7) or FLOAT64 (8)", f.Name, f.Datatype)
		case to == &l.packed && number.size != 4:
			return nil, fmt.Errorf("field %s: datatype is %d, expected FLOAT32 (7) or UINT32 (6)", f.Name, f.Datatype)
		}
		*to = field{numberType: number, offset: int(f.Offset), ok: true}
	}
	for i, f := range l.xyz {
		if !f.ok {
			return nil, fmt.Errorf("field %c is missing (fields: %s)", "xyz"[i], fieldNames(m))
		}
	}
	return l, nil
}

func fieldNames(m *msgs.PointCloud2) string {
	text := ""
	for i, f := range m.Fields {
		if i == 10 {
			return text + " …"
		}
		if i > 0 {
			text += " "
		}
		text += fmt.Sprintf("%q", f.Name)
	}
	if text == "" {
		return "none"
	}
	return text
}

// MessageID names the content of a message without reading its points: frame, layout and data, but not the stamp or seq.
// Equal names mean equal clouds; it is a cheap first look at a map that is published again and again.
func MessageID(m *msgs.PointCloud2) string {
	h := sha256.New()
	var b []byte
	text := func(s string) { b = append(binary.LittleEndian.AppendUint32(b, uint32(len(s))), s...) }
	text(m.Header.FrameID)
	for _, v := range [4]uint32{m.Height, m.Width, m.PointStep, m.RowStep} {
		b = binary.LittleEndian.AppendUint32(b, v)
	}
	if m.IsBigendian {
		b = append(b, 1)
	} else {
		b = append(b, 0)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(len(m.Fields)))
	for _, f := range m.Fields {
		text(f.Name)
		b = append(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(b, f.Offset), f.Count), f.Datatype)
	}
	h.Write(b)
	h.Write(m.Data)
	return hex.EncodeToString(h.Sum(nil)[:16])
}

// PointCloud2 makes a message of the cloud: x y z as float32, and rgb packed in a float32 where it has colours. Nothing but
// float32's precision is lost. header's frame is the cloud's.
func (c *Cloud) PointCloud2(header msgs.Header) (*msgs.PointCloud2, error) {
	const float32Type = 7
	if c.Len() > math.MaxUint32/16 {
		return nil, fmt.Errorf("point cloud: %d points, expected at most %d", c.Len(), math.MaxUint32/16)
	}
	m := &msgs.PointCloud2{Header: header, Height: 1, Width: uint32(c.Len()), PointStep: 12, IsDense: true}
	names := []string{"x", "y", "z"}
	if c.HasColor {
		m.PointStep, names = 16, append(names, "rgb")
	}
	for i, name := range names {
		m.Fields = append(m.Fields, msgs.PointField{Name: name, Offset: uint32(4 * i), Datatype: float32Type, Count: 1})
	}
	m.RowStep = m.Width * m.PointStep
	m.Data = make([]byte, 0, m.RowStep)
	for i := 0; i < len(c.XYZ); i += 3 {
		for _, v := range c.XYZ[i : i+3] {
			m.Data = binary.LittleEndian.AppendUint32(m.Data, math.Float32bits(float32(v)))
		}
		if c.HasColor {
			m.Data = append(m.Data, c.RGB[i+2], c.RGB[i+1], c.RGB[i], 0)
		}
	}
	return m, nil
}
