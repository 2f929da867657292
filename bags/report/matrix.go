package report

import (
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/stllm/stllm/bags/eval"
	"github.com/stllm/stllm/node/stllm"
)

// maxLabels is the number of rows of a matrix that a page has room for.
const maxLabels = 12

// longLabel is the length from which columns have numbers instead of labels.
const longLabel = 24

// noLabel is what metrics.Confuse calls an answer without a label; it is never right.
const noLabel = "(none)"

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
	Label string // with its column's number where columns are numbered
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
			if i == j && c.Labels[i] != noLabel {
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
		if none := slices.Index(c.Labels, noLabel); none >= 0 && !slices.Contains(order, none) {
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
		m.Columns = append(m.Columns, shorten(c.Labels[i], 60))
	}
	if m.Hidden > 0 {
		m.Columns = append(m.Columns, otherLabels)
	}
	names := slices.Clone(m.Columns)
	if slices.ContainsFunc(names, func(s string) bool { return utf8.RuneCountInString(s) > longLabel }) {
		for i := range names {
			m.Columns[i] = strconv.Itoa(i + 1)
			names[i] = m.Columns[i] + ". " + names[i]
		}
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
			if names[i] == m.Columns[i] {
				continue // never true, only answered
			}
			// Its number has to be explained all the same.
		}
		r := matrixRow{Label: names[i]}
		for j, n := range row {
			diag := i == j && i < len(order) && c.Labels[order[i]] != noLabel
			r.Cells = append(r.Cells, matrixCell{n, diag, shade(float64(n)/float64(max(sum, 1)), diag)})
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
