package points

import (
	"bytes"
	"encoding/binary"
	"math"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/testdata"
)

// numpyVoxels is the reference's own way (floor, FNV-1 over columns, np.unique), timed in Python: best of three, in ns.
const numpyVoxels = `
import sys, time, numpy as np
p = np.frombuffer(sys.stdin.buffer.read(), np.float64).reshape(-1, 3)
best = 1e9
for _ in range(3):
    t = time.perf_counter()
    c = np.floor(p * (1 / 0.06)).astype(np.int64); c -= c.min(0)
    k = np.full(len(c), 14695981039346656037, np.uint64)
    for a in range(3):
        k *= np.uint64(1099511628211); k ^= c[:, a].astype(np.uint64)
    _, index, inverse = np.unique(k, return_index=True, return_inverse=True); v = c[index]
    best = min(best, time.perf_counter() - t)
print(len(v), int(best * 1e9))
`

// BenchmarkVoxelize1M reports, where a Python with NumPy is found (STLLM_PYTHON or python3), how long the reference's way
// takes there in the same run.
func BenchmarkVoxelize1M(b *testing.B) {
	xyz := testdata.Room(1_000_000)
	var n int
	for b.Loop() {
		v, err := Voxelize(xyz, 0.06)
		if err != nil {
			b.Fatal(err)
		}
		n = v.Len()
	}
	ours := float64(b.Elapsed().Nanoseconds()) / float64(b.N)
	python := os.Getenv("STLLM_PYTHON")
	if python == "" {
		python = "python3"
	}
	raw := make([]byte, 0, 8*len(xyz))
	for _, v := range xyz {
		raw = binary.LittleEndian.AppendUint64(raw, math.Float64bits(v))
	}
	cmd := exec.Command(python, "-c", numpyVoxels)
	cmd.Stdin = bytes.NewReader(raw)
	out, err := cmd.Output()
	if err != nil {
		b.Logf("no NumPy to compare with (%s: %v)", python, err)
		return
	}
	fields := strings.Fields(string(out))
	voxels, nanos := 0, 0.0
	if len(fields) == 2 {
		for _, d := range fields[0] {
			voxels = 10*voxels + int(d-'0')
		}
		for _, d := range fields[1] {
			nanos = 10*nanos + float64(d-'0')
		}
	}
	if voxels != n {
		b.Fatalf("NumPy finds %d voxels, we %d (its output: %q)", voxels, n, out)
	}
	b.ReportMetric(nanos/1e6, "numpy-ms")
	b.ReportMetric(nanos/ours, "x-numpy")
}

func BenchmarkTables(b *testing.B) {
	v, err := Voxelize(testdata.Room(1_000_000), 0.06)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if _, err := NewTables(v.Coords, MinkUNetLevels); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(v.Len()), "voxels")
}

func room32(n int) []float32 {
	var out []float32
	for _, v := range testdata.Room(n) {
		out = append(out, float32(v))
	}
	return out
}

func BenchmarkSampling40k(b *testing.B) {
	xyz := room32(40_000)
	b.Run("farthest", func(b *testing.B) {
		for b.Loop() {
			if _, err := FarthestPoints(xyz, 2048); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("farthest-plain", func(b *testing.B) { // the peer: the kernel on one core
		for b.Loop() {
			plainFarthest(xyz, 2048)
		}
	})
	index, err := FarthestPoints(xyz, 2048)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("ball", func(b *testing.B) {
		for b.Loop() {
			if _, err := BallQuery(xyz, Pick(xyz, index), 0.2, 64); err != nil {
				b.Fatal(err)
			}
		}
	})
}
