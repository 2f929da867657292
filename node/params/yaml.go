package params

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"

	"github.com/stllm/stllm/node/smallfile"
	"github.com/stllm/stllm/node/yamltree"
)

// maxFile bounds a parameter file, bytes.
const maxFile = 1 << 20

// LoadFile is Load on a file.
func (p *Parameters) LoadFile(path, node string) error {
	data, err := readFile(path)
	if err != nil {
		return err
	}
	return p.Load(data, path, node)
}

func readFile(path string) ([]byte, error) {
	data, err := smallfile.Read(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("read parameters: %w", err)
	}
	return data, nil
}

// Load reads YAML in one of the forms that the ROS generations use: a flat list of parameters (rosparam), or lists under
// node names and ros__parameters (a ROS 2 parameter file), of which those for node, its base name or a wildcard apply, in
// the order of the file. file is for error messages, which carry the line. On an error p is as before.
func (p *Parameters) Load(data []byte, file, node string) error {
	next := *p
	if err := next.load(data, &loader{p: &next, file: file, node: node, seen: map[string]int{}}); err != nil {
		return err
	}
	*p = next
	return nil
}

func (p *Parameters) load(data []byte, l *loader) error {
	file := l.file
	if len(data) > maxFile {
		return fmt.Errorf("%s has %d bytes, expected at most %d", file, len(data), maxFile)
	}
	docs, err := yamltree.Documents(data)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	for _, doc := range docs {
		if err := l.top(doc); err != nil {
			return err
		}
	}
	if err := p.Validate(); err != nil {
		return l.located(err)
	}
	return nil
}

// loader walks one file.
type loader struct {
	p    *Parameters
	file string
	node string
	seen map[string]int // line on which each parameter was set

	// ros2: in sections of wildcards, and of names that ROS 2 gives to every node, what is not ours is foreign.
	ros2     bool
	wildcard bool // the section that is read is for several nodes
	foreign  []*UnknownError
}

// located adds the line on which the parameter was set.
func (l *loader) located(err error) error {
	var wrong *Error
	if errors.As(err, &wrong) && wrong.File == "" {
		at := *wrong
		if at.Line = l.seen[at.Name]; at.Line > 0 {
			at.File = l.file
			return &at
		}
	}
	return fmt.Errorf("%s: %w", l.file, err)
}

func entries(n ast.Node) ([]*ast.MappingValueNode, bool) {
	switch v := n.(type) {
	case *ast.MappingNode:
		return v.Values, true
	case *ast.MappingValueNode:
		return []*ast.MappingValueNode{v}, true
	case *ast.AnchorNode:
		return entries(v.Value)
	}
	return nil, false
}

func key(e *ast.MappingValueNode) string {
	if s, ok := e.Key.(*ast.StringNode); ok {
		return s.Value
	}
	return strings.Trim(e.Key.String(), `"' `)
}

func (l *loader) top(n ast.Node) error {
	list, ok := entries(n)
	if !ok {
		return fmt.Errorf("%s:%d: expected `name: value` lines, found %s", l.file, yamltree.Line(n), n.Type())
	}
	for _, e := range list {
		sub, nested := entries(e.Value)
		if !nested && e.Value.Type() == ast.NullType && (strings.HasPrefix(key(e), "/") || strings.Contains(key(e), "*")) {
			continue // a node without parameters
		}
		if !nested {
			if err := l.value(key(e), e); err != nil {
				return err
			}
			continue
		}
		if err := l.forNode(key(e), sub); err != nil {
			return err
		}
	}
	return nil
}

// forNode takes the mapping under a key that is a node name or wildcard.
func (l *loader) forNode(name string, list []*ast.MappingValueNode) error {
	for _, e := range list {
		if key(e) != "ros__parameters" {
			sub, nested := entries(e.Value)
			if !nested {
				return fmt.Errorf("%s:%d: expected ros__parameters under %q, found %q", l.file, yamltree.Line(e.Key), name, key(e))
			}
			if err := l.forNode(strings.TrimSuffix(name, "/")+"/"+strings.TrimPrefix(key(e), "/"), sub); err != nil { // namespace: node:
				return err
			}
			continue
		}
		if !applies(name, l.node) || e.Value.Type() == ast.NullType {
			continue
		}
		sub, nested := entries(e.Value)
		if !nested {
			return fmt.Errorf("%s:%d: expected `name: value` lines under ros__parameters, found %s", l.file, yamltree.Line(e.Value), e.Value.Type())
		}
		l.wildcard = strings.Contains(name, "*")
		for _, v := range sub {
			if err := l.value(key(v), v); err != nil {
				return err
			}
		}
	}
	return nil
}

