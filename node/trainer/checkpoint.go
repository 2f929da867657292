package trainer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/trainer/weights"
	"github.com/stllm/stllm/node/wholefile"
)

// state is what a run goes on from.
type state struct {
	Done map[string]int `json:"done"` // steps done, by stage
	Opt  int            `json:"optimizer_step"`
	In   string         `json:"optimizer_stage"` // whose moments are stored
	// Folder holds the weights and moments that belong to these numbers; the other of the two is being written.
	Folder string `json:"folder"`
}

// keeper keeps in a run's folder what it goes on from.
type keeper struct {
	out   string
	state state
}

func newKeeper(out string) keeper { return keeper{out, state{Done: map[string]int{}}} }

// resume reads the state of an earlier run of the same recipe into the weights.
func (k *keeper) resume(recipe any, w *weights.Set) error {
	if err := k.sameRecipe(recipe); err != nil {
		return err
	}
	path := filepath.Join(k.out, "state.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(data, &k.state); err != nil {
		return fmt.Errorf("training state: %s is damaged (%w); name another folder, or delete %s to train anew", path, err, k.out)
	}
	saved, err := weights.Read(k.stateDir())
	if err != nil {
		return fmt.Errorf("training state: %w", err)
	}
	for _, name := range saved.Names("weight/") {
		from, err := saved.Get(name)
		if err != nil {
			return err
		}
		name = name[len("weight/"):]
		to, err := w.Get(name)
		if errors.Is(err, nil) && len(to.Data) == len(from.Data) {
			copy(to.Data, from.Data)
			continue
		}
		w.Put(&weights.Tensor{Name: name, Shape: from.Shape, Data: from.Data}) // the regression head
	}
	return nil
}

// sameRecipe compares the run's recipe with the one that the folder was begun with.
func (k *keeper) sameRecipe(recipe any) error {
	path := filepath.Join(k.out, "recipe.json")
	now, err := json.MarshalIndent(recipe, "", "  ")
	if err != nil {
		return err
	}
	was, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return os.WriteFile(path, append(now, '\n'), 0o644)
	}
	if err != nil {
		return err
	}
	if string(was) != string(now)+"\n" {
		return fmt.Errorf("%s differs from the recipe of this run%s; name another folder, or delete %s to train anew", path, differing(was, now), k.out)
	}
	return nil
}

// differing says for people in which fields two recipes differ, and how: the first few.
func differing(was, now []byte) string {
	var a, b any
	if json.Unmarshal(was, &a) != nil || json.Unmarshal(now, &b) != nil {
		return " and cannot be read"
	}
	before, after := map[string]string{}, map[string]string{}
	flatten("", a, before)
	flatten("", b, after)
	all := maps.Clone(before)
	maps.Copy(all, after)
	var list []string
	for _, name := range slices.Sorted(maps.Keys(all)) {
		x, y := before[name], after[name]
		if x != y {
			list = append(list, fmt.Sprintf("%s (%s, now %s)", name, cmp.Or(x, "none"), cmp.Or(y, "none")))
		}
	}
	const most = 5
	if n := len(list); n > most {
		list = append(list[:most], fmt.Sprintf("%d more", n-most))
	}
	return " in " + strings.Join(list, ", ")
}

// flatten names the values of a JSON document by their paths.
func flatten(path string, v any, into map[string]string) {
	fields, ok := v.(map[string]any)
	if !ok {
		if v != nil {
			into[path] = fmt.Sprint(v)
		}
		return
	}
	for name, f := range fields {
		flatten(strings.TrimPrefix(path+"."+name, "."), f, into)
	}
}

// moments are the optimizer's, stored under these prefixes beside "weight/".
const firstMoment, secondMoment = "first/", "second/"

// stateDir is the folder that the state names; runs of an early version had one only.
func (k *keeper) stateDir() string {
	if k.state.Folder == "" {
		return filepath.Join(k.out, "state")
	}
	return filepath.Join(k.out, k.state.Folder)
}

// save writes weights and optimizer into the folder that is not in use, then the small file that names it: a full disk or a
// kill at any point leaves what was there.
func (k *keeper) save(stage string, done int, w *weights.Set, opt *AdamW) error {
	next := state{Done: maps.Clone(k.state.Done), Opt: opt.step, In: stage, Folder: "state-a"}
	if next.Done[stage] = done; k.state.Folder == next.Folder {
		next.Folder = "state-b"
	}
	all := weights.NewSet()
	for _, name := range w.Names() {
		t, err := w.Get(name)
		if err != nil {
			return err
		}
		all.Put(&weights.Tensor{Name: "weight/" + name, Shape: t.Shape, Data: t.Data})
		if m := opt.first[name]; m != nil {
			all.Put(&weights.Tensor{Name: firstMoment + name, Shape: t.Shape, Data: m})
			all.Put(&weights.Tensor{Name: secondMoment + name, Shape: t.Shape, Data: opt.second[name]})
		}
	}
	dir := filepath.Join(k.out, next.Folder)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	if err := all.Write(dir, checkpoint.F32, all.Names()); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	data, err := json.Marshal(next)
	if err != nil {
		return err
	}
	if err := wholefile.Write(filepath.Join(k.out, "state.json"), data); err != nil {
		return fmt.Errorf("checkpoint: %w", err)
	}
	k.state = next
	return nil
}

// curve draws the log so far.
func (k *keeper) curve() error {
	log, err := ReadLog(filepath.Join(k.out, "train.jsonl"))
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := Curve(&b, log); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(k.out, "curve.png"), b.Bytes(), 0o644)
}

// restore gives an optimizer the moments of the run that it goes on.
func (k *keeper) restore(stage string, opt *AdamW) error {
	if k.state.In != stage {
		return nil
	}
	saved, err := weights.Read(k.stateDir())
	if err != nil {
		return fmt.Errorf("training state: %w", err)
	}
	opt.step = k.state.Opt
	for _, name := range saved.Names(firstMoment) {
		m, err := saved.Get(name)
		if err != nil {
			return err
		}
		name = name[len(firstMoment):]
		v, err := saved.Get(secondMoment + name)
		if err != nil {
			return err
		}
		opt.first[name], opt.second[name] = m.Data, v.Data
	}
	return nil
}
