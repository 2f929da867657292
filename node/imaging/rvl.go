package imaging

import (
	"encoding/binary"
	"fmt"
)

// rvlBest is how many pixels a byte of RVL may stand for: pixels that are measured take half a byte or more, only runs of those
// that are not take less. It bounds what a few bytes can claim, above rvlFree pixels (1920×1080): a picture of nothing, as of a
// covered lens, is a dozen bytes of any size.
const (
	rvlBest = 256
	rvlFree = 1 << 21
)

// rvlDepth reads Andrew Wilson's RVL ("Fast lossless depth image compression", 2017) as compressedDepth has it: width and height
// as uint32, then, by turns, a number of zeros, a number of other codes, and these as differences, all in groups of 3 bits with a
// fourth that says that more follow, packed into little-endian words from the top.
func rvlDepth(data []byte) (*Depth, error) {
	if len(data) < 8 {
		return nil, fmt.Errorf("rvl: %d bytes, expected 8 of width and height", len(data))
	}
	width, height := binary.LittleEndian.Uint32(data), binary.LittleEndian.Uint32(data[4:])
	if err := checkSize(int(width), int(height)); err != nil {
		return nil, fmt.Errorf("rvl: %w", err)
	}
	n := int(width) * int(height)
	if n > max(rvlFree, rvlBest*len(data)) {
		return nil, fmt.Errorf("rvl: %d bytes claim %d×%d pixels", len(data), width, height)
	}
	d := &Depth{Width: int(width), Height: int(height), data: make([]byte, 2*n), step: 2 * int(width), size: 2}
	r := nibbles{words: data[8:]}
	last := uint16(0)
	for at := 0; at < n; {
		for _, measured := range []bool{false, true} {
			count, err := r.number()
			if err != nil {
				return nil, fmt.Errorf("rvl: pixel %d of %d: %w", at, n, err)
			}
			if count > n-at {
				return nil, fmt.Errorf("rvl: %d pixels after pixel %d of %d", count, at, n)
			}
			if !measured {
				at += count
				continue
			}
			for range count {
				v, err := r.number()
				if err != nil {
					return nil, fmt.Errorf("rvl: pixel %d of %d: %w", at, n, err)
				}
				last += uint16(v>>1 ^ -(v & 1))
				binary.LittleEndian.PutUint16(d.data[2*at:], last)
				at++
			}
		}
		if r.at >= 8*(len(r.words)/4) && at < n {
			return nil, fmt.Errorf("rvl: the data ends at pixel %d of %d", at, n)
		}
	}
	return d, nil
}

// nibbles reads numbers of variable length.
type nibbles struct {
	words []byte
	at    int // nibbles read
}

func (r *nibbles) number() (int, error) {
	value := 0
	for shift := 0; ; shift += 3 {
		word := r.at / 8 * 4
		if word+4 > len(r.words) {
			return 0, fmt.Errorf("the data ends after %d bytes", len(r.words))
		}
		if shift > 30 {
			return 0, fmt.Errorf("a number has more than 32 bits")
		}
		nibble := binary.LittleEndian.Uint32(r.words[word:]) >> (28 - 4*(r.at%8)) & 15
		r.at++
		value |= int(nibble&7) << shift
		if nibble&8 == 0 {
			return value, nil
		}
	}
}
