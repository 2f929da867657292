package scene

import (
	"encoding/binary"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stllm/stllm/msgs"
)

// put writes a number of a PointField datatype.
func put(b []byte, datatype uint8, big bool, v float64) {
	var o binary.ByteOrder = binary.LittleEndian
	if big {
		o = binary.BigEndian
	}
	switch datatype {
	case 1, 2:
		b[0] = byte(int(v))
	case 3, 4:
		o.PutUint16(b, uint16(int(v)))
	case 5, 6:
		o.PutUint32(b, uint32(int64(v)))
	case 7:
		o.PutUint32(b, math.Float32bits(float32(v)))
	case 8:
		o.PutUint64(b, math.Float64bits(v))
	}
}

// message builds a width×height cloud; values are given field by field for each point.
func message(fields []msgs.PointField, width, height, step, padding int, big bool, value func(point int, field string) float64) *msgs.PointCloud2 {
	m := &msgs.PointCloud2{Header: msgs.Header{FrameID: "map"}, Width: uint32(width), Height: uint32(height), Fields: fields,
		IsBigendian: big, PointStep: uint32(step), RowStep: uint32(width*step + padding)}
	m.Data = make([]byte, height*int(m.RowStep))
	for i := range width * height {
		point := m.Data[i/width*int(m.RowStep)+i%width*step:]
		for _, f := range fields {
			put(point[f.Offset:], f.Datatype, big, value(i, f.Name))
		}
	}
	return m
}

func field1(name string, offset uint32, datatype uint8) msgs.PointField {
	return msgs.PointField{Name: name, Offset: offset, Datatype: datatype, Count: 1}
}

func TestPointCloud2Layouts(t *testing.T) {
	value := func(i int, name string) float64 {
		switch name {
		case "x", "y", "z":
			return float64(i) + float64(name[0]-'x')/4
		case "rgb", "rgba":
			return float64(uint32(0x00102030 + i))
		case "r", "red":
			return float64(10 + i)
		case "g", "green":
			return float64(20 + i)
		case "b", "blue":
			return float64(30 + i)
		case "intensity":
			return float64(40 * i)
		}
		return 7
	}
	packed := func(i int) [3]uint8 { return [3]uint8{0x10, 0x20, uint8(0x30 + i)} }
	separate := func(i int) [3]uint8 { return [3]uint8{uint8(10 + i), uint8(20 + i), uint8(30 + i)} }
	for name, c := range map[string]struct {
		fields []msgs.PointField
		step   int
		source ColorSource
		color  func(i int) [3]uint8
	}{
		"xyz":                {[]msgs.PointField{field1("x", 0, 7), field1("y", 4, 7), field1("z", 8, 7)}, 12, ColorNone, nil},
		"pcl":                {[]msgs.PointField{field1("x", 0, 7), field1("y", 4, 7), field1("z", 8, 7), field1("rgb", 16, 6)}, 32, ColorPacked, packed},
		"float64, reordered": {[]msgs.PointField{field1("rgba", 0, 6), field1("z", 4, 8), field1("ring", 12, 4), field1("x", 14, 8), field1("y", 22, 8)}, 33, ColorPacked, packed},
		"mixed":              {[]msgs.PointField{field1("x", 1, 7), field1("y", 5, 8), field1("z", 13, 7)}, 17, ColorNone, nil},
		"separate bytes":     {[]msgs.PointField{field1("x", 0, 7), field1("y", 4, 7), field1("z", 8, 7), field1("r", 12, 2), field1("g", 13, 2), field1("b", 14, 2)}, 15, ColorSeparate, separate},
		"separate floats":    {[]msgs.PointField{field1("x", 0, 7), field1("y", 4, 7), field1("z", 8, 7), field1("red", 12, 7), field1("green", 16, 7), field1("blue", 20, 7)}, 24, ColorSeparate, separate},
		"intensity":          {[]msgs.PointField{field1("x", 0, 7), field1("y", 4, 7), field1("z", 8, 7), field1("intensity", 12, 7)}, 16, ColorIntensity, func(i int) [3]uint8 { v := uint8(40 * i); return [3]uint8{v, v, v} }},
		"packed before rest": {[]msgs.PointField{field1("x", 0, 7), field1("y", 4, 7), field1("z", 8, 7), field1("intensity", 12, 7), field1("rgb", 16, 6)}, 20, ColorPacked, packed},
	} {
		for _, big := range []bool{false, true} {
			for _, shape := range [][3]int{{6, 1, 0}, {3, 2, 0}, {2, 3, 11}} {
				m := message(c.fields, shape[0], shape[1], c.step, shape[2], big, value)
				cloud, report, err := FromPointCloud2(m)
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if cloud.Len() != 6 || report.Color != c.source || report.NotFinite != 0 || cloud.HasColor != (c.source != ColorNone) {
					t.Fatalf("%s: %d points, %+v", name, cloud.Len(), report)
				}
				for i := range 6 {
					want := [3]uint8{Grey, Grey, Grey}
					if c.color != nil {
						want = c.color(i)
					}
					if !slices.Equal(cloud.XYZ[3*i:3*i+3], []float64{float64(i), float64(i) + 0.25, float64(i) + 0.5}) || [3]uint8(cloud.RGB[3*i:3*i+3]) != want {
						t.Fatalf("%s: point %d is %v %v, expected colour %v", name, i, cloud.XYZ[3*i:3*i+3], cloud.RGB[3*i:3*i+3], want)
					}
				}
			}
		}
	}
}

