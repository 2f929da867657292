package points

import (
	"fmt"
	"math"

	"github.com/stllm/stllm/node/parallel"
)

// Normals estimates a unit normal for each query point from the cloud's points within radius (metres): the direction in
// which they are spread least, turned towards inward, a place inside the room. Three numbers per query point; a point with
// fewer than three neighbours, or whose neighbours lie on a line, has the normal 0.
//
// The published encoder was trained on normals of scanned meshes, which a robot's map does not have.
func Normals(xyz, query []float32, radius float64, inward [3]float64) ([]float32, error) {
	if err := checkPoints("normals", xyz); err != nil {
		return nil, err
	}
	if err := checkPoints("normals: query points", query); err != nil {
		return nil, err
	}
	if !(radius > 0) || math.IsInf(radius, 0) {
		return nil, fmt.Errorf("normals: radius is %v m, expected a positive number", radius)
	}
	cells, err := newCells(xyz, radius)
	if err != nil {
		return nil, fmt.Errorf("normals: %w", err)
	}
	out := make([]float32, len(query))
	parallel.Ranges(len(query)/3, 64, func(lo, hi int) {
		for i := lo; i < hi; i++ {
			x, y, z := float64(query[3*i]), float64(query[3*i+1]), float64(query[3*i+2])
			// Moments about the query point, so that nothing is lost far from the origin.
			var n, sx, sy, sz, xx, xy, xz, yy, yz, zz float64
			cells.around(x, y, z, func(k int32) {
				dx, dy, dz := float64(xyz[3*k])-x, float64(xyz[3*k+1])-y, float64(xyz[3*k+2])-z
				if dx*dx+dy*dy+dz*dz > radius*radius {
					return
				}
				n++
				sx, sy, sz = sx+dx, sy+dy, sz+dz
				xx, xy, xz, yy, yz, zz = xx+dx*dx, xy+dx*dy, xz+dx*dz, yy+dy*dy, yz+dy*dz, zz+dz*dz
			})
			if n < 3 {
				continue
			}
			v, ok := leastSpread([3][3]float64{
				{xx/n - sx/n*sx/n, xy/n - sx/n*sy/n, xz/n - sx/n*sz/n},
				{xy/n - sx/n*sy/n, yy/n - sy/n*sy/n, yz/n - sy/n*sz/n},
				{xz/n - sx/n*sz/n, yz/n - sy/n*sz/n, zz/n - sz/n*sz/n},
			})
			if !ok {
				continue
			}
			sign := 1.0
			if v[0]*(inward[0]-x)+v[1]*(inward[1]-y)+v[2]*(inward[2]-z) < 0 {
				sign = -1
			}
			for k := range 3 {
				out[3*i+k] = float32(sign * v[k])
			}
		}
	})
	return out, nil
}

// leastSpread returns the eigenvector of the smallest eigenvalue of a symmetric matrix by Jacobi's method; ok is false when
// the two smallest eigenvalues are alike, and no direction stands out.
func leastSpread(a [3][3]float64) (v [3]float64, ok bool) {
	e := [3][3]float64{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}} // columns are the eigenvectors
	for range 12 {
		if off := a[0][1]*a[0][1] + a[0][2]*a[0][2] + a[1][2]*a[1][2]; off == 0 {
			break
		}
		for _, pq := range [3][2]int{{0, 1}, {0, 2}, {1, 2}} {
			p, q := pq[0], pq[1]
			if a[p][q] == 0 {
				continue
			}
			theta := (a[q][q] - a[p][p]) / (2 * a[p][q])
			t := math.Copysign(1, theta) / (math.Abs(theta) + math.Sqrt(theta*theta+1))
			c := 1 / math.Sqrt(t*t+1)
			s := t * c
			for k := range 3 {
				a[k][p], a[k][q] = c*a[k][p]-s*a[k][q], s*a[k][p]+c*a[k][q]
			}
			for k := range 3 {
				a[p][k], a[q][k] = c*a[p][k]-s*a[q][k], s*a[p][k]+c*a[q][k]
				e[k][p], e[k][q] = c*e[k][p]-s*e[k][q], s*e[k][p]+c*e[k][q]
			}
		}
	}
	least, middle := 0, 1
	for k := range 3 {
		if a[k][k] < a[least][least] {
			least = k
		}
	}
	middle = (least + 1) % 3
	if other := (least + 2) % 3; a[other][other] < a[middle][middle] {
		middle = other
	}
	if !(a[middle][middle] > 1.0001*a[least][least]) || a[middle][middle] < 1e-12 {
		return v, false
	}
	return [3]float64{e[0][least], e[1][least], e[2][least]}, true
}
