package checkpoint

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/testdata"
)

func TestGoldenPTHOdd(t *testing.T) {
	dir := testdata.Golden(t, "points")
	want, _ := testdata.Tensors(t, filepath.Join(dir, "odd_expected.safetensors"))
	for _, name := range []string{"odd_zip.pth", "odd_legacy.pth"} {
		p, err := OpenPTH(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]*Tensor{}
		for _, x := range p.StateDict() {
			got[x.Name] = x
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d tensors, want %d", name, len(got), len(want))
		}
		for key, w := range want {
			x := got[key]
			if x == nil {
				t.Errorf("%s: %s is missing", name, key)
				continue
			}
			if string(x.DType) != w.DType || !bytes.Equal(x.Data, w.Data) || len(x.Shape) != len(w.Shape) {
				t.Errorf("%s: %s: %s %v, want %s %v, or other bytes", name, key, x.DType, x.Shape, w.DType, w.Shape)
			}
			if x.Offset >= 0 && x.Length > 0 {
				raw, _ := os.ReadFile(x.File)
				if !bytes.Equal(raw[x.Offset:x.Offset+x.Length], w.Data) {
					t.Errorf("%s: %s: Offset does not point at its bytes", name, key)
				}
			}
		}
		nested, _ := p.root.(*dict).get("nested").(*dict)
		if nested == nil {
			t.Fatalf("%s: no nested dict beside the tensors", name)
		}
		// Which values they are is the golden's affair; that they are read is not.
		if items, ok := nested.get("list").(*list); !ok || len(items.items) == 0 {
			t.Errorf("%s: the nested list is %v", name, nested.get("list"))
		}
		if _, ok := p.root.(*dict).get("epoch").(int64); !ok {
			t.Errorf("%s: epoch is %v", name, p.root.(*dict).get("epoch"))
		}
		p.Close()
	}
}

