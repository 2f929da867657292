package points

import (
	"fmt"
	"math"
)

// ColorsBF16 returns the input features of the published training pipeline, three per voxel: the winning point's colour
// c/127.5 − 1 with a rounding to bfloat16 after each step, as float32.
func (v *Voxels) ColorsBF16(rgb []uint8) ([]float32, error) {
	var table [256]float32
	for c := range table {
		table[c] = bf16(bf16(bf16(float32(c))/127.5) - 1)
	}
	return v.colors(rgb, &table)
}

// ColorsF32 returns the input features of OpenScene's own loader, three per voxel: c/127.5 − 1 in float32.
func (v *Voxels) ColorsF32(rgb []uint8) ([]float32, error) {
	var table [256]float32
	for c := range table {
		table[c] = float32(c)/127.5 - 1
	}
	return v.colors(rgb, &table)
}

func (v *Voxels) colors(rgb []uint8, table *[256]float32) ([]float32, error) {
	if err := v.checkColors(rgb); err != nil {
		return nil, err
	}
	out := make([]float32, 3*v.Len())
	for i, p := range v.PointOfVoxel {
		for k, c := range rgb[3*p : 3*p+3] {
			out[3*i+k] = table[c]
		}
	}
	return out, nil
}

func (v *Voxels) checkColors(rgb []uint8) error {
	if len(rgb) != 3*len(v.VoxelOfPoint) {
		return fmt.Errorf("voxel colours: %d bytes, expected %d (three per point)", len(rgb), 3*len(v.VoxelOfPoint))
	}
	return nil
}

// StatFeatures is the number of columns of [Voxels.Stats].
const StatFeatures = 7

// Stats returns the input features of the robot profile, seven per voxel: mean colour/127.5 − 1 (3), offset of the
// centroid from the centre in half edges, −1…1 (3), and log2(1 + points)/8. centroids are in metres, three per voxel.
func (v *Voxels) Stats(xyz []float64, rgb []uint8) (features []float32, centroids []float64, err error) {
	if err := v.checkColors(rgb); err != nil {
		return nil, nil, err
	}
	if len(xyz) != len(rgb) {
		return nil, nil, fmt.Errorf("voxel features: %d coordinates, expected %d (three per point)", len(xyz), len(rgb))
	}
	n := v.Len()
	features, centroids = make([]float32, StatFeatures*n), make([]float64, 3*n)
	// Colours are summed as integers and places relative to the centre, so the sums do not depend on how far the map
	// is from its origin; points come in order, so the result is the same on any number of cores.
	sums, count := make([]int64, 3*n), make([]int32, n)
	for i, voxel := range v.VoxelOfPoint {
		count[voxel]++
		cx, cy, cz := v.Center(int(voxel))
		s, c := sums[3*voxel:3*voxel+3], centroids[3*voxel:3*voxel+3]
		s[0], s[1], s[2] = s[0]+int64(rgb[3*i]), s[1]+int64(rgb[3*i+1]), s[2]+int64(rgb[3*i+2])
		c[0], c[1], c[2] = c[0]+xyz[3*i]-cx, c[1]+xyz[3*i+1]-cy, c[2]+xyz[3*i+2]-cz
	}
	for i := range n {
		m := 1 / float64(count[i])
		x, y, z := v.Center(i)
		f, c := features[StatFeatures*i:StatFeatures*(i+1)], centroids[3*i:3*i+3]
		for k, centre := range [3]float64{x, y, z} {
			off := c[k] * m
			f[k] = float32(float64(sums[3*i+k])*m/127.5 - 1)
			f[3+k] = float32(min(max(2*off/v.Size, -1), 1))
			c[k] = centre + off
		}
		f[6] = float32(math.Log2(1+float64(count[i])) / 8)
	}
	return features, centroids, nil
}

// bf16 rounds to the nearest bfloat16, ties to even.
func bf16(v float32) float32 {
	b := math.Float32bits(v)
	return math.Float32frombits((b + 0x7FFF + b>>16&1) &^ 0xFFFF)
}
