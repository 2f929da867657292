package eval

import (
	"cmp"
	"math/rand/v2"
	"slices"

	"github.com/stllm/stllm/node/stllm"
)

// shuffled hands the answers of a whole run to other items of the same task: in a random order each gets the answer of the one
// that stands a random number of places further, so that every pair of different items is equally likely.
func shuffled(whole []Prediction, seed uint64) []Prediction {
	whole = slices.Clone(whole)
	slices.SortFunc(whole, func(a, b Prediction) int { return cmp.Compare(a.Index, b.Index) })
	byTask := map[stllm.Task][]int{}
	for i, p := range whole {
		byTask[p.Task] = append(byTask[p.Task], i)
	}
	out := slices.Clone(whole)
	r := rand.New(rand.NewPCG(seed, 0x73687566))
	for _, t := range sortedTasks(byTask) {
		at := byTask[t]
		r.Shuffle(len(at), func(i, j int) { at[i], at[j] = at[j], at[i] })
		by := 0
		if len(at) > 1 {
			by = 1 + r.IntN(len(at)-1)
		}
		for i, to := range at {
			from := whole[at[(i+by)%len(at)]]
			p := &out[to]
			p.Run, p.Answer, p.Error, p.Seconds, p.Picture, p.Evidence = Shuffled, from.Answer, from.Error, 0, "", nil
			if by == 0 {
				p.Answer, p.Error = "", "no other item has its task"
			}
			p.Said = labelOf(p.Task, p.Question, p.Answer)
		}
	}
	return out
}

// shuffleAgain adds what the shuffled run has to be of the whole run that is in the file.
func shuffleAgain(path string, seed uint64, out *log) error {
	all, _, err := ReadPredictions(path)
	if err != nil {
		return err
	}
	have := map[string]Prediction{}
	var whole []Prediction
	for _, p := range all {
		switch p.Run {
		case None:
			whole = append(whole, p)
		case Shuffled:
			have[p.ID] = p
		}
	}
	for _, p := range shuffled(whole, seed) {
		if old, ok := have[p.ID]; ok && old.Answer == p.Answer && old.Error == p.Error {
			continue
		}
		if err := out.add(p); err != nil {
			return err
		}
	}
	return nil
}
