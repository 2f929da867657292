package record

import "strings"

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

// TransientLocal tells whether an offered QoS profile, a YAML list as ROS 2
// records it, keeps messages for late subscribers. Bags up to Humble have the
// number of rmw_qos_durability_policy_t in place of the name.
func TransientLocal(qos string) bool {
	for line := range strings.Lines(qos) {
		if v, ok := strings.CutPrefix(strings.TrimLeft(line, "- \t"), "durability:"); ok {
			if v = strings.Trim(v, " \t\r\n'\""); v == "transient_local" || v == "1" {
				return true
			}
		}
	}
	return false
}
