package config

import (
	"strings"
	"testing"
)

func TestWith(t *testing.T) {
	c, err := Nano(1024, 5).With(map[string]string{
		"robot_config.start_frame": "false", "robot_config.position_octaves.count": "0", "robot_config.voxel_features": "color", "robot_config.patch_place": "ray", "num_hidden_layers": "2",
	})
	if err != nil {
		t.Fatal(err)
	}
	o := c.RobotConfig
	if o.StartFrame || o.PositionOctaves.Count != 0 || o.PositionOctaves.First != -1 || o.VoxelFeatures != ColorFeatures || o.PatchPlace != RayPlace || c.NumHiddenLayers != 2 || !o.PatchMemory {
		t.Errorf("%+v, %+v", c, o)
	}
	same, err := Nano(1024, 5).With(nil)
	if err != nil || *same.RobotConfig != *Nano(1024, 5).RobotConfig {
		t.Errorf("%+v, %v", same, err)
	}
	for path, value := range map[string][2]string{
		"robot_config.starts_frame":     {"false", "no field \"robot_config.starts_frame\"; config.json.robot_config has direction_octaves"},
		"robot_config.near.far":         {"1", "robot_config.near has no fields"},
		"robot_config.start_frame":      {"maybe", "robot_config.start_frame is of the wrong type (string), expected true or false"},
		"robot_config.near":             {"9", "expected 0 < near < far"},
		"robot_config.position_octaves": {"{\"count\":0}", "start_frame is true, which needs position_octaves"},
	} {
		if _, err := Nano(1024, 5).With(map[string]string{path: value[0]}); err == nil || !strings.Contains(err.Error(), value[1]) {
			t.Errorf("%s=%s: %v, expected %q", path, value[0], err, value[1])
		}
	}
	if _, err := Default().With(map[string]string{"robot_config.near": "1"}); err == nil || !strings.Contains(err.Error(), "(profile published) has no robot_config") {
		t.Errorf("the published profile: %v", err)
	}
}
