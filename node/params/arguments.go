package params

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"

	"github.com/stllm/stllm/node/yamltree"
)

// ROS1Arguments takes private parameters (`_name:=value`) out of a ROS 1 command line and returns the other arguments.
// `__name:=` and its like are not parameters.
func (p *Parameters) ROS1Arguments(args []string) ([]string, error) {
	var rest []string
	next := *p
	for _, a := range args {
		name, value, ok := strings.Cut(a, ":=")
		if !ok || !strings.HasPrefix(name, "_") || strings.HasPrefix(name, "__") {
			rest = append(rest, a)
			continue
		}
		if err := next.Set(name[1:], value); err != nil {
			return nil, fmt.Errorf("argument %q: %w", a, err)
		}
	}
	if err := next.Validate(); err != nil {
		return nil, err
	}
	*p = next
	return rest, nil
}

// ROS2Arguments takes what a ROS 2 command line says of a node: parameter files in their order (`--params-file`), then single
// values as YAML text by name (`-p name:=value`), which win, as in rcl. Names in a wildcard section, or of the parameters that
// ROS 2 gives to every node, are returned where the node does not have them; any other unknown name is an error. On an error
// p is as before.
func (p *Parameters) ROS2Arguments(files []string, values map[string]string, node string) (foreign []*UnknownError, err error) {
	next := *p
	for _, path := range files {
		data, err := readFile(path)
		if err != nil {
			return nil, err
		}
		l := &loader{p: &next, file: path, node: node, seen: map[string]int{}, ros2: true}
		if err := next.load(data, l); err != nil {
			return nil, err
		}
		foreign = append(foreign, l.foreign...)
	}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		d, err := find(name)
		if err != nil {
			if !ofEveryNode(name) {
				return nil, err
			}
			foreign = append(foreign, err.(*UnknownError))
			continue
		}
		v, err := d.yaml(values[name])
		if err != nil {
			return nil, fmt.Errorf("argument -p %s:=%s: %w", name, values[name], err)
		}
		if err := next.Set(name, v); err != nil {
			return nil, fmt.Errorf("argument -p %s:=%s: %w", name, values[name], err)
		}
	}
	if err := next.Validate(); err != nil {
		return nil, err
	}
	*p = next
	return foreign, nil
}

// yaml reads a single value.
func (d *Descriptor) yaml(value string) (any, error) {
	wrong := &Error{Name: d.Name, Found: text(value), Expected: "a single YAML value: " + d.expected()}
	if len(value) > maxText || yamltree.TooDeep([]byte(value)) > 0 {
		return nil, wrong
	}
	tree, err := parser.ParseBytes([]byte(value), 0)
	if err != nil || len(tree.Docs) > 1 {
		return nil, wrong
	}
	if len(tree.Docs) == 0 || tree.Docs[0].Body == nil || tree.Docs[0].Body.Type() == ast.CommentType {
		return "", nil
	}
	v, ok := scalar(tree.Docs[0].Body, d.Kind)
	if !ok {
		return nil, wrong
	}
	return v, nil
}

// ofEveryNode tells parameters that rclcpp and rclpy nodes have and this one does not.
func ofEveryNode(name string) bool {
	return name == "start_type_description_service" || name == "qos_overrides" || strings.HasPrefix(name, "qos_overrides.")
}
