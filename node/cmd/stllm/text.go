package main

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/stllm/stllm/node/checkpoint/layout"
)

// terminal tells whether messages go to a person's screen.
func (a *app) terminal() bool {
	f, ok := a.err.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func keys(set map[string]bool) string { return strings.Join(slices.Sorted(maps.Keys(set)), ", ") }

func millions(n int64) string {
	switch {
	case n >= 1e9:
		return fmt.Sprintf("%.2f G", float64(n)/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.2f M", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f k", float64(n)/1e3)
}

// trimPoint is a point encoder tensor's name in its own file.
func trimPoint(name string) string { return strings.TrimPrefix(name, layout.PointEncoder) }
