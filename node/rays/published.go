// Package rays tells the model where things are: directions of image patches and of voxels, and their encodings.
//
// There are two profiles. The published one reproduces the authors' code bit for bit, with every bfloat16 rounding and
// the two frames that its image rays and its points end up in: a published checkpoint was trained with them, and one
// rounding left out changes about a quarter of the embedding. Its results are float32 numbers that bfloat16 holds exactly;
// [Bits] gives the bit patterns. The robot profile ([Encoding], [Ego], [Caster]) has places in metres about the current
// camera besides directions.
package rays

import (
	"fmt"
	"math"

	"github.com/stllm/stllm/node/parallel"
)

// Pose is a 4×4 row-major matrix from the camera (OpenCV axes: x right, y down, z forward) to the world.
type Pose [16]float64

// VoxelPose moves a pose into voxel units, as the published pipeline does with its clouds: the translation is multiplied by
// 1/size, and min, the cell of the lowest voxel, is subtracted. The rotation stays.
func VoxelPose(p Pose, size float64, min [3]int64) Pose {
	inv := 1 / size
	for k := range 3 {
		// The conversion forbids fused multiply-add, which would round once instead of twice.
		p[4*k+3] = float64(p[4*k+3]*inv) - float64(min[k])
	}
	return p
}

// ScaleK scales intrinsics of a width×height picture to a square of the given edge, x and y apart, in float64: the form of
// the published inference.
func ScaleK(k [9]float64, width, height, edge int) [9]float64 {
	sx, sy := float64(edge)/float64(width), float64(edge)/float64(height)
	k[0], k[2], k[4], k[5] = k[0]*sx, k[2]*sx, k[4]*sy, k[5]*sy
	return k
}

// ScaleKBF16 is [ScaleK] as the published training does it: K is rounded to bfloat16, and the products are again.
func ScaleKBF16(k [9]float64, width, height, edge int) [9]float64 {
	sx, sy := float32(float64(edge)/float64(width)), float32(float64(edge)/float64(height))
	for i, s := range [9]float32{0: sx, 2: sx, 4: sy, 5: sy} {
		v := round(float32(k[i]))
		if s != 0 {
			v = round(v * s)
		}
		k[i] = float64(v)
	}
	return k
}

// pose32 is a pose rounded to bfloat16: rotation rows and translation.
type pose32 struct {
	r [3][3]float32
	t [3]float32
}

func roundPose(p Pose) pose32 {
	var q pose32
	for i := range 3 {
		for j := range 3 {
			q.r[i][j] = round(float32(p[4*i+j]))
		}
		q.t[i] = round(float32(p[4*i+3]))
	}
	return q
}

// inverse is [Rᵀ | −Rᵀt] with the translation rounded to bfloat16.
func (p pose32) inverse() pose32 {
	var q pose32
	for i := range 3 {
		for j := range 3 {
			q.r[i][j] = p.r[j][i]
		}
		q.t[i] = round(dot(-q.r[i][0], p.t[0], -q.r[i][1], p.t[1], -q.r[i][2], p.t[2]))
	}
	return q
}

// PixelRays returns the published unit ray of every pixel of a square picture, in rows of pixels: edge·edge·3 numbers.
// poses and k are those of the window; frame counts in poses. Poses are rounded to bfloat16 here.
//
// The rays of a pose R_t are in the frame R0ᵀR0ᵀR_t, not in that of the first camera: the reference multiplies by R0 a
// second time.
func PixelRays(poses []Pose, frame int, k [9]float64, edge int) ([]float32, error) {
	if err := checkRays(poses, k, edge, 1); err != nil {
		return nil, err
	}
	if frame < 0 || frame >= len(poses) {
		return nil, fmt.Errorf("pixel rays: frame %d, expected 0 to %d", frame, len(poses)-1)
	}
	out := make([]float32, 3*edge*edge)
	pixelRays(roundPose(poses[0]), roundPose(poses[frame]), k, edge, out)
	return out, nil
}

func checkRays(poses []Pose, k [9]float64, edge, grid int) error {
	if len(poses) == 0 {
		return fmt.Errorf("image rays: no poses")
	}
	for i, p := range poses {
		for j, v := range p {
			if v-v != 0 {
				return fmt.Errorf("image rays: pose %d: element [%d][%d] is %v, expected a finite number", i, j/4, j%4, v)
			}
		}
	}
	if !(k[0] > 0) || !(k[4] > 0) || math.IsInf(k[0]+k[4]+k[2]+k[5], 0) || math.IsNaN(k[2]+k[5]) {
		return fmt.Errorf("image rays: K has fx %v, fy %v, cx %v, cy %v, expected positive focal lengths and finite numbers", k[0], k[4], k[2], k[5])
	}
	if edge < 1 || grid < 1 || edge > 1<<14 || grid > edge {
		return fmt.Errorf("image rays: picture of %d pixels and grid of %d, expected 1 to %d pixels and a grid no finer than them", edge, grid, 1<<14)
	}
	return nil
}

