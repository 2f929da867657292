package checkpoint

import (
	"archive/zip"
	"encoding/json"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What is wrong with a file is said with the file, the tensor and what was expected or found.
func TestErrorsNameFileAndTensor(t *testing.T) {
	safetensors := func(path string) error { _, err := OpenSafetensors(path); return err }
	pth := func(path string) error { _, err := OpenPTH(path); return err }
	gguf := func(path string) error { _, err := OpenGGUF(path); return err }
	four := map[string][]byte{"0": make([]byte, 16)}
	for _, c := range []struct {
		name string
		open func(string) error
		data []byte
		want []string
	}{
		{"safetensors size", safetensors, file(`{"net.w":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, 4), []string{"net.w", "[0 4]", "F32 [2] needs 8"}},
		{"safetensors cut", safetensors, file(`{"net.w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 4), []string{"net.w", "0 to 8", "the file has 4", "truncated"}},
		{"safetensors overlap", safetensors, file(`{"net.w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"net.b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}}`, 3), []string{"net.w", "net.b", "overlap at byte 1"}},
		{"safetensors twice", safetensors, file(`{"net.w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"net.w":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}`, 0), []string{`"net.w" appears twice`}},
		{"safetensors dtype", safetensors, file(`{"net.w":{"dtype":"F8_E4M3","shape":[1],"data_offsets":[0,1]}}`, 1), []string{"net.w", `dtype "F8_E4M3" is not known`}},
		{"safetensors huge header", safetensors, []byte("\xff\xff\xff\xff\xff\xff\xff\x7f{}"), []string{"header length 9223372036854775807", "at most 100000000"}},
		{"pth calls", pth, torchZip(t, "\x80\x02cposix\nsystem\nX\x02\x00\x00\x00ls\x85R.", nil, zip.Store), []string{`"posix.system" is not admitted`, "only tensors and plain containers"}},
		{"legacy pth calls", pth, []byte(string(legacyMagic) + "\x80\x02M\xe9\x03.\x80\x02}X\x0d\x00\x00\x00little_endian\x88s.\x80\x02cbuiltins\nexec\nX\x01\x00\x00\x00a\x85R."), []string{`"builtins.exec" is not admitted`}},
		{"pth stride", pth, torchZip(t, one(4, 0, []int{2, 2}, []int{3, 1}), four, zip.Store), []string{"tensor x", "[2 2]", "[3 1]", "beyond its storage of 4"}},
		{"pth cut", pth, torchZip(t, one(5, 0, []int{4}, []int{1}), four, zip.Store), []string{`storage "0" needs 20 bytes`, "the file has 16"}},
		{"gguf cut", gguf, newGGUF(3, 1, 0).tensor("net.w", 0, 32, 4).data(40), []string{"net.w", "16 bytes at 32", "the file has 40"}},
		{"gguf overlap", gguf, newGGUF(3, 2, 0).tensor("net.w", 0, 0, 16).tensor("net.b", 0, 32, 4).data(64), []string{"net.w", "net.b", "overlap"}},
		{"gguf type", gguf, newGGUF(3, 1, 0).tensor("net.w", 12, 0, 256).data(256), []string{"net.w", "type 12", "F32, F16, BF16, Q8_0, Q4_0 and Q4_1"}},
		{"safetensors begin", safetensors, file(`{"net.w":{"dtype":"U8","shape":[2],"data_offsets":[900,902]}}`, 2), []string{"net.w", "900 to 902", "the file has 2"}},
		{"safetensors far begin", safetensors, file(`{"net.w":{"dtype":"U8","shape":[0],"data_offsets":[9223372036854775807,9223372036854775807]}}`, 0), []string{"net.w", "9223372036854775807", "the file has 0"}},
		{"safetensors negative begin", safetensors, file(`{"net.w":{"dtype":"U8","shape":[2],"data_offsets":[-1,1]}}`, 1), []string{"net.w", "[-1 1]", "expected [begin, end]"}},
		{"safetensors begin too large", safetensors, file(`{"net.w":{"dtype":"U8","shape":[1],"data_offsets":[18446744073709551615,18446744073709551616]}}`, 1), []string{"net.w", "data_offsets"}},
		{"gguf string", gguf, newGGUF(3, 0, 1).text("general.name").u32(8).u64(1 << 40).u64(0).b, []string{`"general.name"`, "needs 1099511627776 bytes", "8 are left"}},
		{"gguf string of the largest length", gguf, newGGUF(3, 0, 1).text("general.name").u32(8).u64(math.MaxUint64).u64(0).b, []string{`"general.name"`, "needs 18446744073709551615 bytes"}},
		{"gguf key", gguf, newGGUF(3, 0, 1).u64(1 << 62).u64(0).b, []string{"needs 4611686018427387904 bytes"}},
		{"gguf array", gguf, newGGUF(3, 0, 1).text("scores").u32(9).u32(6).u64(1 << 61).u64(0).b, []string{`"scores"`, "an array of 2305843009213693952 elements in 8 bytes"}},
		{"gguf array of strings", gguf, newGGUF(3, 0, 1).text("tokens").u32(9).u32(8).u64(1 << 40).u64(0).b, []string{`"tokens"`, "an array of 1099511627776 elements in 8 bytes"}},
		{"gguf string in an array", gguf, newGGUF(3, 0, 1).text("tokens").u32(9).u32(8).u64(2).text("a").u64(1 << 40).u64(0).b, []string{`"tokens"`, "needs 1099511627776 bytes"}},
		{"gguf name", gguf, newGGUF(3, 1, 0).u64(1 << 40).u64(0).u64(0).b, []string{"tensor list", "needs 1099511627776 bytes"}},
		{"gguf twice", gguf, newGGUF(3, 2, 0).tensor("net.w", 0, 0, 4).tensor("net.w", 0, 32, 4).data(64), []string{`tensor "net.w" appears twice`}},
		{"gguf offset", gguf, newGGUF(3, 1, 0).tensor("net.w", 0, math.MaxUint64, 4).data(64), []string{"net.w"}},
		{"gguf count", gguf, newGGUF(3, 1<<60, 0).b, []string{"1152921504606846976 tensors in 0 bytes"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "weights.bin")
			if err := os.WriteFile(path, c.data, 0o600); err != nil {
				t.Fatal(err)
			}
			err := c.open(path)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range append(c.want, path) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want one with %q", err, want)
				}
			}
		})
	}
}

// Of a folder: shards that are not there or hold other tensors than the index says, and tensors that are in two files.
func TestFolderErrorsNameFileAndTensor(t *testing.T) {
	const w = `{"net.w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`
	for _, c := range []struct {
		name  string
		index map[string]string // nil: none
		files map[string][]byte
		want  []string
	}{
		{"nothing", nil, nil, []string{"neither model.safetensors nor model.safetensors.index.json"}},
		{"no shard", map[string]string{"net.w": "1.safetensors", "net.b": "2.safetensors"}, nil, []string{"2 of 2 shards are missing", "1.safetensors", "2.safetensors"}},
		{"a shard", map[string]string{"net.w": "1.safetensors", "net.b": "2.safetensors"}, map[string][]byte{"1.safetensors": file(w, 2)}, []string{"1 of 2 shards are missing", "2.safetensors"}},
		{"a tensor", map[string]string{"net.w": "1.safetensors", "net.b": "1.safetensors"}, map[string][]byte{"1.safetensors": file(w, 2)}, []string{"1 tensors of the index are in no shard", "net.b (expected in 1.safetensors)"}},
		{"twice", map[string]string{"net.w": "1.safetensors", "net.b": "2.safetensors"}, map[string][]byte{"1.safetensors": file(w, 2),
			"2.safetensors": file(`{"net.b":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"net.w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, 2)},
			[]string{"tensor net.w is both in", "1.safetensors", "2.safetensors"}},
		{"a cut shard", map[string]string{"net.w": "1.safetensors"}, map[string][]byte{"1.safetensors": file(w, 1)}, []string{"1.safetensors", "net.w", "truncated"}},
		{"a shard outside", map[string]string{"net.w": "../1.safetensors"}, nil, []string{`"../1.safetensors"`, "expected a file in the folder"}},
		{"no map", map[string]string{}, nil, []string{"weight_map is empty"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if c.index != nil {
				data, err := json.Marshal(map[string]any{"weight_map": c.index})
				if err != nil {
					t.Fatal(err)
				}
				c.files = maps.Clone(c.files)
				if c.files == nil {
					c.files = map[string][]byte{}
				}
				c.files["model.safetensors.index.json"] = data
			}
			for name, data := range c.files {
				if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			f, err := OpenFolder(dir)
			if err == nil {
				f.Close()
				t.Fatal("accepted")
			}
			for _, want := range append(c.want, dir) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want one with %q", err, want)
				}
			}
		})
	}
}
