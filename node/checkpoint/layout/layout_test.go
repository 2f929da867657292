package layout

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/testdata"
)

func byName(t *testing.T, c *config.Config) map[string]checkpoint.TensorSpec {
	t.Helper()
	specs, err := Tensors(c)
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]checkpoint.TensorSpec{}
	for _, s := range specs {
		if _, twice := m[s.Name]; twice {
			t.Errorf("%s is listed twice", s.Name)
		}
		m[s.Name] = s
	}
	return m
}

func TestGoldenPublished(t *testing.T) {
	var golden struct {
		Parameters int64              `json:"parameters"`
		Tensors    map[string][]int64 `json:"tensors"`
	}
	testdata.JSON(t, testdata.Golden(t, "core", "published_tensors.json"), &golden)
	got := byName(t, config.Default())
	total, points := int64(0), 0
	for name, s := range got {
		if strings.HasPrefix(name, PointEncoder) {
			points++
			continue
		}
		want, ok := golden.Tensors[name]
		if !ok {
			t.Errorf("%s is not in the published checkpoint", name)
		} else if !slices.Equal(want, s.Shape) {
			t.Errorf("%s is %v, published %v", name, s.Shape, want)
		}
		n := int64(1)
		for _, d := range s.Shape {
			n *= d
		}
		total += n
	}
	for name := range golden.Tensors {
		if _, ok := got[name]; !ok {
			t.Errorf("%s is missing", name)
		}
	}
	// Buffers of BatchNorm are no parameters: two vectors and a counter for each of three norms.
	if buffers := int64(2*(64+128+768) + 3); total != golden.Parameters && total-buffers != golden.Parameters {
		t.Errorf("%d parameters, published %d", total, golden.Parameters)
	}
	if points != 289 {
		t.Errorf("%d tensors of the point encoder, want 289", points)
	}
}

func TestGoldenFolder(t *testing.T) {
	dir := testdata.Golden(t, "core", "model")
	c, err := config.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	f, err := checkpoint.OpenFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := Check(f, c)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Unexpected) > 0 || len(r.Wrong) > 0 {
		t.Errorf("unexpected %v, wrong %v", r.Unexpected, r.Wrong)
	}
	for _, name := range r.Missing { // the golden folder has no point encoder
		if !strings.HasPrefix(name, PointEncoder) {
			t.Errorf("%s is missing", name)
		}
	}
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "more") {
		t.Errorf("Err = %v", err)
	}
	for name, s := range byName(t, c) {
		if x, ok := f.Tensor(name); ok && x.DType != s.DType {
			t.Errorf("%s is %s, want %s", name, x.DType, s.DType)
		}
	}
	c.IntermediateSize++
	if r, err = Check(f, c); err != nil || len(r.Wrong) != 3*c.NumHiddenLayers {
		t.Errorf("another intermediate_size: %v, %v", r.Wrong, err)
	}
}

func TestGoldenMinkNames(t *testing.T) {
	p, err := checkpoint.OpenPTH(testdata.Golden(t, "points", "mink_tiny_zip.pth"))
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	c := config.Default()
	stored := map[string][]int64{}
	for _, x := range p.StateDict() {
		stored[x.Name] = x.Shape
	}
	width := func(name string) int {
		s := stored["net3d."+name]
		if len(s) == 0 {
			t.Fatalf("net3d.%s is not stored", name)
		}
		return int(s[len(s)-1])
	}
	e := &c.PointEncoderConfig
	e.Stem, c.PcdFeatureDim = width("conv0p1s1.kernel"), width("final.kernel")
	e.Encoder, e.Decoder = nil, nil
	for i := range 4 {
		e.Encoder = append(e.Encoder, width(fmt.Sprintf("block%d.0.conv2.kernel", i+1)))
		e.Decoder = append(e.Decoder, width(fmt.Sprintf("block%d.0.conv2.kernel", i+5)))
	}
	specs, err := PointEncoderSpecs(c)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]int64{}
	for _, s := range specs {
		want[s.Name] = s.Shape
	}
	for _, x := range p.StateDict() {
		if shape, ok := want[x.Name]; !ok || !slices.Equal(shape, x.Shape) {
			t.Errorf("%s is %v, listed %v", x.Name, x.Shape, shape)
		}
		delete(want, x.Name)
	}
	if len(want) > 0 {
		t.Errorf("listed and not stored: %v", want)
	}
}

