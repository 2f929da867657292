package record

import (
	"strconv"
	"strings"

	"github.com/goccy/go-yaml"
)

// ShortType turns "sensor_msgs/msg/Image" into "sensor_msgs/Image".
func ShortType(name string) string {
	if pkg, rest, ok := strings.Cut(name, "/"); ok {
		if _, last, ok := strings.Cut(rest, "/"); ok {
			return pkg + "/" + last
		}
	}
	return name
}

// LongType turns "sensor_msgs/Image" into "sensor_msgs/msg/Image".
func LongType(name string) string {
	if pkg, rest, ok := strings.Cut(name, "/"); ok && !strings.Contains(rest, "/") {
		return pkg + "/msg/" + rest
	}
	return name
}

// transientLocal is the number of that durability in rmw_qos_profile_t, which
// bags up to Humble use in place of its name.
const transientLocal = 1

// TransientLocal tells whether an offered QoS profile, a YAML list as ROS 2
// records it, keeps messages for late subscribers. What cannot be read does not.
func TransientLocal(qos string) bool {
	var profiles []struct {
		Durability any `yaml:"durability"`
	}
	// The text comes from the bag: bound the parser's work.
	if len(qos) > 64<<10 || yaml.Unmarshal([]byte(qos), &profiles) != nil {
		return false
	}
	for _, p := range profiles {
		switch v := p.Durability.(type) {
		case string:
			if v == "transient_local" || v == strconv.Itoa(transientLocal) {
				return true
			}
		case uint64:
			if v == transientLocal {
				return true
			}
		}
	}
	return false
}
