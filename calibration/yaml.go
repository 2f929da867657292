package calibration

import (
	"bytes"
	"fmt"
	"math"
	"strconv"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// Limits of a file: the parser's time grows with the square of the nesting.
const (
	maxFile  = 1 << 20
	maxDepth = 64
)

// value is a node of a file. The tree is read as it is, since go-yaml's decoder into structs panics on some tags and keeps no
// lines for what is checked later.
type value struct {
	node ast.Node
	line int
	name string // for messages
}

func (v value) fail(format string, args ...any) error {
	return fmt.Errorf("line %d: %s", v.line, fmt.Sprintf(format, args...))
}

// parse returns the top of a file; its node is nil when the file is empty.
func parse(data []byte) (value, error) {
	if len(data) > maxFile {
		return value{}, fmt.Errorf("%d bytes, expected at most %d", len(data), maxFile)
	}
	if at := tooDeep(data); at > 0 {
		return value{}, fmt.Errorf("line %d: nested more than %d levels deep", at, maxDepth)
	}
	tree, err := parser.ParseBytes(data, 0)
	if err != nil {
		return value{}, fmt.Errorf("not YAML: %s", yaml.FormatError(err, false, false)) // carries line and column
	}
	for _, doc := range tree.Docs {
		if doc != nil && !empty(doc.Body) {
			return at(doc.Body, 1, "the file"), nil
		}
	}
	return value{line: 1, name: "the file"}, nil
}

// tooDeep returns the line where brackets, dashes or indentation go too deep, or 0.
func tooDeep(data []byte) int {
	open, line := 0, 0
	for text := range bytes.Lines(data) {
		line++
		body := bytes.TrimLeft(text, " ")
		indent, dashes := len(text)-len(body), 0
		for len(body) > 1 && (body[0] == '-' || body[0] == '?') && (body[1] == ' ' || body[1] == '\t') {
			dashes++
			body = bytes.TrimLeft(body[1:], " \t")
		}
		if dashes > maxDepth || indent > 8*maxDepth {
			return line
		}
		for _, c := range body {
			switch c {
			case '[', '{':
				if open++; open > maxDepth {
					return line
				}
			case ']', '}':
				open = max(0, open-1)
			}
		}
	}
	return 0
}

func empty(n ast.Node) bool {
	return n == nil || n.Type() == ast.NullType || n.Type() == ast.CommentType
}

// at unwraps tags; line is used where the node has none.
func at(n ast.Node, line int, name string) value {
	for range maxDepth {
		tag, ok := n.(*ast.TagNode)
		if !ok {
			break
		}
		n = tag.Value
	}
	if n != nil {
		if tok := n.GetToken(); tok != nil && tok.Position != nil {
			line = tok.Position.Line
		}
	}
	return value{n, line, name}
}

// fields are the entries of a mapping, by key. A key that comes twice is an error, and so is one that known does not have,
// unless known is nil.
func (v value) fields(known ...string) (map[string]value, error) {
	var entries []*ast.MappingValueNode
	switch n := v.node.(type) {
	case *ast.MappingNode:
		entries = n.Values
	case *ast.MappingValueNode:
		entries = []*ast.MappingValueNode{n}
	default:
		return nil, v.fail("%s is not a mapping of names to values", v.name)
	}
	out := map[string]value{}
	for _, e := range entries {
		if e == nil || e.Key == nil || e.Key.GetToken() == nil {
			return nil, v.fail("%s has an entry without a name", v.name)
		}
		key := e.Key.GetToken().Value
		f := at(e.Value, e.Key.GetToken().Position.Line, key)
		if _, twice := out[key]; twice {
			return nil, f.fail("%s is there twice", key)
		}
		if known != nil && !contains(known, key) {
			return nil, f.fail("%q is not known, expected one of %q", key, known)
		}
		out[key] = f
	}
	return out, nil
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

func (v value) items() ([]value, error) {
	list, ok := v.node.(*ast.SequenceNode)
	if !ok {
		return nil, v.fail("%s is not a list", v.name)
	}
	out := make([]value, len(list.Values))
	for i, n := range list.Values {
		out[i] = at(n, v.line, fmt.Sprintf("%s[%d]", v.name, i))
	}
	return out, nil
}

func (v value) text() (string, error) {
	switch n := v.node.(type) {
	case *ast.StringNode:
		return n.Value, nil
	case *ast.IntegerNode, *ast.FloatNode: // a frame may be called 7
		return n.GetToken().Value, nil
	}
	if empty(v.node) {
		return "", nil
	}
	return "", v.fail("%s is not a text", v.name)
}

func (v value) number() (float64, error) {
	switch n := v.node.(type) {
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
	return 0, v.fail("%s is not a number", v.name)
}

// size is a whole number from 0 to 2^31.
func (v value) size() (int, error) {
	f, err := v.number()
	if err != nil {
		return 0, err
	}
	if !(f >= 0 && f <= 1<<31) || f != math.Trunc(f) {
		return 0, v.fail("%s is %v, expected a whole number of at least 0", v.name, f)
	}
	return int(f), nil
}

func (v value) numbers() ([]float64, error) {
	list, err := v.items()
	if err != nil {
		return nil, err
	}
	out := make([]float64, len(list))
	for i, item := range list {
		if out[i], err = item.number(); err != nil {
			return nil, err
		}
	}
	return out, nil
}