func TestPointCloud2PackedFloat(t *testing.T) {
	fields := []msgs.PointField{field1("x", 0, 7), field1("y", 4, 7), field1("z", 8, 7), field1("rgb", 12, 7)}
	m := message(fields, 1, 1, 16, 0, false, func(int, string) float64 { return 0 })
	// A bit pattern that is a signalling NaN as a float must come through untouched.
	binary.LittleEndian.PutUint32(m.Data[12:], 0xFF812233)
	c, _, err := FromPointCloud2(m)
	if err != nil || !slices.Equal(c.RGB, []uint8{0x81, 0x22, 0x33}) {
		t.Errorf("colour is %v (%v)", c.RGB, err)
	}
}

func TestPointCloud2ScalesOfColours(t *testing.T) {
	base := []msgs.PointField{field1("x", 0, 7), field1("y", 4, 7), field1("z", 8, 7)}
	intensity := append(slices.Clone(base), field1("intensity", 12, 7))
	for _, c := range []struct{ top, want float64 }{{1, 255}, {0.5, 128}, {200, 200}, {4000, 255}} {
		m := message(intensity, 2, 1, 16, 0, false, func(i int, n string) float64 {
			if n == "intensity" && i == 1 {
				return c.top
			}
			return 0
		})
		cloud, _, err := FromPointCloud2(m)
		if err != nil || cloud.RGB[0] != 0 || cloud.RGB[3] != uint8(c.want) {
			t.Errorf("intensities 0 and %v give %v (%v), expected 0 and %v", c.top, cloud.RGB, err, c.want)
		}
	}
	wide := append(slices.Clone(base), field1("r", 12, 4), field1("g", 14, 4), field1("b", 16, 4))
	m := message(wide, 1, 1, 18, 0, false, func(_ int, n string) float64 { return map[string]float64{"r": 65535, "g": 257, "b": 0}[n] })
	cloud, _, err := FromPointCloud2(m)
	if err != nil || !slices.Equal(cloud.RGB, []uint8{255, 1, 0}) {
		t.Errorf("16-bit colours give %v (%v)", cloud.RGB, err)
	}
}

