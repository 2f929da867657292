package parameters

import (
	"fmt"
	"slices"
	"strings"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/params"
)

// typeNames are those of `ros2 param`, by number (rcl_interfaces/ParameterType).
var typeNames = [...]string{"not set", "bool", "integer", "double", "string", "byte array", "bool array", "integer array", "double array", "string array"}

func typeName(typ uint8) string {
	if int(typ) < len(typeNames) {
		return typeNames[typ]
	}
	return fmt.Sprintf("type %d", typ)
}

func typeOf(k params.Kind) uint8 {
	switch k {
	case params.Bool:
		return msgs.ParameterTypeParameterBool
	case params.Integer:
		return msgs.ParameterTypeParameterInteger
	case params.Double:
		return msgs.ParameterTypeParameterDouble
	case params.String:
		return msgs.ParameterTypeParameterString
	}
	return msgs.ParameterTypeParameterNotSet
}

// value is a parameter's value as a message; other types than those of package params are "not set".
func value(v any) msgs.ParameterValue {
	switch v := v.(type) {
	case bool:
		return msgs.ParameterValue{Type: msgs.ParameterTypeParameterBool, BoolValue: v}
	case int64:
		return msgs.ParameterValue{Type: msgs.ParameterTypeParameterInteger, IntegerValue: v}
	case float64:
		return msgs.ParameterValue{Type: msgs.ParameterTypeParameterDouble, DoubleValue: v}
	case string:
		return msgs.ParameterValue{Type: msgs.ParameterTypeParameterString, StringValue: v}
	}
	return msgs.ParameterValue{}
}

// values looks parameters up.
func values(p *params.Parameters, names []string) ([]msgs.Parameter, error) {
	list := make([]msgs.Parameter, 0, len(names))
	for _, name := range names {
		v, err := p.Get(name)
		if err != nil {
			return nil, err
		}
		list = append(list, msgs.Parameter{Name: name, Value: value(v)})
	}
	return list, nil
}

// checked takes the value out of a message. Types are fixed: a whole number is no double, as with rclcpp's statically typed
// parameters. Whether the value is in its range is for the store to say.
func checked(p *msgs.Parameter) (any, error) {
	d, ok := params.Lookup(p.Name)
	if !ok {
		defaults := params.Default()
		_, err := defaults.Get(p.Name) // its error names the nearest one
		return nil, err
	}
	want := typeOf(d.Kind)
	switch {
	case p.Value.Type == msgs.ParameterTypeParameterNotSet:
		return nil, fmt.Errorf("parameter %s cannot be removed: the node needs it", p.Name)
	case p.Value.Type == msgs.ParameterTypeParameterInteger && want == msgs.ParameterTypeParameterDouble:
		return nil, fmt.Errorf("parameter %s is a double, found the integer %d; write %d.0", p.Name, p.Value.IntegerValue, p.Value.IntegerValue)
	case p.Value.Type != want:
		return nil, fmt.Errorf("parameter %s is of type %s, found %s", p.Name, typeName(want), typeName(p.Value.Type))
	}
	switch want {
	case msgs.ParameterTypeParameterBool:
		return p.Value.BoolValue, nil
	case msgs.ParameterTypeParameterInteger:
		return p.Value.IntegerValue, nil
	case msgs.ParameterTypeParameterDouble:
		return p.Value.DoubleValue, nil
	}
	return p.Value.StringValue, nil
}

// descriptor describes a parameter as rcl_interfaces has it.
func descriptor(d params.Descriptor) msgs.ParameterDescriptor {
	out := msgs.ParameterDescriptor{Name: d.Name, Type: typeOf(d.Kind), Description: d.Doc, ReadOnly: d.ReadOnly}
	if d.Unit != "" {
		out.Description += " Unit: " + d.Unit + "."
	}
	switch {
	case d.Kind == params.Integer:
		out.IntegerRange = []msgs.IntegerRange{{FromValue: int64(d.Min), ToValue: int64(d.Max), Step: 1}}
	case d.Kind == params.Double:
		out.FloatingPointRange = []msgs.FloatingPointRange{{FromValue: d.Min, ToValue: d.Max}}
	case len(d.Values) > 0:
		out.AdditionalConstraints = "One of: " + strings.Join(d.Values, ", ")
	}
	if d.ReadOnly {
		out.AdditionalConstraints = strings.TrimSpace(out.AdditionalConstraints + " Read once at the start.")
	}
	return out
}

// choose lists names as rclcpp does: all of them, or those that are one of the prefixes or below it; with a depth, those with
// fewer than so many further separators. Prefixes of the result are the groups that the names are in.
func choose(names, prefixes []string, depth uint64) msgs.ListParametersResult {
	const separator = "."
	var out msgs.ListParametersResult
	shallow := func(rest string) bool {
		return depth == msgs.ListParametersRequestDepthRecursive || uint64(strings.Count(rest, separator)) < depth
	}
	for _, name := range names {
		chosen := len(prefixes) == 0 && shallow(name) || slices.ContainsFunc(prefixes, func(p string) bool {
			rest, below := strings.CutPrefix(name, p+separator)
			return name == p || below && shallow(separator+rest)
		})
		if !chosen {
			continue
		}
		out.Names = append(out.Names, name)
		if i := strings.LastIndex(name, separator); i >= 0 && !slices.Contains(out.Prefixes, name[:i]) {
			out.Prefixes = append(out.Prefixes, name[:i])
		}
	}
	return out
}
