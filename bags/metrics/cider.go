package metrics

import (
	"maps"
	"math"
	"slices"
)

// ciderSigma is the width of CIDEr-D's length penalty.
const ciderSigma = 6

// vector is the tf-idf form of one sentence by n-gram length.
type vector struct {
	weight [maxN]map[string]float64
	sorted [maxN][]string // its keys, so that sums do not depend on the order of a map
	norm   [maxN]float64
	length float64 // pycocoevalcap counts bigrams here
}

// CIDEr returns CIDEr-D (clipped, with length penalty; what pycocoevalcap and REA call CIDEr) and the plain CIDEr of the
// corpus and of each pair, times 10. Document frequencies come from these references, so a subset's scores are not comparable
// with the whole's, and a corpus of one pair scores 0.
func CIDEr(pairs []Pair) (d, plain float64, eachD, eachPlain []float64) {
	df := map[string]float64{}
	refs := make([][][maxN]map[string]int, len(pairs))
	for i, p := range pairs {
		seen := map[string]bool{}
		for _, r := range p.References {
			counts := ngrams(fields(r))
			refs[i] = append(refs[i], counts)
			for _, c := range counts {
				for g := range c {
					seen[g] = true
				}
			}
		}
		for g := range seen {
			df[g]++
		}
	}
	logN := math.Log(float64(len(pairs)))
	weigh := func(counts [maxN]map[string]int) (v vector) {
		for n, c := range counts {
			v.weight[n] = make(map[string]float64, len(c))
			v.sorted[n] = slices.Sorted(maps.Keys(c))
			for _, g := range v.sorted[n] {
				tf := c[g]
				w := float64(tf) * (logN - math.Log(math.Max(1, df[g])))
				v.weight[n][g] = w
				v.norm[n] += w * w
				if n == 1 {
					v.length += float64(tf)
				}
			}
			v.norm[n] = math.Sqrt(v.norm[n])
		}
		return v
	}
	for i, p := range pairs {
		hyp := weigh(ngrams(fields(p.Hypothesis)))
		var sumD, sumPlain float64
		for _, counts := range refs[i] {
			a, b := similarity(hyp, weigh(counts))
			sumD += a
			sumPlain += b
		}
		k := 10 / float64(max(1, len(refs[i])))
		eachD, eachPlain = append(eachD, sumD*k), append(eachPlain, sumPlain*k)
		d += sumD * k
		plain += sumPlain * k
	}
	n := float64(max(1, len(pairs)))
	return d / n, plain / n, eachD, eachPlain
}

func similarity(hyp, ref vector) (clipped, plain float64) {
	delta := hyp.length - ref.length
	penalty := math.Exp(-delta * delta / (2 * ciderSigma * ciderSigma))
	for n := range maxN {
		var c, p float64
		for _, g := range hyp.sorted[n] {
			w := hyp.weight[n][g]
			r := ref.weight[n][g]
			c += math.Min(w, r) * r
			p += w * r
		}
		if norm := hyp.norm[n] * ref.norm[n]; norm != 0 {
			c /= norm
			p /= norm
		}
		clipped += c * penalty
		plain += p
	}
	return clipped / maxN, plain / maxN
}
