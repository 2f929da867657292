// Package nano makes model folders from nothing: the small model that the program ships (the whole graph at a size for a
// laptop), and the full published layout with generated numbers, for trials of loading and speed.
package nano

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/checkpoint/layout"
	"github.com/stllm/stllm/node/tokenizer"
)

// vocabulary is the number of ordinary tokens of the nano tokenizer.
const vocabulary = 1200

// specials are the template's tokens, in the order of their ids after the ordinary ones.
func specials() []string { return []string{"<|endoftext|>", "<|im_start|>", "<|im_end|>"} }

// Init writes a model folder: config "nano" or "published". Its weights are generated from the seed and untrained, which its
// id says.
func Init(ctx context.Context, dir, name string, seed uint64, progress func(done, total int64)) error {
	if entries, err := os.ReadDir(dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("model folder %s is not empty; name a new one", dir)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("model folder: %w", err)
	}
	tok, err := tokenizer.Train(corpus(), vocabulary, specials())
	if err != nil {
		return err
	}
	t, err := tokenizer.Parse(tok)
	if err != nil {
		return err
	}
	end, err := t.Special("<|im_end|>")
	if err != nil {
		return err
	}
	var c *config.Config
	switch name {
	case "nano":
		c = config.Nano((t.Size()+63)/64*64, end)
	case "published":
		// No published tokenizer can be shipped; the small one stands in, and the vocabulary keeps its published size.
		c = config.Default()
		c.EOSTokenID = config.IDs{end}
	default:
		return fmt.Errorf("config is %q, expected nano or published", name)
	}
	specs, err := layout.Tensors(c)
	if err != nil {
		return err
	}
	if err := writeJSON(filepath.Join(dir, "config.json"), c, map[string]any{"_name_or_path": name + "-untrained"}); err != nil {
		return err
	}
	generation := map[string]any{"eos_token_id": end, "do_sample": false, "max_new_tokens": 64}
	if err := writeJSON(filepath.Join(dir, "generation_config.json"), generation, nil); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), tok, 0o644); err != nil {
		return fmt.Errorf("model folder: %w", err)
	}
	return checkpoint.WriteRandomFolder(ctx, dir, seed, specs, checkpoint.FolderOptions{}, progress)
}

// writeJSON writes a value's fields together with some of their own.
func writeJSON(path string, v any, more map[string]any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return err
	}
	fields := map[string]any{}
	if err := json.Unmarshal(data, &fields); err != nil {
		return err
	}
	for k, f := range more {
		fields[k] = f
	}
	if data, err = json.MarshalIndent(fields, "", "  "); err != nil {
		return err
	}
	return os.WriteFile(path, append(data, '\n'), 0o644)
}

// corpus are sentences of the kind that the tasks are made of, so that their words become tokens.
func corpus() []string {
	things := strings.Fields("fridge freezer hob oven microwave dishwasher sink tap cupboard drawer counter table chair shelf bin " +
		"kettle toaster blender coffee_machine washing_machine window door island stool plant lamp cabinet hood rack radiator " +
		"mug plate bowl pan pot lid knife fork spoon glass bottle phone book apple sponge cloth jug board box tin kettle")
	places := strings.Fields("left right front back behind front-left front-right back-left back-right ahead beside above under near far nearer further closer")
	verbs := strings.Fields("turn walk go take put open close fill pour wash cut wipe bring move look switch pick carry leave wait")
	var out []string
	for i, thing := range things {
		thing = strings.ReplaceAll(thing, "_", " ")
		place, verb := places[i%len(places)], verbs[i%len(verbs)]
		out = append(out,
			"Where is the "+thing+"? The "+thing+" is to the "+place+" of the person.",
			"In which direction is the "+thing+" from where I stand now?",
			"Which is nearer, the "+thing+" or the "+strings.ReplaceAll(things[(i+7)%len(things)], "_", " ")+"?",
			"I have not seen the "+thing+". There is no "+thing+" here.",
			"Where did I last see the "+thing+", and how do I get there?",
			"1. "+strings.ToUpper(verb[:1])+verb[1:]+" to the "+thing+". 2. Open the "+thing+".",
			"Did I get closer to the "+thing+" or further from it? About the same distance.",
			"What should I do next with the "+thing+"? "+verb+" "+place,
			"When the "+thing+" was opened, was the "+thing+" to the "+place+"?",
		)
	}
	return append(out, "The video lasts for 7.47 seconds, and 16 frames are uniformly sampled from it. These frames are located at 0.00s,2.47s.",
		"Please answer the following questions related to this video.", "system\nYou are a helpful assistant.", "user\n", "assistant\n")
}
