package picture

import (
	"encoding/json"
	"fmt"

	"github.com/stllm/stllm/node/smallfile"
)

// maxScene bounds a scene file, bytes.
const maxScene = 64 << 20

// itemSize is the side of the square that stands for a small thing, metres: a scene says where it stands, not how large it is.
const itemSize = 0.16

// ReadBoxes reads the furniture and the small things of a scene.json, as stllm kitchen writes it; an empty path has none.
func ReadBoxes(path string) ([]Box, error) {
	if path == "" {
		return nil, nil
	}
	data, err := smallfile.Read(path, maxScene)
	if err != nil {
		return nil, fmt.Errorf("scene: %w", err)
	}
	var s struct {
		Boxes []struct {
			Name                    string
			X, Y, Width, Depth, Yaw float64
		}
		Items []struct {
			Kind   string
			Places []struct {
				From int64       `json:"from_ns"`
				To   int64       `json:"to_ns"`
				At   *[3]float64 // nil: in a hand
			}
		}
	}
	if err := json.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("scene %s: %w", path, err)
	}
	var out []Box
	for _, b := range s.Boxes {
		out = append(out, Box{Name: b.Name, X: b.X, Y: b.Y, Width: b.Width, Depth: b.Depth, Yaw: b.Yaw})
	}
	for _, it := range s.Items {
		for _, p := range it.Places {
			if p.At != nil {
				out = append(out, Box{Name: it.Kind, X: p.At[0], Y: p.At[1], Width: itemSize, Depth: itemSize, Small: true, From: p.From, To: p.To})
			}
		}
	}
	return out, nil
}
