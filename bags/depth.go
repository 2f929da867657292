package bags

import (
	"slices"
	"strings"
)

// compressedDepth is how image_transport names depth images of its own compression.
const compressedDepth = "/compressedDepth"

// DepthTopic picks, of a bag's topics, the depth images that are most likely registered to the colour camera, by their names as
// drivers give them: raw ones, or those below it that end in /compressedDepth. base is the name without that ending; both are
// empty where there are none.
func DepthTopic(conns []*Connection) (base, topic string) {
	best := 0
	for _, c := range conns {
		name, compressed := strings.CutSuffix(c.Topic, compressedDepth)
		if c.Type != map[bool]string{true: "sensor_msgs/CompressedImage", false: "sensor_msgs/Image"}[compressed] || !strings.Contains(name, "depth") {
			continue
		}
		rank := 2
		if slices.ContainsFunc([]string{"aligned", "registered", "depth_to_color", "depth_to_rgb"}, func(s string) bool { return strings.Contains(name, s) }) {
			rank = 4
		}
		if !compressed {
			rank++
		}
		if rank > best {
			best, base, topic = rank, name, c.Topic
		}
	}
	return base, topic
}

// ColourTopic tells whether a topic of images may show colours, by its name.
func ColourTopic(name string) bool { return !strings.Contains(name, "depth") }
