package points

import (
	"fmt"
	"math/rand/v2"
	"slices"

	"github.com/stllm/stllm/node/parallel"
)

// SetConfig sizes the two set abstractions of the masked transformer encoder; see [PublishedSets].
type SetConfig struct {
	Tokens   int     // points picked first
	Radius   float32 // of the balls about them, metres
	Samples  int     // points per ball
	Kept     int     // tokens picked from them after the first layer
	Radius2  float32
	Samples2 int
	// MaskRadii are the distances at which a layer no longer sees: the first for all tokens, the others for the kept ones.
	MaskRadii []float64
}

// PublishedSets are those of 3DETR-m as LL3DA has it.
func PublishedSets() SetConfig {
	return SetConfig{Tokens: 2048, Radius: 0.2, Samples: 64, Kept: 1024, Radius2: 0.4, Samples2: 32, MaskRadii: []float64{0.16, 0.64, 1.44}}
}

// Sets is all that the masked transformer encoder needs besides its weights, for one cloud.
type Sets struct {
	Config   SetConfig
	Channels int       // of Groups: 3 + features
	Groups   []float32 // [Tokens][Samples][Channels]: (p − centre)/Radius, then the point's features
	TokenXYZ []float32 // [Tokens][3]
	KeptOf   []int32   // [Kept]: row of TokenXYZ
	Balls    []int32   // [Kept][Samples2]: rows of TokenXYZ
	Local    []float32 // [Kept][Samples2][3]: (token − centre)/Radius2
	KeptXYZ  []float32 // [Kept][3]: where the output is
	Masks    [][]uint8 // [layer] [n][n], 1 = hidden; n = Tokens for the first layer, Kept for the others
}

// NewSets does the index work for a cloud: xyz are three float32 coordinates per point, features the given number of
// columns per point.
func NewSets(xyz, features []float32, columns int, c SetConfig) (*Sets, error) {
	if columns < 0 || len(features)*3 != len(xyz)*columns {
		return nil, fmt.Errorf("point sets: %d features, expected %d (%d for each of %d points)", len(features), len(xyz)/3*columns, columns, len(xyz)/3)
	}
	if len(c.MaskRadii) < 1 {
		return nil, fmt.Errorf("point sets: no mask radii, expected one per layer")
	}
	if !(c.Radius > 0) || !(c.Radius2 > 0) {
		return nil, fmt.Errorf("point sets: radii are %v and %v m, expected positive numbers", c.Radius, c.Radius2)
	}
	first, err := FarthestPoints(xyz, c.Tokens)
	if err != nil {
		return nil, fmt.Errorf("point sets: tokens: %w", err)
	}
	s := &Sets{Config: c, Channels: 3 + columns, TokenXYZ: Pick(xyz, first)}
	ball, err := BallQuery(xyz, s.TokenXYZ, c.Radius, c.Samples)
	if err != nil {
		return nil, fmt.Errorf("point sets: tokens: %w", err)
	}
	s.Groups = make([]float32, len(ball)*s.Channels)
	parallel.Ranges(c.Tokens, 32, func(lo, hi int) {
		for i := lo * c.Samples; i < hi*c.Samples; i++ {
			row := s.Groups[i*s.Channels : (i+1)*s.Channels]
			local(row, xyz, ball[i], s.TokenXYZ, i/c.Samples, c.Radius)
			copy(row[3:], features[int(ball[i])*columns:])
		}
	})
	if s.KeptOf, err = FarthestPoints(s.TokenXYZ, c.Kept); err != nil {
		return nil, fmt.Errorf("point sets: kept tokens: %w", err)
	}
	s.KeptXYZ = Pick(s.TokenXYZ, s.KeptOf)
	if s.Balls, err = BallQuery(s.TokenXYZ, s.KeptXYZ, c.Radius2, c.Samples2); err != nil {
		return nil, fmt.Errorf("point sets: kept tokens: %w", err)
	}
	s.Local = make([]float32, 3*len(s.Balls))
	for i, p := range s.Balls {
		local(s.Local[3*i:3*i+3], s.TokenXYZ, p, s.KeptXYZ, i/c.Samples2, c.Radius2)
	}
	for i, r := range c.MaskRadii {
		at := s.KeptXYZ
		if i == 0 {
			at = s.TokenXYZ
		}
		s.Masks = append(s.Masks, DistanceMask(at, r))
	}
	return s, nil
}

// local writes (p − centre)/radius.
func local(out, xyz []float32, p int32, centers []float32, center int, radius float32) {
	for k := range 3 {
		out[k] = (xyz[3*int(p)+k] - centers[3*center+k]) / radius
	}
}

// EncoderFeatures is the number of columns of [ColorNormalHeight].
const EncoderFeatures = 7

// ColorNormalHeight returns the encoder's input features of points, seven columns: colour (c − (109.8, 97.2, 83.8))/256
// rounded once from float64, unit normal, height above floor in metres.
func ColorNormalHeight(xyz []float32, rgb []uint8, normals []float32, floor float64) ([]float32, error) {
	if len(rgb) != len(xyz) || len(normals) != len(xyz) || len(xyz)%3 != 0 {
		return nil, fmt.Errorf("point features: %d coordinates, %d colour bytes, %d numbers of normals, expected three per point each", len(xyz), len(rgb), len(normals))
	}
	mean := [3]float64{109.8, 97.2, 83.8}
	out := make([]float32, 0, len(xyz)/3*EncoderFeatures)
	for i := 0; i < len(xyz); i += 3 {
		for k := range 3 {
			out = append(out, float32((float64(rgb[i+k])-mean[k])/256))
		}
		out = append(out, normals[i], normals[i+1], normals[i+2], float32(float64(xyz[i+2])-floor))
	}
	return out, nil
}

// Floor is the 0.99th percentile of z as NumPy computes it (linear between ranks): nearly the lowest point. LL3DA measures
// heights from it.
func Floor(xyz []float32) float64 {
	n := len(xyz) / 3
	if n == 0 {
		return 0
	}
	z := make([]float64, 0, n)
	for i := 2; i < len(xyz); i += 3 {
		z = append(z, float64(xyz[i]))
	}
	slices.Sort(z)
	at := float64(n-1) * 0.99 / 100
	i := int(at)
	if i+1 >= n {
		return z[n-1]
	}
	return z[i] + (z[i+1]-z[i])*(at-float64(i))
}

// Sample chooses count of n points without replacement, or with it when there are fewer than count, in ascending order.
// The same seed gives the same choice.
func Sample(n, count int, seed uint64) ([]int32, error) {
	if n < 1 || count < 1 {
		return nil, fmt.Errorf("sample: %d of %d points, expected 1 or more", count, n)
	}
	r := rand.New(rand.NewPCG(seed, 0x5A3B1E))
	out := make([]int32, 0, count)
	if n < count {
		for i := range n { // every point at least once
			out = append(out, int32(i))
		}
		for len(out) < count {
			out = append(out, int32(r.IntN(n)))
		}
		slices.Sort(out)
		return out, nil
	}
	// Selection sampling (Knuth, algorithm S): one pass, in order.
	for i := range n {
		if r.IntN(n-i) < count-len(out) {
			out = append(out, int32(i))
		}
	}
	return out, nil
}
