// Package interfaces holds the interface definitions that the program speaks, of both ROS generations as text: one
// file a package, a line "=== kind/Name" before each definition. stllm_msgs lies beside it as a ROS package.
package interfaces

import (
	"embed"
	"fmt"
	"path"
	"strings"

	"github.com/stllm/stllm/msgs/idl"
	"github.com/stllm/stllm/msgs/stllm_msgs"
)

//go:embed ros1/*.txt ros2/*.txt
var files embed.FS

// Load reads all definitions of one generation.
func Load(gen idl.Generation) (*idl.Set, error) {
	dir := "ros1"
	if gen == idl.ROS2 {
		dir = "ros2"
	}
	set := idl.NewSet(gen)
	entries, err := files.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		text, err := files.ReadFile(path.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		if err := set.AddBundle(strings.TrimSuffix(e.Name(), ".txt"), string(text)); err != nil {
			return nil, fmt.Errorf("%s/%s: %w", dir, e.Name(), err)
		}
	}
	for _, kind := range []string{"msg", "srv", "action"} {
		entries, err := stllm_msgs.Files.ReadDir(kind)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			text, err := stllm_msgs.Files.ReadFile(path.Join(kind, e.Name()))
			if err != nil {
				return nil, err
			}
			if err := set.Add("stllm_msgs", strings.TrimSuffix(e.Name(), "."+kind), kind, string(text)); err != nil {
				return nil, err
			}
		}
	}
	return set, set.Check()
}
