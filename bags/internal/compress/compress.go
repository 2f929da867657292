// Package compress unpacks the chunks of bags.
package compress

import (
	"bytes"
	"compress/bzip2"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// MaxSize bounds the unpacked size of one chunk or message in bytes.
const MaxSize = 1 << 30

// slack is what any input may unpack to, however short it is.
const slack = 64 << 10

// Expansion limits of the formats: no input unpacks to more than this many
// times its length (plus slack). They keep a lying size field from allocating.
const (
	lz4Expansion  = 255
	zstdExpansion = 32 << 10 // a 4-byte run-length block makes 128 KiB
)

// A Decoder unpacks data; it keeps its tables between calls. It is not safe for
// concurrent use. The zero value is ready.
type Decoder struct {
	zstd *zstd.Decoder
	lz4  *lz4.Reader
}

// Known tells whether Decode can unpack the format.
func Known(format string) bool {
	switch format {
	case "", "none", "lz4", "bz2", "zstd":
		return true
	}
	return false
}

// Decode unpacks src. Size is the unpacked length that the bag declares, or -1
// where it does not. On an error, what could be unpacked before the damage is
// returned with it. For "none" the result is src itself, otherwise it lies in
// dst where that has the room.
func (d *Decoder) Decode(dst []byte, format string, src []byte, size int64) ([]byte, error) {
	if size > MaxSize {
		return nil, fmt.Errorf("declared to unpack to %d bytes, limit is %d", size, MaxSize)
	}
	var out []byte
	var err error
	switch format {
	case "", "none":
		out = src
	case "lz4":
		out, err = d.decodeLZ4(dst, src, size)
	case "bz2":
		out, err = readAll(dst, bzip2.NewReader(bytes.NewReader(src)), bounded(size, 16*int64(len(src))+slack), size)
	case "zstd":
		out, err = d.decodeZstd(dst, src, size)
	default:
		return nil, fmt.Errorf("unknown compression %q (known: none, lz4, bz2, zstd)", format)
	}
	if err != nil {
		return out, fmt.Errorf("unpacking %s: %w", format, err)
	}
	if size >= 0 && int64(len(out)) != size {
		return out, fmt.Errorf("unpacking %s: got %d bytes, %d are declared", format, len(out), size)
	}
	return out, nil
}

func (d *Decoder) decodeLZ4(dst, src []byte, size int64) ([]byte, error) {
	if d.lz4 == nil {
		d.lz4 = lz4.NewReader(nil)
	}
	d.lz4.Reset(bytes.NewReader(src))
	hint := bounded(size, lz4Expansion*int64(len(src))+slack)
	if size < 0 {
		hint = bounded(4*int64(len(src)), MaxSize)
	}
	return readAll(dst, d.lz4, hint, size)
}

// decodeZstd gives the decoder a buffer it may not outgrow, and a larger one
// only while the input could fill it.
func (d *Decoder) decodeZstd(dst, src []byte, size int64) ([]byte, error) {
	if d.zstd == nil {
		z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true),
			zstd.WithDecoderMaxMemory(MaxSize))
		if err != nil {
			return nil, err
		}
		d.zstd = z
	}
	limit := min(zstdExpansion*int64(len(src))+slack, MaxSize)
	if size >= 0 {
		limit = min(limit, size)
	}
	for room := min(64*int64(len(src))+slack, limit); ; room = min(8*room, limit) {
		out, err := d.zstd.DecodeAll(src, Room(dst, room))
		if errors.Is(err, zstd.ErrDecoderSizeExceeded) && room < limit {
			continue
		}
		return out, err
	}
}

// readAll reads r to its end, but at most size bytes where size is not
// negative, and at most MaxSize. Hint is the room to start with, that of dst
// where it suffices.
func readAll(dst []byte, r io.Reader, hint, size int64) ([]byte, error) {
	limit := int64(MaxSize)
	if size >= 0 {
		limit = size
	}
	buf := Room(dst, hint)
	for {
		if int64(len(buf)) == limit {
			// Room for one byte more tells a longer stream from a finished one,
			// and lets the format check its closing checksum.
			var one [1]byte
			n, err := io.ReadFull(r, one[:])
			switch {
			case n > 0:
				return buf, fmt.Errorf("more than the %d bytes declared or allowed", limit)
			case err == io.EOF:
				return buf, nil
			default:
				return buf, err
			}
		}
		if len(buf) == cap(buf) {
			grown := make([]byte, len(buf), min(2*int64(cap(buf))+slack, limit))
			copy(grown, buf)
			buf = grown
		}
		n, err := r.Read(buf[len(buf):min(int64(cap(buf)), limit)])
		buf = buf[:len(buf)+n]
		if err == io.EOF {
			return buf, nil
		}
		if err != nil {
			return buf, err
		}
	}
}

// Room returns an empty slice with room for n bytes, in b where that has it.
// What takes the place of a b that is too small gets more than n, as what is
// read into it differs a little in size from one time to the next.
func Room(b []byte, n int64) []byte {
	if int64(cap(b)) < n {
		return make([]byte, 0, n+min(n/16, int64(cap(b))))
	}
	return b[:0]
}

// bounded returns want where it is known and below the limit, else the limit.
func bounded(want, limit int64) int64 {
	limit = min(limit, MaxSize)
	if want < 0 || want > limit {
		return limit
	}
	return want
}
