package metrics

import "strings"

// rougeBeta favours recall, as in pycocoevalcap/rouge/rouge.py.
const rougeBeta = 1.2

// ROUGEL returns the mean ROUGE-L and each pair's. Words are what single spaces separate: a doubled space is an empty word.
func ROUGEL(pairs []Pair) (mean float64, each []float64) {
	for _, p := range pairs {
		hyp := strings.Split(p.Hypothesis, " ")
		var precision, recall float64
		for _, r := range p.References {
			ref := strings.Split(r, " ")
			common := float64(lcs(hyp, ref))
			precision = max(precision, common/float64(len(hyp)))
			recall = max(recall, common/float64(len(ref)))
		}
		s := 0.0
		if precision != 0 && recall != 0 {
			s = (1 + rougeBeta*rougeBeta) * precision * recall / (recall + rougeBeta*rougeBeta*precision)
		}
		each = append(each, s)
		mean += s
	}
	return mean / float64(max(1, len(pairs))), each
}

// lcs is the length of the longest common subsequence, with two rows of memory.
func lcs(a, b []string) int {
	prev, row := make([]int, len(b)+1), make([]int, len(b)+1)
	for _, x := range a {
		for j, y := range b {
			if x == y {
				row[j+1] = prev[j] + 1
			} else {
				row[j+1] = max(row[j], prev[j+1])
			}
		}
		prev, row = row, prev
	}
	return prev[len(b)]
}
