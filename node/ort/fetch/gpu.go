package fetch

import (
	"archive/zip"
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/stllm/stllm/node/ort"
)

// gpuWheel is the package with the GPU build, and the checksums of what is taken out of it under which name.
func gpuWheel() (Source, map[string]string) {
	const capi = "onnxruntime/capi/"
	return Source{Client: "pip", Package: "onnxruntime-gpu", Version: ort.Version,
			Args: []string{"--python-version", "3.12", "--only-binary=:all:", "--platform", "manylinux_2_28_x86_64", "--platform", "manylinux_2_27_x86_64"}},
		map[string]string{
			capi + "libonnxruntime.so." + ort.Version:   "5a140dc17c8b60b35b2ceab0bb533e65ac54f06a208948417c1f9c31df6afc4c",
			capi + "libonnxruntime_providers_shared.so": "086ec1d5388f64153d9c63470d126693db9a182c8ce236d3a1119068471b8a0d",
			capi + "libonnxruntime_providers_cuda.so":   "35da2e7ed0dd0d1aec5cdb16ce11a51d06c0c48cf62d1b1c9332946a4fae14fc",
		}
}

// GPU fetches the GPU build of ONNX Runtime, and those of CUDA's libraries that neither the system nor the cache has. The driver
// is the machine's own.
func GPU(ctx context.Context, w io.Writer) error {
	if ort.Platform() != "linux-x64" {
		return fmt.Errorf("no published GPU build of ONNX Runtime is known for %s; build one and set STLLM_ONNXRUNTIME", ort.Platform())
	}
	library, err := ort.GPULibraryPath()
	if err != nil {
		return err
	}
	name := "ONNX Runtime " + ort.Version + " (CUDA)"
	if _, err := os.Stat(library); err != nil {
		s, sums := gpuWheel()
		fmt.Fprintf(w, "setup: %s: pip download of %s %s (about 250 MB)\n", name, s.Package, s.Version)
		if err := wheel(ctx, s, filepath.Dir(library), func(member string) (string, string) {
			return strings.TrimSuffix(path.Base(member), "."+ort.Version) + suffix(member), sums[member]
		}, func(member string) bool { return sums[member] != "" }); err != nil {
			return fmt.Errorf("fetch %s: %w", name, err)
		}
	}
	fmt.Fprintf(w, "setup: %s is at %s\n", name, library)
	dir, err := ort.CUDADir()
	if err != nil {
		return err
	}
	missing, err := ort.LoadCUDA()
	if err != nil {
		return err
	}
	done := map[string]bool{}
	for _, l := range missing {
		if l.Package == "" {
			fmt.Fprintf(w, "setup: no %s: this machine has no NVIDIA driver\n", l.Name)
			continue
		}
		if done[l.Package] {
			continue
		}
		done[l.Package] = true
		fmt.Fprintf(w, "setup: %s: pip download of %s %s\n", l.Name, l.Package, l.Version)
		s := Source{Client: "pip", Package: l.Package, Version: l.Version, Args: []string{"--only-binary=:all:"}}
		for _, glibc := range []string{"_2_28", "_2_27", "_2_17", "2014"} {
			s.Args = append(s.Args, "--platform", "manylinux"+glibc+"_x86_64")
		}
		into := filepath.Join(dir, l.Package)
		if err := wheel(ctx, s, into, func(member string) (string, string) { return path.Base(member), "" }, func(member string) bool {
			return strings.Contains(path.Base(member), ".so") && path.Base(path.Dir(member)) == "lib"
		}); err != nil {
			return fmt.Errorf("fetch %s: %w", l.Package, err)
		}
	}
	return nil
}

// suffix is what the library's own file is called behind its name: the version that others ask for.
func suffix(member string) string {
	if strings.HasSuffix(member, "."+ort.Version) {
		return ".1"
	}
	return ""
}

// wheel unpacks some members of a wheel into a new folder, under the names and with the checksums that name gives; an empty
// checksum is for packages whose registry client has verified them alone.
func wheel(ctx context.Context, s Source, dir string, name func(member string) (as, sum string), wanted func(member string) bool) error {
	client, err := find(s.Client)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".fetch-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	from, to := filepath.Join(tmp, "package"), filepath.Join(tmp, "files")
	for _, d := range []string{from, to} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	archive, err := download(ctx, client, s, from)
	if err != nil {
		return err
	}
	z, err := zip.OpenReader(archive)
	if err != nil {
		return fmt.Errorf("package %s: %w", filepath.Base(archive), err)
	}
	defer z.Close()
	count := 0
	for _, f := range z.File {
		if !wanted(f.Name) {
			continue
		}
		as, sum := name(f.Name)
		if err := member(f, filepath.Join(to, as), sum); err != nil {
			return err
		}
		count++
	}
	if count == 0 {
		return fmt.Errorf("package %s has none of the libraries", filepath.Base(archive))
	}
	return os.Rename(to, dir)
}

func member(f *zip.File, to, sum string) error {
	in, err := f.Open()
	if err != nil {
		return fmt.Errorf("unpack %s: %w", f.Name, err)
	}
	defer in.Close()
	if err := write(to, in); err != nil {
		return fmt.Errorf("unpack %s: %w", f.Name, err)
	}
	return verify(to, sum)
}
