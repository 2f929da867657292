package rays

import (
	"fmt"
	"math"

	"github.com/stllm/stllm/node/parallel"
)

// CleanPatchRays is [PatchRays] without any rounding to bfloat16 (float32 results of float64 arithmetic), for checkpoints
// trained in float32. It keeps the frame of the published image rays, R0ᵀR0ᵀR_t.
func CleanPatchRays(poses []Pose, k [9]float64, edge, grid int) ([]float32, error) {
	if err := checkRays(poses, k, edge, grid); err != nil {
		return nil, err
	}
	out := make([]float32, len(poses)*grid*grid*3)
	r0 := poses[0]
	parallel.Ranges(len(poses), 1, func(lo, hi int) {
		pixels := make([]float32, 3*edge*edge)
		for t := lo; t < hi; t++ {
			// v = R0ᵀ·(R0ᵀ·R_t)·d / ‖d‖: rotations leave the length as it is.
			m := mulTransposed(r0, mulTransposed(r0, poses[t]))
			for y := range edge {
				dy := (float64(y) + 0.5 - k[5]) / k[4]
				for x := range edge {
					dx := (float64(x) + 0.5 - k[2]) / k[0]
					n := 1 / math.Sqrt(dx*dx+dy*dy+1)
					for i := range 3 {
						pixels[3*(y*edge+x)+i] = float32((m[4*i]*dx + m[4*i+1]*dy + m[4*i+2]) * n)
					}
				}
			}
			pool(pixels, edge, grid, out[t*grid*grid*3:(t+1)*grid*grid*3])
		}
	})
	return out, nil
}

// mulTransposed returns the rotation part of aᵀ·b in a 4×4 matrix.
func mulTransposed(a, b Pose) (m Pose) {
	for i := range 3 {
		for j := range 3 {
			m[4*i+j] = a[i]*b[j] + a[4+i]*b[4+j] + a[8+i]*b[8+j]
		}
	}
	return m
}

// CleanPointRays is [PointRays] without any rounding to bfloat16.
func CleanPointRays(coords []int32, first Pose) ([]float32, error) {
	if len(coords)%3 != 0 {
		return nil, fmt.Errorf("point rays: %d coordinates, expected three per voxel", len(coords))
	}
	if err := checkPose(first); err != nil {
		return nil, fmt.Errorf("point rays: %w", err)
	}
	out := make([]float32, len(coords))
	for i := 0; i < len(coords); i += 3 {
		x, y, z := float64(coords[i])-first[3], float64(coords[i+1])-first[7], float64(coords[i+2])-first[11]
		var c [3]float64
		for k := range 3 {
			c[k] = first[k]*x + first[4+k]*y + first[8+k]*z
		}
		n := max(math.Sqrt(c[0]*c[0]+c[1]*c[1]+c[2]*c[2]), 1e-12)
		for k := range 3 {
			out[i+k] = float32(c[k] / n)
		}
	}
	return out, nil
}
