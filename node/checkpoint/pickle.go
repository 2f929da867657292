package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/big"
	"slices"
	"unicode/utf8"
)

// The values of an unpickled file: nil, bool, int64, *big.Int, float64, string, []byte, tuple, *list, *dict, and for the few
// admitted globals global, *storage, *pickledTensor and numpyType.
type (
	tuple  []any
	list   struct{ items []any }
	global string // "module name"

	// dict keeps the order of its keys. Only text keys can be looked up; others are kept to be complete.
	dict struct {
		keys, values []any
		index        map[string]int
	}

	numpyType struct{ code string }
)

func (d *dict) set(key, value any) {
	name, ok := key.(string)
	if !ok {
		d.keys, d.values = append(d.keys, key), append(d.values, value)
		return
	}
	if i, ok := d.index[name]; ok {
		d.values[i] = value
		return
	}
	if d.index == nil {
		d.index = map[string]int{}
	}
	d.index[name] = len(d.keys)
	d.keys, d.values = append(d.keys, key), append(d.values, value)
}

func (d *dict) get(name string) any {
	if i, ok := d.index[name]; ok {
		return d.values[i]
	}
	return nil
}

// unpickler runs one pickle program. It admits plain values and containers, and the callables of call; every other global is
// refused by name before anything is done with it. An opcode adds at most one value, and what calls copy of remembered values is
// counted against the program's length, so memory stays within a constant factor of it.
type unpickler struct {
	data  []byte
	at    int
	stack []any
	marks []int
	memo  map[uint32]any
	load  func(id any) (*storage, error) // persistent ids; nil refuses them
	room  int                            // values and bytes that calls may still copy
}

var errPickleEnd = errors.New("the pickle ends in the middle")

func unpickle(data []byte, load func(any) (*storage, error)) (value any, used int, err error) {
	u := &unpickler{data: data, memo: map[uint32]any{}, load: load, room: len(data)}
	for {
		at := u.at
		op, err := u.byte()
		if err != nil {
			return nil, at, err
		}
		if op == '.' {
			if len(u.stack) != 1 || len(u.marks) != 0 {
				return nil, at, fmt.Errorf("the pickle stops with %d values on its stack, expected 1", len(u.stack))
			}
			return u.stack[0], u.at, nil
		}
		if err := u.step(op); err != nil {
			return nil, at, fmt.Errorf("pickle byte %d (opcode %#02x): %w", at, op, err)
		}
	}
}

func (u *unpickler) take(n uint64) ([]byte, error) {
	if n > uint64(len(u.data)-u.at) {
		return nil, errPickleEnd
	}
	b := u.data[u.at : u.at+int(n)]
	u.at += int(n)
	return b, nil
}

