package trainer

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/layout"
)

// paper stands among freeze patterns for what the paper leaves as it was: vision, points and language (mm_tunable_parts is
// mm_mlp_adapter, qformer, ray_encoder).
const paper = "paper"

// alwaysFrozen are the parts that run ahead of the training step, once for every picture and map, and the token embeddings,
// which are read row by row.
func alwaysFrozen() []string {
	return []string{layout.Vision, layout.PointEncoder, "model.embed_tokens."}
}

func paperFreeze() []string {
	return append(alwaysFrozen(), "model.layers.", "model.norm.", "lm_head.", "model.image_newline")
}

// FreezeJoint are freeze prefixes of the joint stage of a [Trainer], which trains neither vision nor points: "paper" stands for the
// language model there.
func FreezeJoint(freeze []string) []string {
	var out []string
	for _, p := range freeze {
		if p == paper {
			out = append(out, "model.", "lm_head.")
		} else {
			out = append(out, p)
		}
	}
	return out
}

// freezes refuses prefixes of the joint stage that name no weight: what is mistyped would be trained.
func freezes(c *config.Config, freeze []string) error {
	specs, err := layout.Tensors(c)
	if err != nil {
		return err
	}
	for _, p := range freeze {
		if p == "" || !slices.ContainsFunc(specs, func(s checkpoint.TensorSpec) bool { return strings.HasPrefix(s.Name, p) }) {
			return fmt.Errorf("--freeze %q names no weight of the model; expected %s or a prefix such as qformer. or model.layers. (`stllm model info --tensors` lists the names)", p, paper)
		}
	}
	return nil
}

// matches tells whether a freeze pattern names a weight: a prefix, or with * a whole name.
func matches(pattern, name string) bool {
	if strings.Contains(pattern, "*") {
		ok, err := path.Match(pattern, name)
		return err == nil && ok
	}
	return strings.HasPrefix(name, pattern)
}

// tunable lists the weights that a fine-tune of the published profile trains when patterns are frozen. A pattern that names no
// weight is an error, as is a list that leaves nothing.
func tunable(c *config.Config, freeze []string) ([]string, error) {
	parts, err := layout.Parts(c)
	if err != nil {
		return nil, err
	}
	var all, used []string
	for _, p := range parts {
		for _, spec := range p.Tensors {
			if all = append(all, spec.Name); !p.Unused && !hasPrefix(spec.Name, alwaysFrozen()) {
				used = append(used, spec.Name)
			}
		}
	}
	for _, pattern := range freeze {
		list := []string{pattern}
		if pattern == paper {
			list = paperFreeze()
		} else if pattern == "" || !slices.ContainsFunc(all, func(name string) bool { return matches(pattern, name) }) {
			return nil, fmt.Errorf("--freeze %q names no weight of the model; expected %s (what the paper freezes), a prefix such as qformer. or model.layers., or a pattern with * (`stllm model info --tensors` lists the names)", pattern, paper)
		}
		used = slices.DeleteFunc(used, func(name string) bool {
			return slices.ContainsFunc(list, func(p string) bool { return matches(p, name) })
		})
	}
	if len(used) == 0 {
		return nil, fmt.Errorf("--freeze %s leaves nothing to train", checkpoint.ListNames(freeze))
	}
	slices.Sort(used)
	return used, nil
}
