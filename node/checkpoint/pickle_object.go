package checkpoint

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strings"
)

// storageTypes are torch's typed storages by class name.
var storageTypes = map[global]DType{
	"torch DoubleStorage": F64, "torch FloatStorage": F32, "torch HalfStorage": F16, "torch BFloat16Storage": BF16,
	"torch LongStorage": I64, "torch IntStorage": I32, "torch ShortStorage": I16, "torch CharStorage": I8,
	"torch ByteStorage": U8, "torch BoolStorage": Bool,
}

// maxRank is the most dimensions that a torch tensor has.
const maxRank = 64

// callables are the globals that may be called (see call).
var callables = map[global]bool{
	"collections OrderedDict": true, "torch Size": true,
	"torch._utils _rebuild_tensor": true, "torch._utils _rebuild_tensor_v2": true, "torch._utils _rebuild_parameter": true,
	"numpy dtype": true, "numpy.core.multiarray scalar": true, "numpy._core.multiarray scalar": true, "_codecs encode": true,
}

// storage is the memory behind one or more tensors.
type storage struct {
	dtype DType
	key   string
	numel int64
	first int64 // element of the underlying file storage at which it begins (views in the legacy format)
}

// pickledTensor is a view of a storage: offset and strides in elements.
type pickledTensor struct {
	storage *storage
	offset  int64
	shape   []int64
	stride  []int64
}

func (u *unpickler) object(op byte) error {
	switch op {
	case 'c':
		module, err := u.line()
		if err != nil {
			return err
		}
		name, err := u.line()
		if err != nil {
			return err
		}
		return u.pushGlobal(module, name)
	case 0x93: // STACK_GLOBAL
		args, err := u.popN(2)
		if err != nil {
			return err
		}
		module, ok := args[0].(string)
		name, ok2 := args[1].(string)
		if !ok || !ok2 {
			return errors.New("a global's name is not text")
		}
		return u.pushGlobal(module, name)
	case 'Q':
		id, err := u.pop()
		if err != nil {
			return err
		}
		if u.load == nil {
			return errors.New("a storage is not expected here")
		}
		s, err := u.load(id)
		if err != nil {
			return err
		}
		u.push(s)
	case 'R':
		args, err := u.popN(2)
		if err != nil {
			return err
		}
		f, ok := args[0].(global)
		if !ok {
			return fmt.Errorf("calls %T, which is no function", args[0])
		}
		params, ok := args[1].(tuple)
		if !ok {
			return fmt.Errorf("calls %s with %T, expected a tuple", f, args[1])
		}
		if u.room -= copied(f, params); u.room < 0 {
			return fmt.Errorf("%s: calls copy more than the whole pickle holds", f)
		}
		v, err := call(f, params)
		if err != nil {
			return fmt.Errorf("%s: %w", f, err)
		}
		u.push(v)
	case 'b': // BUILD: attributes of an OrderedDict (_metadata) or the state of a numpy type; neither is needed
		if _, err := u.pop(); err != nil {
			return err
		}
		switch o := u.top().(type) {
		case *dict, numpyType:
		default:
			return fmt.Errorf("sets the state of %T, which is not admitted", o)
		}
	}
	return nil
}

// copied is how many values or bytes a call takes over from its arguments: these may stand in the pickle once and be named from
// its memo in any number of calls.
func copied(f global, args tuple) int {
	if len(args) == 0 {
		return 0
	}
	switch f {
	case "collections OrderedDict":
		if l, ok := args[0].(*list); ok {
			return 4 * len(l.items) // a written pair has five bytes or more
		}
	case "_codecs encode":
		if s, ok := args[0].(string); ok {
			return len(s)
		}
	}
	return 0
}

// describe names a value in an error. What containers hold is not written out: a few bytes of a pickle can nest a container in
// itself, or as often as doubling forty times gives.
func describe(v any) string {
	switch x := v.(type) {
	case nil, bool, int64, float64:
		return fmt.Sprint(x)
	case global:
		return fmt.Sprintf("%.80q", strings.ReplaceAll(string(x), " ", "."))
	case string:
		return fmt.Sprintf("%.80q", x)
	case tuple:
		return fmt.Sprintf("a tuple of %d", len(x))
	case *list:
		return fmt.Sprintf("a list of %d", len(x.items))
	case *dict:
		return fmt.Sprintf("a dict of %d", len(x.keys))
	}
	return fmt.Sprintf("a %T", v)
}

func (u *unpickler) pushGlobal(module, name string) error {
	g := global(module + " " + name)
	if _, ok := storageTypes[g]; !ok && !callables[g] {
		return fmt.Errorf("global %q is not admitted: only tensors and plain containers are read", strings.ReplaceAll(string(g), " ", "."))
	}
	u.push(g)
	return nil
}

