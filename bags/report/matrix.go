package report

import (
	"fmt"
	"html/template"
	"slices"

	"github.com/stllm/stllm/bags/eval"
	"github.com/stllm/stllm/node/stllm"
)

// maxLabels is the number of rows of a matrix that a page has room for.
const maxLabels = 12

// otherLabels stands for the labels that a matrix has no room for.
const otherLabels = "(all others)"

// matrix is a confusion matrix as a table.
type matrix struct {
	Name    string
	Task    stllm.Task
	Columns []string
	Rows    []matrixRow
	Hidden  int // labels within otherLabels
	Right   int
	Total   int
}

type matrixRow struct {
	Label string
	Cells []matrixCell
}

type matrixCell struct {
	Count int
	Diag  bool
	Style template.CSS
}

// matrixOf keeps the most frequent true labels and adds up the rest; right answers among these are still counted as right.
func matrixOf(name string, c eval.Confusion) matrix {
	m := matrix{Name: name, Task: c.Task}
	total := make([]int, len(c.Labels))
	for i, row := range c.Counts {
		for j, n := range row {
			total[i] += n
			m.Total += n
			if i == j && c.Labels[i] != "(none)" {
				m.Right += n
			}
		}
	}
	order := make([]int, len(c.Labels))
	for i := range order {
		order[i] = i
	}
	if len(order) > maxLabels {
		slices.SortStableFunc(order, func(a, b int) int { return total[b] - total[a] })
		order = order[:maxLabels-2]
		if none := slices.Index(c.Labels, "(none)"); none >= 0 && !slices.Contains(order, none) {
			order = append(order, none)
		}
		slices.Sort(order)
		m.Hidden = len(c.Labels) - len(order)
	}
	place := make([]int, len(c.Labels))
	for i := range place {
		place[i] = slices.Index(order, i)
		if place[i] < 0 {
			place[i] = len(order)
		}
	}
	for _, i := range order {
		m.Columns = append(m.Columns, shorten(c.Labels[i], 34))
	}
	if m.Hidden > 0 {
		m.Columns = append(m.Columns, otherLabels)
	}
	counts := make([][]int, len(m.Columns))
	for i := range counts {
		counts[i] = make([]int, len(m.Columns))
	}
	for i, row := range c.Counts {
		for j, n := range row {
			counts[place[i]][place[j]] += n
		}
	}
	for i, row := range counts {
		sum := 0
		for _, n := range row {
			sum += n
		}
		if sum == 0 {
			continue // never true, only answered
		}
		r := matrixRow{Label: m.Columns[i]}
		for j, n := range row {
			diag := i == j && m.Columns[i] != otherLabels
			r.Cells = append(r.Cells, matrixCell{n, diag, shade(float64(n)/float64(sum), diag)})
		}
		m.Rows = append(m.Rows, r)
	}
	return m
}

// shade colours a cell by its share of the row: right ones green, wrong ones orange.
func shade(share float64, right bool) template.CSS {
	if share == 0 {
		return ""
	}
	r, g, b := 213, 94, 0 // Okabe and Ito's vermilion, and bluish green: told apart by all eyes
	if right {
		r, g, b = 0, 158, 115
	}
	return template.CSS(fmt.Sprintf("background:rgba(%d,%d,%d,%.2f)", r, g, b, 0.15+0.6*share))
}
