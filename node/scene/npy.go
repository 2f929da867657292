package scene

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"regexp"
	"strconv"
	"strings"
)

var (
	npyDescr   = regexp.MustCompile(`'descr'\s*:\s*'([^']*)'`)
	npyFortran = regexp.MustCompile(`'fortran_order'\s*:\s*(True|False)`)
	npyShape   = regexp.MustCompile(`'shape'\s*:\s*\(([^)]*)\)`)
)

// ReadNPY reads a NumPy array of N×3 (x y z, metres) or N×6 (x y z r g b) numbers, as the REA data has them: any integer or
// floating type, C order, either byte order. Integer colours are 0…255; real ones are 0…1 when none exceeds 1, else 0…255.
func ReadNPY(r io.Reader) (*Cloud, Dropped, error) {
	head := make([]byte, 8)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, Dropped{}, fmt.Errorf("npy: magic: %w", unexpected(err))
	}
	if string(head[:6]) != "\x93NUMPY" {
		return nil, Dropped{}, fmt.Errorf("npy: magic is %q, expected %q", head[:6], "\x93NUMPY")
	}
	var size int
	switch head[6] {
	case 1:
		var b [2]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, Dropped{}, fmt.Errorf("npy: header length: %w", unexpected(err))
		}
		size = int(binary.LittleEndian.Uint16(b[:]))
	case 2, 3:
		var b [4]byte
		if _, err := io.ReadFull(r, b[:]); err != nil {
			return nil, Dropped{}, fmt.Errorf("npy: header length: %w", unexpected(err))
		}
		size = int(binary.LittleEndian.Uint32(b[:]))
	default:
		return nil, Dropped{}, fmt.Errorf("npy: format version is %d, expected 1, 2 or 3", head[6])
	}
	const maxHeader = 64 << 10
	if size > maxHeader {
		return nil, Dropped{}, fmt.Errorf("npy: header is %d bytes, expected at most %d", size, maxHeader)
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(r, text); err != nil {
		return nil, Dropped{}, fmt.Errorf("npy: header: %w", unexpected(err))
	}
	rows, columns, number, err := npyHeader(text)
	if err != nil {
		return nil, Dropped{}, err
	}
	return npyRows(r, rows, columns, number)
}

func npyHeader(text []byte) (rows, columns int, number numberType, err error) {
	descr, fortran, shape := npyDescr.FindSubmatch(text), npyFortran.FindSubmatch(text), npyShape.FindSubmatch(text)
	switch {
	case descr == nil:
		return 0, 0, number, errors.New("npy: header has no 'descr' of a plain type")
	case fortran == nil:
		return 0, 0, number, errors.New("npy: header has no 'fortran_order'")
	case shape == nil:
		return 0, 0, number, errors.New("npy: header has no 'shape'")
	case string(fortran[1]) == "True":
		return 0, 0, number, errors.New("npy: 'fortran_order' is True, expected rows one after the other")
	}
	d := string(descr[1])
	number, ok := npyTypes[strings.TrimLeft(d, "<>|=")]
	if !ok {
		return 0, 0, number, fmt.Errorf("npy: 'descr' is %q, expected an integer or floating type", d)
	}
	number.big = strings.HasPrefix(d, ">")
	var dims []int
	for part := range strings.SplitSeq(string(shape[1]), ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		n, err := strconv.Atoi(part)
		if err != nil || n < 0 {
			return 0, 0, number, fmt.Errorf("npy: 'shape' is (%s), expected two sizes", shape[1])
		}
		dims = append(dims, n)
	}
	if len(dims) != 2 || dims[1] != 3 && dims[1] != 6 {
		return 0, 0, number, fmt.Errorf("npy: 'shape' is (%s), expected N×3 or N×6", bytes.TrimSpace(shape[1]))
	}
	return dims[0], dims[1], number, nil
}

func npyRows(r io.Reader, rows, columns int, number numberType) (*Cloud, Dropped, error) {
	var b builder
	row := make([]byte, columns*number.size)
	for i := range rows {
		if _, err := io.ReadFull(r, row); err != nil {
			return nil, b.dropped, fmt.Errorf("npy: row %d of %d: %w", i, rows, unexpected(err))
		}
		at := func(k int) float64 { return number.at(row[k*number.size:]) }
		if !b.add(at(0), at(1), at(2)) || columns < 6 {
			continue
		}
		if number.real {
			b.addReal(at(3), at(4), at(5))
			continue
		}
		for k := 3; k < 6; k++ {
			b.cloud.RGB = append(b.cloud.RGB, byteOf(at(k)))
		}
	}
	c, dropped := b.finish(columns == 6)
	return c, dropped, nil
}

// WriteNPY writes an N×6 array of float64: x y z in metres, r g b in 0…255 (N×3 for a cloud without colours).
func WriteNPY(w io.Writer, c *Cloud) error {
	columns := 6
	if !c.HasColor {
		columns = 3
	}
	head := fmt.Sprintf("{'descr': '<f8', 'fortran_order': False, 'shape': (%d, %d), }", c.Len(), columns)
	head += strings.Repeat(" ", 63-(10+len(head))%64) + "\n"
	out := append([]byte("\x93NUMPY\x01\x00"), byte(len(head)), byte(len(head)>>8))
	if _, err := w.Write(append(out, head...)); err != nil {
		return err
	}
	row := make([]byte, 0, 48)
	for i := range c.Len() {
		row = row[:0]
		for _, v := range c.XYZ[3*i : 3*i+3] {
			row = binary.LittleEndian.AppendUint64(row, math.Float64bits(v))
		}
		for _, v := range c.RGB[3*i : 3*i+columns-3] {
			row = binary.LittleEndian.AppendUint64(row, math.Float64bits(float64(v)))
		}
		if _, err := w.Write(row); err != nil {
			return err
		}
	}
	return nil
}

// unexpected turns the end of the file into one that should not be there.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