func (u *unpickler) byte() (byte, error) {
	b, err := u.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

// number reads a little-endian length or index of 1, 2, 4 or 8 bytes.
func (u *unpickler) number(size uint64) (uint64, error) {
	b, err := u.take(size)
	if err != nil {
		return 0, err
	}
	var full [8]byte
	copy(full[:], b)
	return binary.LittleEndian.Uint64(full[:]), nil
}

func (u *unpickler) sized(size uint64) ([]byte, error) {
	n, err := u.number(size)
	if err != nil {
		return nil, err
	}
	return u.take(n)
}

func (u *unpickler) line() (string, error) {
	i := slices.Index(u.data[u.at:], '\n')
	if i < 0 {
		return "", errPickleEnd
	}
	b, err := u.take(uint64(i + 1))
	return string(b[:i]), err
}

func (u *unpickler) push(v any) { u.stack = append(u.stack, v) }

func (u *unpickler) pop() (any, error) {
	floor := 0
	if len(u.marks) > 0 {
		floor = u.marks[len(u.marks)-1]
	}
	if len(u.stack) <= floor {
		return nil, errors.New("the stack is empty")
	}
	v := u.stack[len(u.stack)-1]
	u.stack = u.stack[:len(u.stack)-1]
	return v, nil
}

// popN returns a copy of the n topmost values.
func (u *unpickler) popN(n int) (tuple, error) {
	out := make(tuple, n)
	for i := n - 1; i >= 0; i-- {
		v, err := u.pop()
		if err != nil {
			return nil, err
		}
		out[i] = v
	}
	return out, nil
}

// popMark returns a copy of the values above the last mark.
func (u *unpickler) popMark() (tuple, error) {
	if len(u.marks) == 0 {
		return nil, errors.New("no mark on the stack")
	}
	at := u.marks[len(u.marks)-1]
	u.marks = u.marks[:len(u.marks)-1]
	out := slices.Clone(tuple(u.stack[at:]))
	u.stack = u.stack[:at]
	return out, nil
}

func (u *unpickler) top() any {
	if len(u.stack) == 0 {
		return nil
	}
	return u.stack[len(u.stack)-1]
}

func (u *unpickler) step(op byte) error {
	switch op {
	case 0x80: // PROTO
		v, err := u.byte()
		if err == nil && (v < 2 || v > 5) {
			err = fmt.Errorf("pickle protocol %d, expected 2 to 5", v)
		}
		return err
	case 0x95: // FRAME
		_, err := u.take(8)
		return err
	case '(':
		u.marks = append(u.marks, len(u.stack))
		return nil
	case '0': // POP
		_, err := u.pop()
		return err
	case '1': // POP_MARK
		_, err := u.popMark()
		return err
	case 'q', 'r', 'h', 'j', 0x94:
		return u.memory(op)
	case 'N', 0x88, 0x89, 'K', 'M', 'J', 0x8a, 0x8b, 'G':
		return u.scalar(op)
	case 'X', 0x8c, 0x8d, 'U', 'T', 'B', 'C', 0x8e:
		return u.text(op)
	case '}', ']', ')', 't', 0x85, 0x86, 0x87, 'l', 'd', 'a', 'e', 's', 'u':
		return u.container(op)
	case 'c', 0x93, 'Q', 'R', 'b':
		return u.object(op)
	case 0x81, 0x92: // NEWOBJ, NEWOBJ_EX
		if args, err := u.popN(2); err == nil {
			return fmt.Errorf("an object of %s is not admitted", describe(args[0]))
		}
	case 'i', 'o', 'P', 0x82, 0x83, 0x84, 'F', 'I', 'L', 'S', 'V', 'g', 'p', '2', 0x8f, 0x90, 0x91, 0x96, 0x97, 0x98:
		return errors.New("this opcode is not admitted (torch.save does not write it)")
	}
	return errors.New("no such opcode")
}

func (u *unpickler) memory(op byte) error {
	var key uint64
	var err error
	switch op {
	case 'q', 'h':
		key, err = u.number(1)
	case 'r', 'j':
		key, err = u.number(4)
	default: // MEMOIZE
		key = uint64(len(u.memo))
	}
	if err != nil {
		return err
	}
	if op == 'h' || op == 'j' {
		v, ok := u.memo[uint32(key)]
		if !ok {
			return fmt.Errorf("memo %d was never set", key)
		}
		u.push(v)
		return nil
	}
	if len(u.stack) == 0 {
		return errors.New("the stack is empty")
	}
	u.memo[uint32(key)] = u.top()
	return nil
}

func (u *unpickler) scalar(op byte) error {
	switch op {
	case 'N':
		u.push(nil)
	case 0x88, 0x89:
		u.push(op == 0x88)
	case 'K', 'M':
		n, err := u.number(uint64(1 + int(op-'K')/2))
		if err != nil {
			return err
		}
		u.push(int64(n))
	case 'J':
		n, err := u.number(4)
		if err != nil {
			return err
		}
		u.push(int64(int32(n)))
	case 'G':
		b, err := u.take(8)
		if err != nil {
			return err
		}
		u.push(math.Float64frombits(binary.BigEndian.Uint64(b)))
	case 0x8a, 0x8b: // LONG1, LONG4: two's complement, little-endian
		size := uint64(1)
		if op == 0x8b {
			size = 4
		}
		b, err := u.sized(size)
		if err != nil {
			return err
		}
		u.push(long(b))
	}
	return nil
}

func long(b []byte) any {
	be := slices.Clone(b)
	slices.Reverse(be)
	n := new(big.Int).SetBytes(be)
	if len(be) > 0 && be[0]&0x80 != 0 {
		n.Sub(n, new(big.Int).Lsh(big.NewInt(1), uint(8*len(be))))
	}
	if n.IsInt64() {
		return n.Int64()
	}
	return n
}

func (u *unpickler) text(op byte) error {
	size := uint64(4) // of the length: X, T, B
	switch op {
	case 0x8c, 'U', 'C':
		size = 1
	case 0x8d, 0x8e:
		size = 8
	}
	b, err := u.sized(size)
	if err != nil {
		return err
	}
	switch op {
	case 'X', 0x8c, 0x8d, 'U', 'T': // U and T are Python 2 strings: torch reads them as text
		if !utf8.Valid(b) {
			return fmt.Errorf("text %.40q is not UTF-8", b)
		}
		u.push(string(b))
	default:
		u.push(slices.Clone(b))
	}
	return nil
}

func (u *unpickler) container(op byte) error {
	var items tuple
	var err error
	switch op {
	case '}':
		u.push(&dict{})
		return nil
	case ']':
		u.push(&list{})
		return nil
	case ')':
		u.push(tuple{})
		return nil
	case 0x85, 0x86, 0x87:
		items, err = u.popN(int(op - 0x84))
	case 'a':
		items, err = u.popN(1)
	case 's':
		items, err = u.popN(2)
	default:
		items, err = u.popMark()
	}
	if err != nil {
		return err
	}
	switch op {
	case 't', 0x85, 0x86, 0x87:
		u.push(items)
	case 'l':
		u.push(&list{items})
	case 'a', 'e':
		l, ok := u.top().(*list)
		if !ok {
			return fmt.Errorf("appends to %T, expected a list", u.top())
		}
		l.items = append(l.items, items...)
	case 'd', 's', 'u':
		d, ok := u.top().(*dict)
		if op == 'd' {
			d, ok = &dict{}, true
			u.push(d)
		}
		if !ok {
			return fmt.Errorf("sets items of %T, expected a dict", u.top())
		}
		if len(items)%2 != 0 {
			return errors.New("a key without a value")
		}
		for i := 0; i < len(items); i += 2 {
			d.set(items[i], items[i+1])
		}
	}
	return nil
}