func TestVariants(t *testing.T) {
	c := config.Nano(512, 1)
	nano := byName(t, c)
	if _, ok := nano["mlp_module.0.weight"]; ok {
		t.Error("our profile stores what nobody reads")
	}
	c.STLLM3D, c.TieWordEmbeddings = true, true
	direct := byName(t, c)
	for name := range direct {
		if strings.HasPrefix(name, "qformer.") || name == "lm_head.weight" {
			t.Errorf("STLLM-3D has %s", name)
		}
	}
	c = config.Default()
	c.PointEncoderConfig.Type, c.PcdFeatureDim, c.QFormerConfig.EncoderHiddenSize = config.MaskedTransformer, 256, 256
	if _, ok := byName(t, c)[PointEncoder+"detector.encoder.layers.2.linear1.weight"]; !ok {
		t.Error("the masked transformer's third layer is not listed")
	}
}

// A folder that says what is missing without naming hundreds of tensors.
func TestGoldenCheckpointCache(t *testing.T) {
	// The cache of the Hugging Face hub: a snapshot of links into blobs, found by refs/main.
	src := testdata.Golden(t, "core", "model")
	root := t.TempDir()
	snapshot, blobs := filepath.Join(root, "snapshots", "abc"), filepath.Join(root, "blobs")
	for _, dir := range []string{snapshot, blobs, filepath.Join(root, "refs")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "refs", "main"), []byte("abc\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(src)
	if err != nil {
		t.Fatal(err)
	}
	for i, e := range entries {
		blob := filepath.Join(blobs, string(rune('a'+i)))
		data, err := os.ReadFile(filepath.Join(src, e.Name()))
		if err == nil {
			err = os.WriteFile(blob, data, 0o600)
		}
		if err == nil {
			err = os.Symlink(filepath.Join("..", "..", "blobs", filepath.Base(blob)), filepath.Join(snapshot, e.Name()))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	f, err := checkpoint.OpenFolder(root)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if f.Dir != snapshot || filepath.Base(f.CommonDir()) != "blobs" {
		t.Errorf("folder %s, files below %s", f.Dir, f.CommonDir())
	}
	x, ok := f.Tensor("absent", "lm_head.weight")
	if !ok || filepath.Base(filepath.Dir(x.File)) != "blobs" {
		t.Errorf("lm_head.weight is in %v", x)
	}
}

// A file that is named for the point encoder holds all of it, and no other does.
func TestOpenPointWeights(t *testing.T) {
	c := config.PublishedTiny(64, 1)
	specs, err := Tensors(c)
	if err != nil {
		t.Fatal(err)
	}
	points, err := PointEncoderSpecs(c)
	if err != nil {
		t.Fatal(err)
	}
	folder := func(specs []checkpoint.TensorSpec) string {
		t.Helper()
		dir := t.TempDir()
		if err := checkpoint.WriteRandomFolder(t.Context(), dir, 1, specs, checkpoint.FolderOptions{}, nil); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	whole := folder(specs)
	without := folder(slices.DeleteFunc(slices.Clone(specs), func(s checkpoint.TensorSpec) bool { return strings.HasPrefix(s.Name, PointEncoder) }))
	file := func(specs []checkpoint.TensorSpec) string { return filepath.Join(folder(specs), "model.safetensors") }
	other := []checkpoint.TensorSpec{{Name: "w", DType: checkpoint.F32, Shape: []int64{2}}}
	for name, c2 := range map[string]struct{ dir, points, want string }{
		"none named":                {whole, "", ""},
		"the encoder":               {without, file(points), ""},
		"no encoder":                {without, file(other), "tensors of the point encoder are missing: net3d."},
		"no encoder, one in folder": {whole, file(other), "tensors of the point encoder are missing: net3d."},
		"half of it":                {without, file(points[:len(points)/2]), "tensors of the point encoder are missing: net3d."},
		"two encoders":              {whole, file(points), "has a point encoder of its own (pcd_encoder.net3d."},
	} {
		f, err := Open(c2.dir, c2.points, c)
		if c2.want == "" && err != nil || c2.want != "" && (err == nil || !strings.Contains(err.Error(), c2.want) || !strings.Contains(err.Error(), c2.points)) {
			t.Errorf("%s: %v, expected %q", name, err, c2.want)
		}
		if err == nil {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}
