package scene

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// PLYFormat is an encoding of the PLY format.
type PLYFormat string

// The encodings of PLY.
const (
	PLYASCII              PLYFormat = "ascii"
	PLYBinaryLittleEndian PLYFormat = "binary_little_endian"
	PLYBinaryBigEndian    PLYFormat = "binary_big_endian"
)

type plyProperty struct {
	name  string
	kind  numberType
	count numberType // of a list's length; size 0: not a list
}

type plyElement struct {
	name       string
	count      int
	properties []plyProperty
}

// plyLimits keep a hostile header small.
const (
	plyMaxLine       = 4096
	plyMaxHeader     = 1000 // lines
	plyMaxListLength = 1 << 20
)

// ReadPLY reads the vertices of a PLY file: x y z of any type, and colours red green blue (or r g b, diffuse_red …), which
// are 0…255 when integers and else 0…1 if none exceeds 1. Other elements and properties are passed over.
func ReadPLY(r io.Reader) (*Cloud, Dropped, error) {
	in := bufio.NewReaderSize(r, plyMaxLine)
	format, elements, err := plyHeader(in)
	if err != nil {
		return nil, Dropped{}, fmt.Errorf("ply: %w", err)
	}
	values := plyBinary(in, format == PLYBinaryBigEndian)
	if format == PLYASCII {
		values = plyASCII(in)
	}
	for _, e := range elements {
		if e.name == "vertex" {
			return plyVertices(e, values)
		}
		for i := range e.count {
			for _, p := range e.properties {
				if _, err := plyValue(p, values); err != nil {
					return nil, Dropped{}, fmt.Errorf("ply: element %s %d of %d: property %s: %w", e.name, i, e.count, p.name, err)
				}
			}
		}
	}
	return nil, Dropped{}, errors.New("ply: header has no element vertex")
}

func plyHeader(in *bufio.Reader) (format PLYFormat, elements []plyElement, err error) {
	for n := 0; ; n++ {
		if n >= plyMaxHeader {
			return "", nil, fmt.Errorf("header has more than %d lines", plyMaxHeader)
		}
		raw, err := in.ReadSlice('\n')
		if err != nil {
			return "", nil, fmt.Errorf("header line %d: %w", n+1, unexpected(err))
		}
		line := strings.TrimRight(string(raw), "\r\n")
		f := strings.Fields(line)
		bad := func(expected string) error {
			return fmt.Errorf("header line %d is %q, expected %s", n+1, line, expected)
		}
		if n == 0 {
			if line != "ply" {
				return "", nil, bad(`"ply"`)
			}
			continue
		}
		if len(f) == 0 {
			return "", nil, bad("a header keyword")
		}
		switch f[0] {
		case "comment", "obj_info":
		case "format":
			if len(f) != 3 || f[2] != "1.0" || f[1] != string(PLYASCII) && f[1] != string(PLYBinaryLittleEndian) && f[1] != string(PLYBinaryBigEndian) {
				return "", nil, bad("format ascii, binary_little_endian or binary_big_endian 1.0")
			}
			format = PLYFormat(f[1])
		case "element":
			if len(f) != 3 {
				return "", nil, bad("element NAME COUNT")
			}
			count, err := strconv.Atoi(f[2])
			if err != nil || count < 0 {
				return "", nil, bad("a count of elements")
			}
			elements = append(elements, plyElement{name: f[1], count: count})
		case "property":
			if len(elements) == 0 {
				return "", nil, bad("an element before it")
			}
			p, err := plyPropertyOf(f)
			if err != nil {
				return "", nil, bad(err.Error())
			}
			e := &elements[len(elements)-1]
			e.properties = append(e.properties, p)
		case "end_header":
			if format == "" {
				return "", nil, errors.New("header has no format line")
			}
			for _, e := range elements {
				if len(e.properties) == 0 && e.count > 0 {
					return "", nil, fmt.Errorf("element %s has %d entries and no properties", e.name, e.count)
				}
			}
			return format, elements, nil
		default:
			return "", nil, bad("a header keyword")
		}
	}
}

func plyPropertyOf(f []string) (p plyProperty, err error) {
	types := func(name string) (numberType, error) {
		t, ok := plyTypes[name]
		if !ok {
			return t, fmt.Errorf("a type such as float or uchar instead of %q", name)
		}
		return t, nil
	}
	switch {
	case len(f) == 3:
		p.name = f[2]
		p.kind, err = types(f[1])
	case len(f) == 5 && f[1] == "list":
		p.name = f[4]
		if p.count, err = types(f[2]); err == nil {
			p.kind, err = types(f[3])
		}
		if err == nil && p.count.real {
			err = errors.New("an integer type for the list's length")
		}
	default:
		err = errors.New("property TYPE NAME or property list TYPE TYPE NAME")
	}
	return p, err
}