func TestGoldenPTHMink(t *testing.T) {
	dir := testdata.Golden(t, "points")
	want, _ := testdata.Tensors(t, filepath.Join(dir, "mink_tiny.safetensors"))
	for _, name := range []string{"mink_tiny_zip.pth", "mink_tiny_legacy.pth"} {
		p, err := OpenPTH(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		matched := 0
		for _, x := range p.StateDict() {
			w, ok := want["w."+x.Name]
			switch {
			case ok && bytes.Equal(w.Data, x.Data):
				matched++
			case ok:
				t.Errorf("%s: %s differs", name, x.Name)
			case !strings.HasSuffix(x.Name, "num_batches_tracked"):
				t.Errorf("%s: %s was not expected", name, x.Name)
			}
		}
		stored := 0
		for key := range want {
			if strings.HasPrefix(key, "w.") {
				stored++
			}
		}
		if matched != stored || stored == 0 {
			t.Errorf("%s: %d tensors equal, want %d", name, matched, stored)
		}
		p.Close()
	}
}

// torchZip wraps a pickle and storages as torch.save does.
func torchZip(t testing.TB, pickle string, storages map[string][]byte, method uint16) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := zip.NewWriter(&buf)
	put := func(name string, data []byte) {
		e, err := w.CreateHeader(&zip.FileHeader{Name: name, Method: method})
		if err == nil {
			_, err = e.Write(data)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	put("a/data.pkl", []byte(pickle))
	for key, data := range storages {
		put("a/data/"+key, data)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// one pickles {"x": tensor} of a float storage "0" with numel elements.
func one(numel, offset int, shape, stride []int) string {
	num := func(n int) string { return "J" + string(binary.LittleEndian.AppendUint32(nil, uint32(n))) }
	tup := func(v []int) string {
		s := "("
		for _, n := range v {
			s += num(n)
		}
		return s + "t"
	}
	return "\x80\x02}X\x01\x00\x00\x00xctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" +
		num(numel) + "tQ" + num(offset) + tup(shape) + tup(stride) + "\x89NtRs."
}

func TestPTHRefuses(t *testing.T) {
	four := map[string][]byte{"0": make([]byte, 16)}
	legacy := string(legacyMagic)
	for _, c := range []struct {
		name string
		data []byte
		want string
	}{
		{"empty", nil, "neither"},
		{"text", []byte("hello"), "neither"},
		{"os.system", torchZip(t, "\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.", nil, zip.Store), `"posix.system" is not admitted`},
		{"stack global", torchZip(t, "\x80\x04\x8c\x08builtins\x8c\x04eval\x93.", nil, zip.Store), `"builtins.eval" is not admitted`},
		{"new object", torchZip(t, "\x80\x02ctorch\nSize\n)\x81.", nil, zip.Store), "not admitted"},
		{"instance", torchZip(t, "\x80\x02(ios\nsystem\n.", nil, zip.Store), "not admitted"},
		{"storage as function", torchZip(t, "\x80\x02ctorch\nFloatStorage\n)R.", nil, zip.Store), "no function"},
		{"calls a value", torchZip(t, "\x80\x02K\x01)R.", nil, zip.Store), "no function"},
		{"protocol", torchZip(t, "\x80\x09.", nil, zip.Store), "protocol 9"},
		{"stack", torchZip(t, "\x80\x020.", nil, zip.Store), "stack is empty"},
		{"long text", torchZip(t, "\x80\x02X\xff\xff\xff\xffab.", nil, zip.Store), "ends in the middle"},
		{"no stop", torchZip(t, "\x80\x02}", nil, zip.Store), "ends in the middle"},
		{"not a dict", torchZip(t, "\x80\x02K\x01.", nil, zip.Store), "expected a dict"},
		{"no tensor", torchZip(t, "\x80\x02}.", nil, zip.Store), "no tensor"},
		{"compressed", torchZip(t, one(4, 0, []int{4}, []int{1}), four, zip.Deflate), "compressed"},
		{"no storage", torchZip(t, one(4, 0, []int{4}, []int{1}), nil, zip.Store), `storage "0" is not in the file`},
		{"short storage", torchZip(t, one(5, 0, []int{4}, []int{1}), four, zip.Store), "the file has 16"},
		{"too many", torchZip(t, one(4, 1, []int{4}, []int{1}), four, zip.Store), "beyond its storage"},
		{"stride", torchZip(t, one(4, 0, []int{2, 2}, []int{3, 1}), four, zip.Store), "beyond its storage"},
		{"negative stride", torchZip(t, one(4, 3, []int{4}, []int{-1}), four, zip.Store), "beyond its storage"},
		{"negative offset", torchZip(t, one(4, -1, []int{1}, []int{1}), four, zip.Store), "offset -1"},
		{"repeats", torchZip(t, one(4, 0, []int{1 << 20, 1 << 20}, []int{0, 0}), four, zip.Store), "repeats"},
		{"legacy cut", []byte(legacy), "ends in the middle"},
		{"legacy protocol", []byte(legacy + "\x80\x02K\x05."), "protocol 5"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := ParsePTH(c.data)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
	if p, err := ParsePTH(torchZip(t, one(4, 1, []int{3}, []int{1}), four, zip.Store)); err != nil || len(p.StateDict()) != 1 {
		t.Errorf("the good file is refused: %v", err)
	}
}

// A few bytes that name a remembered value again and again must cost no more than the file: containers that double, a list that
// holds itself, and calls that copy.
func TestPickleBombs(t *testing.T) {
	text := func(s string) string { return "X" + string(binary.LittleEndian.AppendUint32(nil, uint32(len(s)))) + s }
	double := "()q\x00" + strings.Repeat("h\x00h\x00\x86q\x00", 60) + "1h\x00" // 2^60 empty tuples, in 300 bytes
	itself := "]q\x00h\x00a0h\x00q\x00"
	long := text(strings.Repeat("x", 1<<16)) + "q\x00"
	pairs := "]q\x00(" + strings.Repeat("))\x86", 1<<14) + "eq\x00"
	for _, c := range []struct{ name, pickle, want string }{
		{"doubled as a new object", "\x80\x02" + double + ")\x81.", "an object of a tuple of 2 is not admitted"},
		{"doubled as a storage", "\x80\x02(" + text("storage") + double + "h\x00h\x00h\x00tQ.", "storage a tuple of 2 of class a tuple of 2"},
		{"doubled as an offset", "\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") + "K\x04tQ" + double + "h\x00h\x00tR.", "offset a tuple of 2"},
		{"doubled as a name", "\x80\x02}" + double + one(4, 0, []int{4}, []int{1})[9:], "a tuple of 2"},
		{"a list in itself", "\x80\x02" + itself + ")\x81.", "an object of a list of"},
		{"copied text", "\x80\x02" + long + strings.Repeat("c_codecs\nencode\nh\x00"+text("latin1")+"\x86R", 1000) + ".", "_codecs encode: calls copy more"},
		{"copied items", "\x80\x02" + pairs + strings.Repeat("ccollections\nOrderedDict\nh\x00\x85R", 1000) + ".", "OrderedDict: calls copy more"},
		{"many dimensions", "\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((" + text("storage") + "ctorch\nFloatStorage\n" + text("0") + text("cpu") + "K\x04tQK\x00(" + strings.Repeat("K\x01", 65) + "t)tR.", "expected whole numbers"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := torchZip(t, c.pickle, map[string][]byte{"0": make([]byte, 16)}, zip.Store)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := ParsePTH(data)
			runtime.ReadMemStats(&after)
			if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 500 {
				t.Errorf("error %.600v, want one with %q", err, c.want)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20+64*uint64(len(data)) {
				t.Errorf("%d bytes allocated for a file of %d", n, len(data))
			}
		})
	}
}

// Every cut of a good file is an error or a shorter good one, never a panic.
func TestGoldenPTHTruncated(t *testing.T) {
	dir := testdata.Golden(t, "points")
	for _, name := range []string{"odd_zip.pth", "odd_legacy.pth"} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		for n := range data {
			if _, err := ParsePTH(data[:n]); err == nil {
				t.Errorf("%s cut to %d of %d bytes was accepted", name, n, len(data))
			}
		}
	}
}

func FuzzPTH(f *testing.F) {
	f.Add(torchZip(f, one(4, 0, []int{2, 2}, []int{1, 2}), map[string][]byte{"0": make([]byte, 16)}, zip.Store))
	f.Add(append(bytes.Clone(legacyMagic), "\x80\x02M\xe9\x03.\x80\x02}X\x0d\x00\x00\x00little_endian\x88s."...))
	if dir := os.Getenv("STLLM_GOLDEN"); dir != "" {
		for _, name := range []string{"odd_zip.pth", "odd_legacy.pth"} {
			if data, err := os.ReadFile(filepath.Join(dir, "points", name)); err == nil {
				f.Add(data)
			}
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := ParsePTH(data)
		if err != nil {
			return
		}
		for _, x := range p.StateDict() {
			if int64(len(x.Data)) != x.Length || x.Length > int64(len(data)) {
				t.Fatalf("%s: %d bytes of %d", x.Name, len(x.Data), len(data))
			}
		}
	})
}

func FuzzPickle(f *testing.F) {
	f.Add([]byte(one(4, 0, []int{2, 2}, []int{1, 2})))
	f.Add([]byte("\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00]\x94(K\x01e."))
	f.Fuzz(func(t *testing.T, data []byte) {
		unpickle(data, func(id any) (*storage, error) {
			s, _, err := persistent(id)
			return s, err
		})
	})
}
