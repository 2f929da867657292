package config

import (
	"encoding/json"
	"fmt"
	"maps"
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

// put replaces the value at a path that is there.
func put(tree map[string]any, path, value string) error {
	names := strings.Split(path, ".")
	for i, name := range names {
		old, known := tree[name]
		if !known {
			return fmt.Errorf("config: no field %q; there is %s", path, strings.Join(slices.Sorted(maps.Keys(tree)), ", "))
		}
		if i == len(names)-1 {
			break
		}
		inner, ok := old.(map[string]any)
		if !ok {
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