// plyValue reads one property; of a list only the length is checked and the entries are passed over.
func plyValue(p plyProperty, next func(numberType) (float64, error)) (float64, error) {
	if p.count.size == 0 {
		return next(p.kind)
	}
	n, err := next(p.count)
	if err != nil {
		return 0, err
	}
	if n < 0 || n > plyMaxListLength {
		return 0, fmt.Errorf("list length is %v, expected 0 to %d", n, plyMaxListLength)
	}
	for range int(n) {
		if _, err := next(p.kind); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

func plyBinary(in io.Reader, big bool) func(numberType) (float64, error) {
	var buf [8]byte
	return func(n numberType) (float64, error) {
		n.big = big
		if _, err := io.ReadFull(in, buf[:n.size]); err != nil {
			return 0, unexpected(err)
		}
		return n.at(buf[:]), nil
	}
}

func plyASCII(in io.Reader) func(numberType) (float64, error) {
	words := bufio.NewScanner(in)
	words.Buffer(make([]byte, 0, plyMaxLine), plyMaxLine)
	words.Split(bufio.ScanWords)
	return func(numberType) (float64, error) {
		if !words.Scan() {
			if err := words.Err(); err != nil {
				return 0, err
			}
			return 0, io.ErrUnexpectedEOF
		}
		v, err := strconv.ParseFloat(words.Text(), 64)
		if err != nil && !errors.Is(err, strconv.ErrRange) {
			return 0, fmt.Errorf("%q is not a number", words.Text())
		}
		return v, nil
	}
}

func plyVertices(e plyElement, next func(numberType) (float64, error)) (*Cloud, Dropped, error) {
	where := map[string]int{}
	for i, p := range e.properties {
		name := strings.TrimPrefix(strings.ToLower(p.name), "diffuse_")
		if long, ok := map[string]string{"r": "red", "g": "green", "b": "blue"}[name]; ok {
			name = long
		}
		if p.count.size == 0 {
			where[name] = i
		}
	}
	var at [6]int
	color := true
	for k, name := range [6]string{"x", "y", "z", "red", "green", "blue"} {
		i, ok := where[name]
		if !ok && k < 3 {
			return nil, Dropped{}, fmt.Errorf("ply: vertices have no property %s", name)
		}
		color = color && ok
		at[k] = i
	}
	var b builder
	row := make([]float64, len(e.properties))
	for i := range e.count {
		for k, p := range e.properties {
			v, err := plyValue(p, next)
			if err != nil {
				return nil, b.dropped, fmt.Errorf("ply: vertex %d of %d: property %s: %w", i, e.count, p.name, err)
			}
			row[k] = v
		}
		if !b.add(row[at[0]], row[at[1]], row[at[2]]) || !color {
			continue
		}
		if e.properties[at[3]].kind.real || e.properties[at[4]].kind.real || e.properties[at[5]].kind.real {
			b.addReal(row[at[3]], row[at[4]], row[at[5]])
			continue
		}
		for _, k := range at[3:] {
			b.cloud.RGB = append(b.cloud.RGB, byteOf(row[k]))
		}
	}
	c, dropped := b.finish(color)
	return c, dropped, nil
}

// WritePLY writes vertices with x y z as double and, where the cloud has colours, red green blue as uchar.
func WritePLY(w io.Writer, c *Cloud, format PLYFormat) error {
	if format != PLYASCII && format != PLYBinaryLittleEndian && format != PLYBinaryBigEndian {
		return fmt.Errorf("ply: format is %q, expected ascii, binary_little_endian or binary_big_endian", format)
	}
	head := fmt.Sprintf("ply\nformat %s 1.0\nelement vertex %d\nproperty double x\nproperty double y\nproperty double z\n", format, c.Len())
	if c.HasColor {
		head += "property uchar red\nproperty uchar green\nproperty uchar blue\n"
	}
	if _, err := io.WriteString(w, head+"end_header\n"); err != nil {
		return err
	}
	var row []byte
	for i := range c.Len() {
		row = row[:0]
		for k, v := range c.XYZ[3*i : 3*i+3] {
			switch format {
			case PLYASCII:
				if k > 0 {
					row = append(row, ' ')
				}
				row = strconv.AppendFloat(row, v, 'g', -1, 64)
			case PLYBinaryBigEndian:
				row = binary.BigEndian.AppendUint64(row, math.Float64bits(v))
			default:
				row = binary.LittleEndian.AppendUint64(row, math.Float64bits(v))
			}
		}
		if c.HasColor && format != PLYASCII {
			row = append(row, c.RGB[3*i:3*i+3]...)
		} else if c.HasColor {
			for _, v := range c.RGB[3*i : 3*i+3] {
				row = strconv.AppendUint(append(row, ' '), uint64(v), 10)
			}
		}
		if format == PLYASCII {
			row = append(row, '\n')
		}
		if _, err := w.Write(row); err != nil {
			return err
		}
	}
	return nil
}