func pixelRays(first, pose pose32, k [9]float64, edge int, out []float32) {
	inv := first.inverse()
	// Rotation part of inv·pose. The fourth product of each sum is with the last row's 0 and leaves it as it is.
	var m [3][3]float32
	for i := range 3 {
		for j := range 3 {
			m[i][j] = round(dot(inv.r[i][0], pose.r[0][j], inv.r[i][1], pose.r[1][j], inv.r[i][2], pose.r[2][j]))
		}
	}
	// A pixel's three products with a row of m are rounded one by one, and the first depends on its column only, the
	// second on its row only: they are made once.
	fx, fy, cx, cy := float32(k[0]), float32(k[4]), float32(k[2]), float32(k[5])
	byColumn, byRow := make([][3]float32, edge), make([][3]float32, edge)
	for p := range edge {
		u, v := round((float32(p)+0.5-cx)/fx), round((float32(p)+0.5-cy)/fy)
		for i := range 3 {
			byColumn[p][i], byRow[p][i] = round(u*m[i][0]), round(v*m[i][1])
		}
	}
	m0, m1, m2 := m[0][2], m[1][2], m[2][2]
	r := first.r
	for y := range edge {
		b, row := byRow[y], out[3*y*edge:3*(y+1)*edge]
		for x, a := range byColumn {
			r0, r1, r2 := roundFinite(a[0]+b[0]+m0), roundFinite(a[1]+b[1]+m1), roundFinite(a[2]+b[2]+m2)
			norm := round(float32(math.Sqrt(float64(dot(r0, r0, r1, r1, r2, r2)))))
			v0, v1, v2 := round(r0/norm), round(r1/norm), round(r2/norm) // NaN for a pose without a rotation
			o := row[3*x : 3*x+3 : 3*x+3]
			o[0] = roundFinite(dot(v0, r[0][0], v1, r[1][0], v2, r[2][0]))
			o[1] = roundFinite(dot(v0, r[0][1], v1, r[1][1], v2, r[2][1]))
			o[2] = roundFinite(dot(v0, r[0][2], v1, r[1][2], v2, r[2][2]))
		}
	}
}

// PatchRays returns the published ray of every image patch of a window: [T][grid·grid][3]. The pixels' rays are averaged
// over overlapping windows and not normalised again. k belongs to the square picture of edge pixels ([ScaleK]).
func PatchRays(poses []Pose, k [9]float64, edge, grid int) ([]float32, error) {
	if err := checkRays(poses, k, edge, grid); err != nil {
		return nil, err
	}
	first := roundPose(poses[0])
	out := make([]float32, len(poses)*grid*grid*3)
	parallel.Ranges(len(poses), 1, func(lo, hi int) {
		pixels := make([]float32, 3*edge*edge)
		for t := lo; t < hi; t++ {
			pixelRays(first, roundPose(poses[t]), k, edge, pixels)
			pool(pixels, edge, grid, out[t*grid*grid*3:(t+1)*grid*grid*3])
			for i, v := range out[t*grid*grid*3 : (t+1)*grid*grid*3] {
				out[t*grid*grid*3+i] = round(v)
			}
		}
	})
	return out, nil
}

// pool is torch's adaptive average: window [⌊a·n/g⌋, ⌈(a+1)·n/g⌉), sums in float32 in rows, divided by rows, then columns.
func pool(pixels []float32, edge, grid int, out []float32) {
	for a := range grid {
		y0, y1 := a*edge/grid, ((a+1)*edge+grid-1)/grid
		for b := range grid {
			x0, x1 := b*edge/grid, ((b+1)*edge+grid-1)/grid
			var s0, s1, s2 float32
			for y := y0; y < y1; y++ {
				row := pixels[3*(y*edge+x0) : 3*(y*edge+x1)]
				for i := 0; i+2 < len(row); i += 3 {
					s0, s1, s2 = s0+row[i], s1+row[i+1], s2+row[i+2]
				}
			}
			rows, columns := float32(y1-y0), float32(x1-x0)
			o := out[3*(a*grid+b):]
			o[0], o[1], o[2] = s0/rows/columns, s1/rows/columns, s2/rows/columns
		}
	}
}

// PointRays returns the published direction of every voxel from the first camera, in that camera's frame, and the place
// before normalisation, [N][3] each. coords are integer voxel indices (no half is added), first is a pose in voxel units
// ([VoxelPose]); both are rounded to bfloat16, which above 256 does not hold every index.
func PointRays(coords []int32, first Pose) (camera, direction []float32, err error) {
	if len(coords)%3 != 0 {
		return nil, nil, fmt.Errorf("point rays: %d coordinates, expected three per voxel", len(coords))
	}
	if err := checkPose(first); err != nil {
		return nil, nil, fmt.Errorf("point rays: %w", err)
	}
	inv := roundPose(first).inverse()
	camera, direction = make([]float32, len(coords)), make([]float32, len(coords))
	parallel.Ranges(len(coords)/3, 1<<12, func(lo, hi int) {
		for i := 3 * lo; i < 3*hi; i += 3 {
			x, y, z := round(float32(coords[i])), round(float32(coords[i+1])), round(float32(coords[i+2]))
			var c [3]float32
			for k := range 3 {
				c[k] = round(dot(inv.r[k][0], x, inv.r[k][1], y, inv.r[k][2], z) + inv.t[k])
			}
			d := normalize(normalize(c))
			for k := range 3 {
				camera[i+k], direction[i+k] = c[k], round(d[k])
			}
		}
	})
	return camera, direction, nil
}

func checkPose(p Pose) error {
	for j, v := range p {
		if v-v != 0 {
			return fmt.Errorf("pose: element [%d][%d] is %v, expected a finite number", j/4, j%4, v)
		}
	}
	return nil
}

// normalize is torch's in float32: a length below 1e-12 divides by 1e-12, so the zero vector stays.
func normalize(v [3]float32) [3]float32 {
	n := max(float32(math.Sqrt(float64(dot(v[0], v[0], v[1], v[1], v[2], v[2])))), 1e-12)
	return [3]float32{v[0] / n, v[1] / n, v[2] / n}
}
