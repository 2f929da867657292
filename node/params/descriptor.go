package params

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
)

// Kind is the type of a parameter's value.
type Kind string

// The kinds, with the Go type of their values.
const (
	Bool    Kind = "bool"    // bool
	Integer Kind = "integer" // int64
	Double  Kind = "double"  // float64
	String  Kind = "string"  // string
)

// Descriptor says what a parameter is.
type Descriptor struct {
	Name     string
	Section  string // heading under which it is listed
	Unit     string // empty for numbers without one
	Doc      string // one or two sentences: what it does and what a change costs
	Kind     Kind
	Default  any
	Min, Max float64  // of numbers, inclusive
	Values   []string // of strings that may only be one of these
	ReadOnly bool     // read once at the start

	field func(*Parameters) any // a pointer to the field
}

// Descriptors lists all parameters in the order in which they should be shown.
func Descriptors() []Descriptor { return slices.Clone(table) }

// Names lists all parameters' names.
func Names() []string {
	names := make([]string, len(table))
	for i, d := range table {
		names[i] = d.Name
	}
	return names
}

// Range is what a value may be, in words.
func (d *Descriptor) Range() string {
	unit := ""
	if d.Unit != "" {
		unit = " " + d.Unit
	}
	switch {
	case len(d.Values) > 0:
		return "one of " + strings.Join(d.Values, ", ")
	case d.Kind == Bool:
		return "true or false"
	case d.Kind == Integer || d.Kind == Double:
		return fmt.Sprintf("%s to %s%s", number(d.Min), number(d.Max), unit)
	}
	return "text"
}

func (d *Descriptor) load(p *Parameters) any {
	switch f := d.field(p).(type) {
	case *bool:
		return *f
	case *int64:
		return *f
	case *float64:
		return *f
	case *string:
		return *f
	default:
		panic(fmt.Sprintf("parameter %s has a field of type %T", d.Name, f)) // a test visits every row
	}
}

// store puts a value of the right type into its field.
func (d *Descriptor) store(p *Parameters, v any) {
	switch f := d.field(p).(type) {
	case *bool:
		*f = v.(bool)
	case *int64:
		*f = v.(int64)
	case *float64:
		*f = v.(float64)
	case *string:
		*f = v.(string)
	}
}

// Error says which parameter has a wrong value.
type Error struct {
	Name, Found, Expected string
	File                  string // where it was read, empty when not from a file
	Line                  int
}

func (e *Error) Error() string {
	s := fmt.Sprintf("parameter %s is %s, expected %s", e.Name, e.Found, e.Expected)
	if e.File != "" {
		s = fmt.Sprintf("%s:%d: %s", e.File, e.Line, s)
	}
	return s
}

// convert checks a value and gives it the parameter's type.
func (d *Descriptor) convert(value any) (any, error) {
	wrong := func() error { return &Error{Name: d.Name, Found: text(value), Expected: d.expected()} }
	switch d.Kind {
	case Bool:
		switch v := value.(type) {
		case bool:
			return v, nil
		case string:
			switch strings.ToLower(strings.TrimSpace(v)) {
			case "true", "yes", "on", "1":
				return true, nil
			case "false", "no", "off", "0":
				return false, nil
			}
		}
		return nil, wrong()
	case String:
		v, ok := value.(string)
		if !ok || len(v) > maxText || len(d.Values) > 0 && !slices.Contains(d.Values, v) || strings.ContainsAny(v, "\n\x00") {
			return nil, wrong()
		}
		if d.Name == "fixed_frame" && strings.Trim(v, "/ ") == "" {
			return nil, wrong()
		}
		return v, nil
	case Integer:
		n, ok := integer(value)
		if !ok || float64(n) < d.Min || float64(n) > d.Max {
			return nil, wrong()
		}
		return n, nil
	}
	f, ok := real(value)
	if !ok || !(f >= d.Min && f <= d.Max) { // NaN is refused, too
		return nil, wrong()
	}
	return f, nil
}

// maxText bounds names and paths, bytes.
const maxText = 4096

func (d *Descriptor) expected() string {
	switch {
	case d.Kind == Integer:
		return "a whole number, " + d.Range()
	case d.Kind == Double:
		return "a number, " + d.Range()
	case d.Name == "fixed_frame":
		return "the name of a frame"
	case d.Kind == String && len(d.Values) == 0:
		return "text in one line"
	}
	return d.Range()
}

func integer(value any) (int64, bool) {
	switch v := value.(type) {
	case int:
		return int64(v), true
	case int64:
		return v, true
	case uint64:
		return int64(v), v <= math.MaxInt64
	case float64:
		return int64(v), v == math.Trunc(v) && math.Abs(v) < 1<<53
	case string:
		n, err := strconv.ParseInt(strings.TrimSpace(v), 10, 64)
		return n, err == nil
	}
	return 0, false
}

func real(value any) (float64, bool) {
	switch v := value.(type) {
	case int:
		return float64(v), true
	case int64:
		return float64(v), true
	case uint64:
		return float64(v), true
	case float64:
		return v, true
	case string:
		f, err := strconv.ParseFloat(strings.TrimSpace(v), 64)
		return f, err == nil
	}
	return 0, false
}

// text shows a value as YAML would.
func text(value any) string {
	switch v := value.(type) {
	case float64:
		s := number(v)
		if !strings.ContainsAny(s, ".eIN") {
			s += ".0"
		}
		return s
	case string:
		return strconv.Quote(v)
	case nil:
		return "empty"
	}
	return fmt.Sprint(value)
}

func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1e15 {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

// Lookup finds a parameter's descriptor.
func Lookup(name string) (Descriptor, bool) {
	for i := range table {
		if table[i].Name == name {
			return table[i], true
		}
	}
	return Descriptor{}, false
}

// find is Lookup with an error that names the nearest known one.
func find(name string) (*Descriptor, error) {
	if d, ok := Lookup(name); ok {
		return &d, nil
	}
	best, distance := "", math.MaxInt
	for i := range table {
		if d := editDistance(name, table[i].Name); d < distance {
			best, distance = table[i].Name, d
		}
	}
	return nil, &UnknownError{Name: name, Nearest: best}
}

// UnknownError says that there is no such parameter.
type UnknownError struct {
	Name, Nearest string
	File          string
	Line          int
}

func (e *UnknownError) Error() string {
	s := fmt.Sprintf("there is no parameter %q; the nearest name is %q", e.Name, e.Nearest)
	if e.File != "" {
		s = fmt.Sprintf("%s:%d: %s", e.File, e.Line, s)
	}
	return s
}

// editDistance is Levenshtein's, over bytes; long names are cut, since only near ones matter.
func editDistance(a, b string) int {
	a, b = a[:min(len(a), 64)], b[:min(len(b), 64)]
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
