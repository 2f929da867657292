package meteor

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/stllm/stllm/node/ort"
)

// Find returns where the tables are: STLLM_PYCOCOEVALCAP, or the wheel that set-up put into the cache.
func Find() (string, error) {
	if path := os.Getenv("STLLM_PYCOCOEVALCAP"); path != "" {
		return path, nil
	}
	dir, err := ort.CacheDir()
	if err != nil {
		return "", fmt.Errorf("METEOR tables: %w", err)
	}
	found, _ := filepath.Glob(filepath.Join(dir, "metrics", "pycocoevalcap-*.whl"))
	if len(found) == 0 {
		return "", errors.New("METEOR's tables are not here: pip download --no-deps pycocoevalcap==1.2 brings them, STLLM_PYCOCOEVALCAP names the wheel or its folder")
	}
	return found[len(found)-1], nil
}
