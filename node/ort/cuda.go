package ort

/*
#include <dlfcn.h>
#include <stdlib.h>
*/
import "C"

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"
)

// CUDAVersion is the release that the GPU build of ONNX Runtime stands on.
const CUDAVersion = 13

// CUDALibrary is a library that the CUDA provider needs, and the package of the registry that carries it.
type CUDALibrary struct {
	Name     string // as the loader knows it
	Package  string // pip
	Version  string
	Optional bool // only some operators call it: the provider loads without
}

// CUDALibraries lists them in the order in which they are loaded: each needs those before it. They are what readelf names in
// libonnxruntime_providers_cuda.so of [Version], and what the provider opens by name while it runs.
func CUDALibraries() []CUDALibrary {
	return []CUDALibrary{
		{Name: "libcudart.so.13", Package: "nvidia-cuda-runtime", Version: "13.0.96"},
		{Name: "libcublasLt.so.13", Package: "nvidia-cublas", Version: "13.0.2.14"},
		{Name: "libcublas.so.13", Package: "nvidia-cublas", Version: "13.0.2.14"},
		{Name: "libcurand.so.10", Package: "nvidia-curand", Version: "10.4.0.35"},
		{Name: "libnvrtc.so.13", Package: "nvidia-cuda-nvrtc", Version: "13.0.88", Optional: true},
		{Name: "libcufft.so.12", Package: "nvidia-cufft", Version: "12.0.0.61", Optional: true},
		{Name: "libcudnn.so.9", Package: "nvidia-cudnn-cu13", Version: "9.14.0.64", Optional: true},
	}
}

// GPULibraryPath is where set-up puts the GPU build's library; its providers lie beside it.
func GPULibraryPath() (string, error) {
	dir, err := CacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "onnxruntime", Version, Platform()+"-cuda", "libonnxruntime.so.1"), nil
}

// CUDADir is where set-up puts CUDA's libraries, a folder for each package.
func CUDADir() (string, error) {
	dir, err := CacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "cuda", fmt.Sprint(CUDAVersion)), nil
}

// cudaFolders are searched for CUDA's libraries where the system's loader does not know them: those of STLLM_CUDA_LIBS, with a
// colon between them, then the cache.
func cudaFolders() []string {
	var out []string
	if list := os.Getenv("STLLM_CUDA_LIBS"); list != "" {
		out = strings.Split(list, ":")
	}
	if dir, err := CUDADir(); err == nil {
		for _, l := range CUDALibraries() {
			if folder := filepath.Join(dir, l.Package); !slices.Contains(out, folder) {
				out = append(out, folder)
			}
		}
	}
	return out
}

// LoadCUDA loads CUDA's libraries, so that the provider finds them by name, and lists those that are not there, the driver's
// included. What cannot be loaded although it is there is an error.
func LoadCUDA() (missing []CUDALibrary, err error) {
	if dlopen("libcuda.so.1") != nil {
		missing = append(missing, CUDALibrary{Name: "libcuda.so.1"})
	}
	for _, l := range CUDALibraries() {
		if dlopen(l.Name) == nil {
			continue
		}
		found := false
		for _, dir := range cudaFolders() {
			path := filepath.Join(dir, l.Name)
			if _, statErr := os.Stat(path); statErr != nil {
				continue
			}
			if loadErr := dlopen(path); loadErr != nil {
				err = errors.Join(err, loadErr)
			}
			found = true
			break
		}
		if !found {
			missing = append(missing, l)
		}
	}
	return missing, err
}

// needCUDA loads CUDA's libraries or says what is missing and how to get it.
func needCUDA() error {
	missing, err := LoadCUDA()
	if err != nil {
		return fmt.Errorf("CUDA: %w", err)
	}
	missing = slices.DeleteFunc(missing, func(l CUDALibrary) bool { return l.Optional })
	if len(missing) == 0 {
		return nil
	}
	var names []string
	for _, l := range missing {
		if l.Package == "" {
			return fmt.Errorf("CUDA: no %s: this machine has no NVIDIA driver, or it is hidden from this program", l.Name)
		}
		names = append(names, l.Name)
	}
	dir, err := CUDADir()
	if err != nil {
		return err
	}
	return fmt.Errorf("CUDA: no %s, neither where the system's loader looks nor in STLLM_CUDA_LIBS=%s nor below %s; run `stllm setup --gpu`, or name folders in STLLM_CUDA_LIBS",
		strings.Join(names, ", "), os.Getenv("STLLM_CUDA_LIBS"), dir)
}

// dlopen keeps a library for the life of the process.
func dlopen(name string) error {
	s := C.CString(name)
	defer C.free(unsafe.Pointer(s))
	if C.dlopen(s, C.RTLD_NOW|C.RTLD_GLOBAL) == nil {
		return errors.New(C.GoString(C.dlerror()))
	}
	return nil
}
