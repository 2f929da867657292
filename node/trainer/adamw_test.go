package trainer

import (
	"math"
	"testing"

	"github.com/stllm/stllm/node/trainer/weights"
)

// numbers is a slice by index.
func numbers(n int, f func(i float64) float64) []float32 {
	out := make([]float32, n)
	for i := range out {
		out[i] = float32(f(float64(i)))
	}
	return out
}

// Five steps give what torch.optim.AdamW (2.6) gives with clip_grad_norm_ for each group: betas 0.9 and 0.98, decay 0.01 of
// matrices alone, a rate that changes, half of it for the second group.
func TestAdamW(t *testing.T) {
	p := &program{names: []string{"first.weight", "first.bias", "other.weight"}, params: []*weights.Tensor{
		{Name: "first.weight", Shape: []int{2, 3}, Data: numbers(6, math.Sin)},
		{Name: "first.bias", Shape: []int{3}, Data: numbers(3, math.Cos)},
		{Name: "other.weight", Shape: []int{2, 2}, Data: numbers(4, func(i float64) float64 { return math.Cos(2 * i) })},
	}}
	norms := []float64{5.304934, 5.118326, 5.066084, 5.240660, 5.337444} // of the first group; the second's are below 1
	o := newAdamW(Group{Prefixes: []string{"first."}, Rate: 1}, Group{Rate: 0.5})
	for step, want := range norms {
		s, n := float64(step), 0
		p.grads = [][]float32{
			numbers(6, func(i float64) float64 { return 3 * math.Sin(1+i+7*s) }),
			numbers(3, func(i float64) float64 { return 0.1 * math.Cos(2+i+3*s) }),
			numbers(4, func(i float64) float64 { return 0.2 * math.Sin(i+s) }),
		}
		for _, g := range p.grads {
			for i := range g {
				g[i] *= 2 // a sum over two batches
			}
		}
		norm, err := o.apply(p, 2, 0.01*(s+1))
		if err != nil {
			t.Fatal(err)
		}
		if math.Abs(norm-want) > 1e-5*want {
			t.Errorf("step %d: norm %v, expected %v", step, norm, want)
		}
		for _, g := range p.grads {
			for _, v := range g {
				if v == 0 {
					n++
				}
			}
		}
		if n != 13 {
			t.Errorf("step %d: %d of 13 gradients are cleared", step, n)
		}
	}
	for i, want := range [][]float64{
		{-0.1114175, 0.8164293, 1.0077868, 0.2599469, -0.7158756, -1.0442263},
		{1.0313787, 0.5670852, -0.3929496},
		{0.9570046, -0.4468322, -0.6509603, 0.9955033},
	} {
		for j, w := range want {
			if got := float64(p.params[i].Data[j]); math.Abs(got-w) > 2e-6 {
				t.Errorf("%s[%d] is %v, expected %v", p.names[i], j, got, w)
			}
		}
	}
}
