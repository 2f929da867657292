package checkpoint

import (
	"archive/zip"
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