func call(f global, args tuple) (any, error) {
	switch f {
	case "collections OrderedDict":
		return orderedDict(args)
	case "torch Size":
		if len(args) == 1 {
			if t, ok := args[0].(tuple); ok {
				return t, nil
			}
		}
	case "torch._utils _rebuild_tensor", "torch._utils _rebuild_tensor_v2":
		return rebuildTensor(args)
	case "torch._utils _rebuild_parameter":
		if len(args) > 0 {
			if t, ok := args[0].(*pickledTensor); ok {
				return t, nil
			}
		}
	case "numpy dtype":
		if len(args) > 0 {
			if code, ok := args[0].(string); ok {
				return numpyType{code}, nil
			}
		}
	case "numpy.core.multiarray scalar", "numpy._core.multiarray scalar":
		return numpyScalar(args)
	case "_codecs encode":
		return latin1(args)
	default:
		return nil, errors.New("is no function")
	}
	return nil, fmt.Errorf("unexpected arguments (%d)", len(args))
}

func orderedDict(args tuple) (any, error) {
	d := &dict{}
	if len(args) == 0 {
		return d, nil
	}
	pairs, ok := args[0].(*list)
	if !ok || len(args) > 1 {
		return nil, fmt.Errorf("unexpected arguments (%d)", len(args))
	}
	for _, item := range pairs.items {
		var key, value any
		switch p := item.(type) {
		case tuple:
			if len(p) != 2 {
				return nil, fmt.Errorf("an item of %d values, expected 2", len(p))
			}
			key, value = p[0], p[1]
		case *list:
			if len(p.items) != 2 {
				return nil, fmt.Errorf("an item of %d values, expected 2", len(p.items))
			}
			key, value = p.items[0], p.items[1]
		default:
			return nil, fmt.Errorf("an item is %T, expected a pair", item)
		}
		d.set(key, value)
	}
	return d, nil
}

func rebuildTensor(args tuple) (any, error) {
	if len(args) < 4 {
		return nil, fmt.Errorf("%d arguments, expected storage, offset, size and stride", len(args))
	}
	s, ok := args[0].(*storage)
	if !ok {
		return nil, fmt.Errorf("the first argument is %T, expected a storage", args[0])
	}
	offset, ok := args[1].(int64)
	shape, err := int64s(args[2])
	if err != nil || !ok {
		return nil, fmt.Errorf("offset %s, size %s: expected whole numbers", describe(args[1]), describe(args[2]))
	}
	stride, err := int64s(args[3])
	if err != nil || len(stride) != len(shape) {
		return nil, fmt.Errorf("size of %d dimensions with stride %s", len(shape), describe(args[3]))
	}
	return &pickledTensor{storage: s, offset: offset, shape: shape, stride: stride}, nil
}

func int64s(v any) ([]int64, error) {
	t, ok := v.(tuple)
	if !ok {
		return nil, fmt.Errorf("%T, expected a tuple", v)
	}
	if len(t) > maxRank {
		return nil, fmt.Errorf("%d dimensions, at most %d", len(t), maxRank)
	}
	out := make([]int64, len(t))
	for i := range t {
		if out[i], ok = t[i].(int64); !ok {
			return nil, fmt.Errorf("%T, expected a whole number", t[i])
		}
	}
	return out, nil
}

func latin1(args tuple) (any, error) {
	if len(args) == 2 && args[1] == "latin1" {
		if s, ok := args[0].(string); ok {
			out := make([]byte, 0, len(s))
			for _, r := range s {
				if r > 255 {
					return nil, fmt.Errorf("%U is not latin1", r)
				}
				out = append(out, byte(r))
			}
			return out, nil
		}
	}
	return nil, errors.New("only text to latin1 is admitted")
}

func numpyScalar(args tuple) (any, error) {
	if len(args) == 2 {
		t, ok := args[0].(numpyType)
		b, ok2 := args[1].([]byte)
		le := binary.LittleEndian
		switch {
		case !ok || !ok2:
		case t.code == "f8" && len(b) == 8:
			return math.Float64frombits(le.Uint64(b)), nil
		case t.code == "f4" && len(b) == 4:
			return float64(math.Float32frombits(le.Uint32(b))), nil
		case t.code == "i8" && len(b) == 8:
			return int64(le.Uint64(b)), nil
		case t.code == "i4" && len(b) == 4:
			return int64(int32(le.Uint32(b))), nil
		case t.code == "b1" && len(b) == 1:
			return b[0] != 0, nil
		default:
			return nil, fmt.Errorf("numpy type %q with %d bytes is not admitted", t.code, len(b))
		}
	}
	return nil, errors.New("expected a numpy type and its bytes")
}
