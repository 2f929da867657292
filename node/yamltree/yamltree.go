// Package yamltree reads YAML that others wrote. It walks the parser's tree, since go-yaml's decoder into structs panics on some
// tags, speaks of Go types and keeps no lines for what is checked later.
package yamltree

import (
	"bytes"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// MaxDepth bounds nesting: the parser's time grows with its square.
const MaxDepth = 64

// Documents returns the documents of a file that are not empty. Errors name the line.
func Documents(data []byte) ([]ast.Node, error) {
	if at := TooDeep(data); at > 0 {
		return nil, fmt.Errorf("line %d: nested too deeply (more than %d levels)", at, MaxDepth)
	}
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, fmt.Errorf("not YAML: %s", yaml.FormatError(err, false, false)) // carries line and column
	}
	var out []ast.Node
	for _, doc := range tree.Docs {
		if doc != nil && !empty(doc.Body) {
			out = append(out, doc.Body)
		}
	}
	return out, nil
}

// TooDeep returns the line on which brackets, dashes or indentation go too deep, or 0. Brackets within text that are never
// closed count as well; hardly a file has that many.
func TooDeep(data []byte) int {
	open, line := 0, 0
	for text := range bytes.Lines(data) {
		line++
		body := bytes.TrimLeft(text, " ")
		indent, dashes := len(text)-len(body), 0
		for len(body) > 1 && (body[0] == '-' || body[0] == '?') && (body[1] == ' ' || body[1] == '\t') {
			dashes++
			body = bytes.TrimLeft(body[1:], " \t")
		}
		if dashes > MaxDepth || indent > 8*MaxDepth {
			return line
		}
		for _, c := range body {
			switch c {
			case '[', '{':
				if open++; open > MaxDepth {
					return line
				}
			case ']', '}':
				open = max(0, open-1)
			case '#':
				if open == 0 {
					goto next
				}
			}
		}
	next:
	}
	return 0
}

// Line is where a node stands, or 0.
func Line(n ast.Node) int {
	if n == nil {
		return 0
	}
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

func empty(n ast.Node) bool {
	return n == nil || n.Type() == ast.NullType || n.Type() == ast.CommentType
}

// Node is a value of a file.
type Node struct {
	ast  ast.Node
	Line int
	Name string // for messages
}

// Parse returns the first document of a file; it is empty when the file is.
func Parse(data []byte) (Node, error) {
	docs, err := Documents(data)
	if err != nil {
		return Node{}, err
	}
	if len(docs) == 0 {
		return Node{Line: 1, Name: "the file"}, nil
	}
	return at(docs[0], 1, "the file"), nil
}

// at unwraps tags and anchors; line is used where the node has none.
func at(n ast.Node, line int, name string) Node {
unwrap:
	for range MaxDepth {
		switch outer := n.(type) {
		case *ast.TagNode:
			n = outer.Value
		case *ast.AnchorNode:
			n = outer.Value
		default:
			break unwrap
		}
	}
	if l := Line(n); l > 0 {
		line = l
	}
	return Node{n, line, name}
}

// Fail is an error that names the line.
func (v Node) Fail(format string, args ...any) error {
	return fmt.Errorf("line %d: %s", v.Line, fmt.Sprintf(format, args...))
}

// Empty tells whether there is no value.
func (v Node) Empty() bool { return empty(v.ast) }

// Fields are the entries of a mapping, by key. A key that comes twice is an error, and so is one that known does not have,
// unless known is nil.
func (v Node) Fields(known ...string) (map[string]Node, error) {
	var entries []*ast.MappingValueNode
	switch n := v.ast.(type) {
	case *ast.MappingNode:
		entries = n.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{n}
	default:
		return nil, v.Fail("%s is not a mapping of names to values", v.Name)
	}
	out := map[string]Node{}
	for _, e := range entries {
		if e == nil || e.Key == nil || e.Key.GetToken() == nil {
			return nil, v.Fail("%s has an entry without a name", v.Name)
		}
		key := e.Key.GetToken().Value
		f := at(e.Value, e.Key.GetToken().Position.Line, key)
		if _, twice := out[key]; twice {
			return nil, f.Fail("%s is there twice", key)
		}
		if known != nil && !slices.Contains(known, key) {
			return nil, f.Fail("%q is not known, expected one of %q", key, known)
		}
		out[key] = f
	}
	return out, nil
}

// Items are the entries of a list.
func (v Node) Items() ([]Node, error) {
	list, ok := v.ast.(*ast.SequenceNode)
	if !ok {
		return nil, v.Fail("%s is not a list", v.Name)
	}
	out := make([]Node, len(list.Values))
	for i, n := range list.Values {
		out[i] = at(n, v.Line, fmt.Sprintf("%s[%d]", v.Name, i))
	}
	return out, nil
}

// Text is a single value as text; "" where there is none.
func (v Node) Text() (string, error) {
	switch n := v.ast.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode: // a frame may be called 7
		return n.GetToken().Value, nil
	}
	if v.Empty() {
		return "", nil
	}
	return "", v.Fail("%s is not a text", v.Name)
}

// Number is a number in any form.
func (v Node) Number() (float64, error) {
	switch n := v.ast.(type) {
	case *ast.FloatNode:
		return n.Value, nil
	case *ast.NanNode:
		return math.NaN(), nil
	case *ast.InfinityNode:
		return n.Value, nil
	case *ast.IntegerNode:
		switch i := n.Value.(type) {
		case int64:
			return float64(i), nil
		case uint64:
			return float64(i), nil
		}
	case *ast.StringNode: // forms that YAML does not take for numbers, such as "585."
		if f, err := strconv.ParseFloat(n.Value, 64); err == nil {
			return f, nil
		}
	}
	return 0, v.Fail("%s is not a number", v.Name)
}

// Size is a whole number from 0 to 2^31.
func (v Node) Size() (int, error) {
	f, err := v.Number()
	if err != nil {
		return 0, err
	}
	if !(f >= 0 && f <= 1<<31) || f != math.Trunc(f) {
		return 0, v.Fail("%s is %v, expected a whole number of at least 0", v.Name, f)
	}
	return int(f), nil
}

// Numbers is a list of numbers.
func (v Node) Numbers() ([]float64, error) {
	list, err := v.Items()
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(list))
	for i, item := range list {
		if out[i], err = item.Number(); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Any is a value of any form: map[string]any, []any, string, bool, int64, uint64, float64 or nil.
func (v Node) Any() (any, error) {
	switch n := v.ast.(type) {
	case *ast.MappingNode, *ast.MappingValueNode:
		fields, err := v.Fields()
		if err != nil {
			return nil, err
		}
		out := make(map[string]any, len(fields))
		for name, f := range fields {
			if out[name], err = f.Any(); err != nil {
				return nil, err
			}
		}
		return out, nil
	case *ast.SequenceNode:
		items, err := v.Items()
		if err != nil {
			return nil, err
		}
		out := make([]any, len(items))
		for i, item := range items {
			if out[i], err = item.Any(); err != nil {
				return nil, err
			}
		}
		return out, nil
	case *ast.LiteralNode:
		return n.Value.Value, nil
	case *ast.AliasNode: // what it stands for is not looked up
	case ast.ScalarNode:
		return n.GetValue(), nil
	}
	if v.Empty() {
		return nil, nil
	}
	return nil, v.Fail("%s is not a value", v.Name)
}
