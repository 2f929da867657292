package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
)

// With is the config with other values of some fields, checked as a whole. A field is named by its path in config.json, such as
// robot_config.position_octaves.count; a value is JSON, or text where it is not.
func (c *Config) With(values map[string]string) (*Config, error) {
	data, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	var tree map[string]any
	if err := json.Unmarshal(data, &tree); err != nil {
		return nil, err
	}
	for _, path := range slices.Sorted(maps.Keys(values)) {
		if err := put(tree, path, values[path]); err != nil {
			return nil, err
		}
	}
	if data, err = json.Marshal(tree); err != nil {
		return nil, err
	}
	return Parse(data)
}

// put replaces the value at a path.
func put(tree map[string]any, path, value string) error {
	names := strings.Split(path, ".")
	kind := reflect.TypeFor[Config]()
	for i, name := range names {
		f, known := fieldOf(kind, name)
		if !known {
			return fmt.Errorf("config: no field %q; %s has %s", path, strings.Join(append([]string{"config.json"}, names[:i]...), "."), strings.Join(fieldsOf(kind), ", "))
		}
		if i == len(names)-1 {
			break
		}
		if kind = f; kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		inner, ok := tree[name].(map[string]any)
		if kind.Kind() == reflect.Struct && !ok {
			return fmt.Errorf("config: no field %q: this config (profile %v) has no %s", path, tree["profile"], strings.Join(names[:i+1], "."))
		}
		if kind.Kind() != reflect.Struct {
			return fmt.Errorf("config: no field %q: %s has no fields", path, strings.Join(names[:i+1], "."))
		}
		tree = inner
	}
	var v any
	if json.Unmarshal([]byte(value), &v) != nil {
		v = value
	}
	tree[names[len(names)-1]] = v
	return nil
}