func TestPointCloud2DropsWhatIsNotFinite(t *testing.T) {
	fields := []msgs.PointField{field1("x", 0, 7), field1("y", 4, 7), field1("z", 8, 7), field1("r", 12, 2), field1("g", 13, 2), field1("b", 14, 2)}
	m := message(fields, 5, 1, 15, 0, false, func(i int, n string) float64 {
		switch {
		case i == 1 && n == "y":
			return math.NaN()
		case i == 3 && n == "z":
			return math.Inf(-1)
		}
		return float64(i)
	})
	m.IsDense = true // a lie
	c, report, err := FromPointCloud2(m)
	if err != nil || report.NotFinite != 2 || !slices.Equal(c.XYZ, []float64{0, 0, 0, 2, 2, 2, 4, 4, 4}) || !slices.Equal(c.RGB, []uint8{0, 0, 0, 2, 2, 2, 4, 4, 4}) {
		t.Errorf("%v %v %+v %v", c, c.RGB, report, err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestPointCloud2Errors(t *testing.T) {
	xyz := []msgs.PointField{field1("x", 0, 7), field1("y", 4, 7), field1("z", 8, 7)}
	for want, change := range map[string]func(m *msgs.PointCloud2){
		"data is 23 bytes, expected 24":     func(m *msgs.PointCloud2) { m.Data = m.Data[:23] },
		"field x is missing":                func(m *msgs.PointCloud2) { m.Fields = m.Fields[1:] },
		"field z is missing (fields: none)": func(m *msgs.PointCloud2) { m.Fields = nil },
		"field y: datatype is 6":            func(m *msgs.PointCloud2) { m.Fields[1].Datatype = 6 },
		"field y: datatype is 9":            func(m *msgs.PointCloud2) { m.Fields[1].Datatype = 9 },
		"field z: bytes 9 to 13":            func(m *msgs.PointCloud2) { m.Fields[2].Offset = 9 },
		"field z: bytes 4294967295":         func(m *msgs.PointCloud2) { m.Fields[2].Offset = math.MaxUint32 },
		"field x is listed twice":           func(m *msgs.PointCloud2) { m.Fields[1].Name = "x" },
		"field rgb: datatype is 2":          func(m *msgs.PointCloud2) { m.Fields = append(m.Fields, field1("rgb", 0, 2)) },
		"point_step is 0":                   func(m *msgs.PointCloud2) { m.PointStep = 0 },
		"row_step is 23":                    func(m *msgs.PointCloud2) { m.Height, m.RowStep = 2, 23 },
		"data is 24 bytes, expected 48":     func(m *msgs.PointCloud2) { m.Height = 2 },
		"data is 24 bytes, expected 18446":  func(m *msgs.PointCloud2) { m.Width, m.PointStep = math.MaxUint32, math.MaxUint32 },
		"frame \"map\"":                     func(m *msgs.PointCloud2) { m.Data = nil },
	} {
		m := message(slices.Clone(xyz), 2, 1, 12, 0, false, func(int, string) float64 { return 1 })
		change(m)
		if want == "field z is missing (fields: none)" {
			want = "field x is missing (fields: none)"
		}
		if _, _, err := FromPointCloud2(m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, expected one that says %q", err, want)
		}
	}
	empty := message(xyz, 2, 1, 12, 0, false, func(int, string) float64 { return 1 })
	empty.Width, empty.Data = 0, nil
	if c, _, err := FromPointCloud2(empty); err != nil || c.Len() != 0 {
		t.Errorf("a cloud without points: %v %v", c, err)
	}
	unordered := message(xyz, 2, 1, 12, 0, false, func(int, string) float64 { return 1 })
	unordered.RowStep = 0
	if c, _, err := FromPointCloud2(unordered); err != nil || c.Len() != 2 {
		t.Errorf("row_step 0 of one row: %v %v", c, err)
	}
}

func TestPointCloud2RoundTrip(t *testing.T) {
	for _, color := range []bool{true, false} {
		c := randomCloud(8, 300, color)
		m, err := c.PointCloud2(msgs.Header{FrameID: "map"})
		if err != nil {
			t.Fatal(err)
		}
		got, report, err := FromPointCloud2(m)
		if err != nil || report.NotFinite != 0 || !slices.Equal(got.RGB, c.RGB) || got.HasColor != color {
			t.Fatalf("%+v %v", report, err)
		}
		for i, v := range c.XYZ {
			if got.XYZ[i] != float64(float32(v)) {
				t.Fatalf("coordinate %d is %v, expected %v", i, got.XYZ[i], v)
			}
		}
		id := MessageID(m)
		m.Header.Stamp.Sec, m.Header.Seq = 99, 5
		if MessageID(m) != id {
			t.Error("the message's name depends on its stamp")
		}
		m.Data[7] ^= 1
		if MessageID(m) == id {
			t.Error("the message's name does not depend on its data")
		}
	}
}

func FuzzFromPointCloud2(f *testing.F) {
	f.Add(uint32(2), uint32(1), uint32(16), uint32(32), false, []byte{0, 0, 7, 1, 4, 7, 2, 8, 7, 3, 12, 6}, make([]byte, 32))
	f.Add(uint32(1), uint32(2), uint32(28), uint32(30), true, []byte{0, 0, 8, 1, 8, 8, 2, 16, 8, 5, 24, 2, 6, 25, 2, 7, 26, 2}, make([]byte, 58))
	f.Add(uint32(math.MaxUint32), uint32(math.MaxUint32), uint32(math.MaxUint32), uint32(math.MaxUint32), true, []byte{0, 0, 7}, []byte{})
	names := []string{"x", "y", "z", "rgb", "rgba", "r", "g", "b", "intensity", "other"}
	f.Fuzz(func(t *testing.T, width, height, step, row uint32, big bool, fields, data []byte) {
		m := &msgs.PointCloud2{Width: width, Height: height, PointStep: step, RowStep: row, IsBigendian: big, Data: data}
		for ; len(fields) >= 3; fields = fields[3:] {
			m.Fields = append(m.Fields, field1(names[int(fields[0])%len(names)], uint32(fields[1]), fields[2]))
		}
		c, _, err := FromPointCloud2(m)
		if err != nil {
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatal(err)
		}
		if c.Len() > len(data) {
			t.Fatalf("%d points from %d bytes", c.Len(), len(data))
		}
	})
}

func BenchmarkFromPointCloud2(b *testing.B) {
	m, err := room(1_000_000).PointCloud2(msgs.Header{})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(m.Data)))
	for b.Loop() {
		if _, _, err := FromPointCloud2(m); err != nil {
			b.Fatal(err)
		}
	}
}
