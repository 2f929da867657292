// Package tour walks a camera through a furnished room: where it goes and looks, what is done on the way and where the small
// items are at every moment. All in the room's frame, metres, seconds from the start.
package tour

import (
	"container/heap"
	"math"

	"github.com/stllm/stllm/node/kitchen/room"
)

const (
	cell      = 0.06 // metres
	wallGap   = 0.32 // a person's middle keeps this from walls
	thingsGap = 0.26 // and this from furniture
)

type point struct{ x, y float64 }

func (p point) to(q point) float64 { return math.Hypot(q.x-p.x, q.y-p.y) }

func (p point) lerp(q point, f float64) point { return point{p.x + f*(q.x-p.x), p.y + f*(q.y-p.y)} }

// grid says where one can stand.
type grid struct {
	nx, ny int
	free   []bool
}

func newGrid(r *room.Room) *grid {
	g := &grid{nx: int(float64(r.W) / cell), ny: int(float64(r.D) / cell)}
	g.free = make([]bool, g.nx*g.ny)
	for i := range g.free {
		p := g.center(i)
		g.free[i] = p.x > wallGap && p.y > wallGap && p.x < float64(r.W)-wallGap && p.y < float64(r.D)-wallGap
	}
	for _, t := range r.Things {
		if t.Pos[2] > 0.5 || t.On >= 0 {
			continue
		}
		ex, ey := t.Extent()
		g.block(float64(t.Pos[0]-ex), float64(t.Pos[1]-ey), float64(t.Pos[0]+ex), float64(t.Pos[1]+ey), thingsGap)
	}
	g.settle()
	return g
}

func (g *grid) center(i int) point {
	return point{(float64(i%g.nx) + 0.5) * cell, (float64(i/g.nx) + 0.5) * cell}
}

func (g *grid) index(p point) int {
	x, y := int(p.x/cell), int(p.y/cell)
	if p.x < 0 || p.y < 0 || x >= g.nx || y >= g.ny {
		return -1
	}
	return y*g.nx + x
}

// block takes away a rectangle and gap around it.
func (g *grid) block(x0, y0, x1, y1, gap float64) {
	for i := range g.free {
		p := g.center(i)
		dx, dy := max(x0-p.x, 0, p.x-x1), max(y0-p.y, 0, p.y-y1)
		if dx*dx+dy*dy < gap*gap {
			g.free[i] = false
		}
	}
}

// settle keeps the largest connected part of the free floor and returns its area in square metres.
func (g *grid) settle() float64 {
	mark := make([]int, len(g.free))
	best, bestSize, n := 0, 0, 0
	var stack []int
	for i := range g.free {
		if !g.free[i] || mark[i] != 0 {
			continue
		}
		n++
		size := 0
		stack = append(stack[:0], i)
		mark[i] = n
		for len(stack) > 0 {
			j := stack[len(stack)-1]
			stack = stack[:len(stack)-1]
			size++
			g.neighbours(j, func(k int, _ float64) {
				if mark[k] == 0 {
					mark[k] = n
					stack = append(stack, k)
				}
			})
		}
		if size > bestSize {
			best, bestSize = n, size
		}
	}
	for i := range g.free {
		g.free[i] = g.free[i] && mark[i] == best
	}
	return float64(bestSize) * cell * cell
}

func (g *grid) neighbours(i int, visit func(j int, cost float64)) {
	x, y := i%g.nx, i/g.nx
	for dy := -1; dy <= 1; dy++ {
		for dx := -1; dx <= 1; dx++ {
			if dx == 0 && dy == 0 || x+dx < 0 || y+dy < 0 || x+dx >= g.nx || y+dy >= g.ny {
				continue
			}
			if j := (y+dy)*g.nx + x + dx; g.free[j] {
				visit(j, cell*math.Hypot(float64(dx), float64(dy)))
			}
		}
	}
}

func (g *grid) at(p point) bool {
	i := g.index(p)
	return i >= 0 && g.free[i]
}

// clear tells whether the straight way is free.
func (g *grid) clear(a, b point) bool {
	n := int(a.to(b)/(cell/2)) + 1
	for i := range n + 1 {
		if !g.at(a.lerp(b, float64(i)/float64(n))) {
			return false
		}
	}
	return true
}

type node struct {
	i    int
	cost float64
}
type queue []node

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].cost < q[j].cost }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(v any)        { *q = append(*q, v.(node)) }
func (q *queue) Pop() any {
	v := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return v
}

// path finds a short way as corners from a to b, nil where there is none (A* on the grid, then pulled tight).
func (g *grid) path(a, b point) []point {
	from, to := g.index(a), g.index(b)
	if from < 0 || to < 0 || !g.free[from] || !g.free[to] {
		return nil
	}
	cost := map[int]float64{from: 0}
	prev := map[int]int{}
	open := &queue{{from, 0}}
	goal := g.center(to)
	for open.Len() > 0 {
		n := heap.Pop(open).(node)
		if n.i == to {
			break
		}
		g.neighbours(n.i, func(j int, c float64) {
			d := cost[n.i] + c
			if old, ok := cost[j]; !ok || d < old-1e-9 {
				cost[j], prev[j] = d, n.i
				heap.Push(open, node{j, d + g.center(j).to(goal)})
			}
		})
	}
	if _, ok := cost[to]; !ok {
		return nil
	}
	way := []point{b}
	for i := to; i != from; i = prev[i] {
		way = append(way, g.center(i))
	}
	way = append(way, a)
	for i, j := 0, len(way)-1; i < j; i, j = i+1, j-1 {
		way[i], way[j] = way[j], way[i]
	}
	out := []point{a}
	for i := 0; i < len(way)-1; {
		j := len(way) - 1
		for j > i+1 && !g.clear(way[i], way[j]) {
			j--
		}
		out = append(out, way[j])
		i = j
	}
	return out
}
