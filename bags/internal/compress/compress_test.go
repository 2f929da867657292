package compress

import (
	"bytes"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

func packLZ4(t testing.TB, data []byte) []byte {
	var b bytes.Buffer
	w := lz4.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func packZstd(t testing.TB, data []byte) []byte {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	return w.EncodeAll(data, nil)
}

func TestDecode(t *testing.T) {
	inputs := map[string][]byte{
		"empty": {},
		"short": []byte("bags"),
		"zeros": make([]byte, 6<<20),
		"ramp":  bytes.Repeat([]byte("0123456789abcdef"), 60_000),
	}
	var d Decoder
	for name, data := range inputs {
		for format, packed := range map[string][]byte{"none": data, "lz4": packLZ4(t, data), "zstd": packZstd(t, data)} {
			for _, size := range []int64{int64(len(data)), -1} {
				got, err := d.Decode(nil, format, packed, size)
				if err != nil || !bytes.Equal(got, data) {
					t.Errorf("%s %s declared %d: %d bytes, %v", format, name, size, len(got), err)
				}
			}
			for _, size := range []int64{int64(len(data)) + 1, int64(len(data)) - 1} {
				if size < 0 {
					continue
				}
				if _, err := d.Decode(nil, format, packed, size); err == nil {
					t.Errorf("%s %s: %d bytes were taken for %d", format, name, len(data), size)
				}
			}
		}
	}
}

func TestDecodeCut(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdefghijklmnopqrstuvwxyz"), 60_000)
	for i := range data {
		data[i] ^= byte(i*i>>9 + i>>3) // so that it fills several blocks
	}
	var d Decoder
	for format, packed := range map[string][]byte{"lz4": packLZ4(t, data), "zstd": packZstd(t, data)} {
		got, err := d.Decode(nil, format, packed[:len(packed)/2], int64(len(data)))
		if err == nil {
			t.Errorf("%s: cut data were taken", format)
		}
		if !bytes.HasPrefix(data, got) {
			t.Errorf("%s: what came before the cut is wrong", format)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	var d Decoder
	if _, err := d.Decode(nil, "snappy", nil, 0); err == nil || !strings.Contains(err.Error(), `"snappy"`) {
		t.Errorf("unknown format: %v", err)
	}
	// A size of 1 GiB for 40 bytes must not be allocated.
	junk := []byte("BZh91AY&SY, and then nothing of the kind")
	for _, format := range []string{"lz4", "bz2", "zstd"} {
		for _, packed := range [][]byte{junk, packLZ4(t, junk), packZstd(t, junk)} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := d.Decode(nil, format, packed, MaxSize)
			runtime.ReadMemStats(&after)
			if err == nil {
				t.Errorf("%s: %d bytes were taken for 1 GiB", format, len(packed))
			}
			if used := after.TotalAlloc - before.TotalAlloc; used > 32<<20 {
				t.Errorf("%s: allocated %d bytes for an input of %d", format, used, len(packed))
			}
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("lz4", packLZ4(f, []byte("bags bags bags")), int64(14))
	f.Add("zstd", packZstd(f, []byte("bags bags bags")), int64(14))
	f.Add("zstd", packZstd(f, make([]byte, 1<<20)), int64(-1))
	f.Add("bz2", []byte("BZh91AY&SY"), int64(100))
	f.Fuzz(func(t *testing.T, format string, packed []byte, size int64) {
		if size > 1<<20 {
			size = 1 << 20
		}
		var d Decoder
		out, err := d.Decode(nil, format, packed, size)
		if err == nil && size >= 0 && int64(len(out)) != size {
			t.Errorf("%d bytes, %d declared", len(out), size)
		}
	})
}
