package record

import "fmt"

// DefaultQoS is an offered profile as rosbag2 records it: reliable, and for
// latched topics transient local with depth 1. Numbers in place of names are
// what every version up to the newest reads.
func DefaultQoS(latched bool) string {
	durability, depth := 2, 10
	if latched {
		durability, depth = 1, 1
	}
	const forever = "\n    sec: 2147483647\n    nsec: 4294967295\n"
	return fmt.Sprintf("- history: 1\n  depth: %d\n  reliability: 1\n  durability: %d\n  deadline:%s  lifespan:%s"+
		"  liveliness: 1\n  liveliness_lease_duration:%s  avoid_ros_namespace_conventions: false\n",
		depth, durability, forever, forever, forever)
}