// applies tells whether a section's name means the node. Wildcards are * for one name and ** for any.
func applies(section, node string) bool {
	if !strings.HasPrefix(section, "/") {
		section = "/**/" + section
	}
	return matches(strings.Split(section, "/")[1:], strings.Split(strings.TrimPrefix(node, "/"), "/"))
}

func matches(pattern, name []string) bool {
	switch {
	case len(pattern) == 0:
		return len(name) == 0
	case pattern[0] == "**":
		return matches(pattern[1:], name) || len(name) > 0 && matches(pattern, name[1:])
	case len(name) == 0:
		return false
	}
	return (pattern[0] == "*" || pattern[0] == name[0]) && matches(pattern[1:], name[1:])
}

func (l *loader) value(name string, e *ast.MappingValueNode) error {
	at := yamltree.Line(e.Key)
	d, err := find(name)
	if err != nil {
		unknown := err.(*UnknownError)
		unknown.File, unknown.Line = l.file, at
		if l.ros2 && (l.wildcard || ofEveryNode(name)) {
			l.foreign = append(l.foreign, unknown)
			return nil
		}
		return unknown
	}
	v, ok := scalar(e.Value, d.Kind)
	if !ok {
		return &Error{Name: name, Found: "a YAML " + strings.ToLower(e.Value.Type().String()), Expected: "a single value", File: l.file, Line: at}
	}
	if err := l.p.Set(name, v); err != nil {
		var wrong *Error
		if errors.As(err, &wrong) {
			wrong.File, wrong.Line = l.file, at
		}
		return err
	}
	l.seen[name] = at
	return nil
}

// scalar is the value of a node that has just one. Where text is wanted, `1` or `off` is meant as text.
func scalar(node ast.Node, kind Kind) (v any, ok bool) {
	switch n := node.(type) {
	case *ast.StringNode:
		return n.Value, true
	case *ast.LiteralNode:
		return strings.TrimRight(n.Value.Value, "\n"), true
	case *ast.NullNode:
		v = ""
	case *ast.BoolNode:
		v = n.Value
	case *ast.IntegerNode:
		v = n.Value
	case *ast.FloatNode:
		v = n.Value
	case *ast.InfinityNode:
		v = n.Value
	case *ast.NanNode:
		v = n.GetValue()
	default:
		return nil, false
	}
	if kind == String {
		v = strings.TrimSpace(node.GetToken().Value)
	}
	return v, true
}

// RenderYAML writes the commented parameter file with all defaults.
func RenderYAML() []byte {
	var b bytes.Buffer
	b.WriteString("# Parameters of stllm, all at their defaults. Made from the table in node/params; do not edit the comments here.\n" +
		"# For both ROS generations: `stllm node --params FILE`, or ros2's `--params-file FILE`. A flat list of the same names\n" +
		"# (as rosparam writes it) is read, too. Single ones: `_name:=value` (ROS 1), `-p name:=value` (ROS 2).\n" +
		"/**:\n  ros__parameters:\n")
	section := ""
	for i := range table {
		d := &table[i]
		if d.Section != section {
			section = d.Section
			fmt.Fprintf(&b, "\n    # --- %s ---\n", section)
		}
		for _, l := range wrap(d.Doc, 110) {
			fmt.Fprintf(&b, "\n    # %s", l)
		}
		fmt.Fprintf(&b, "\n    # %s%s.\n    %s: %s\n", capital(d.Range()), readOnly(d), d.Name, text(d.Default))
	}
	return b.Bytes()
}

// RenderMarkdown writes a table for the README.
func RenderMarkdown() []byte {
	var b bytes.Buffer
	b.WriteString("| parameter | default | range | meaning |\n|---|---|---|---|\n")
	for i := range table {
		d := &table[i]
		fmt.Fprintf(&b, "| `%s` | %s | %s%s | %s |\n", d.Name, text(d.Default), d.Range(), readOnly(d), d.Doc)
	}
	return b.Bytes()
}

func readOnly(d *Descriptor) string {
	if d.ReadOnly {
		return "; read at the start"
	}
	return ""
}

func capital(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func wrap(s string, width int) []string {
	var lines []string
	for _, w := range strings.Fields(s) {
		if n := len(lines); n > 0 && len(lines[n-1])+1+len(w) <= width {
			lines[n-1] += " " + w
		} else {
			lines = append(lines, w)
		}
	}
	return lines
}
