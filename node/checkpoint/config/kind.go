package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
)

// checkKind refuses the config of another kind of model and, in robot_config, names that mean nothing. Elsewhere names that we do
// not know are other people's: a published config has dozens.
func checkKind(data []byte) error {
	var c struct {
		ModelType     string          `json:"model_type"`
		Architectures []string        `json:"architectures"`
		RobotConfig   json.RawMessage `json:"robot_config"`
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return told(err)
	}
	// The authors' own, and those of what their model is made of, which transformers would load it by as well.
	if kinds := []string{"pcd_aligner", "llava_qwen", "qwen2"}; c.ModelType != "" && !slices.Contains(kinds, c.ModelType) {
		return fmt.Errorf("config: model_type is %q, expected one of %q: this is another kind of model", c.ModelType, kinds)
	}
	ours := func(name string) bool { return strings.HasPrefix(name, "LlavaQwen") || name == "Qwen2ForCausalLM" }
	if len(c.Architectures) > 0 && !slices.ContainsFunc(c.Architectures, ours) {
		return fmt.Errorf("config: architectures is %q, expected LlavaQwenPcdVidLM: this is another kind of model", c.Architectures)
	}
	if len(c.RobotConfig) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(c.RobotConfig))
	d.DisallowUnknownFields()
	if err := d.Decode(&RobotOptions{}); err != nil {
		return fmt.Errorf("config: robot_config: %s; it has %s", strings.TrimPrefix(err.Error(), "json: "), strings.Join(fieldsOf(reflect.TypeFor[RobotOptions]()), ", "))
	}
	return nil
}

// fieldsOf lists a struct's names in JSON.
func fieldsOf(t reflect.Type) []string {
	var out []string
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		out = append(out, name)
	}
	return out
}

// fieldOf is the type of a struct's field by its name in JSON.
func fieldOf(t reflect.Type, name string) (reflect.Type, bool) {
	if i := slices.Index(fieldsOf(t), name); i >= 0 {
		return t.Field(i).Type, true
	}
	return nil, false
}

// told says of a value of the wrong type which field it is in and what belongs there.
func told(err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) || wrong.Field == "" {
		return err
	}
	want := "an object"
	switch wrong.Type.Kind() {
	case reflect.Bool:
		want = "true or false"
	case reflect.String:
		want = "text"
	case reflect.Int, reflect.Int32, reflect.Int64:
		want = "a whole number"
	case reflect.Float64:
		want = "a number"
	case reflect.Slice:
		want = "a list"
	}
	return fmt.Errorf("config: %s is of the wrong type (%s), expected %s", wrong.Field, wrong.Value, want)
}
