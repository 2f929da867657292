package metadata

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/stllm/stllm/bags/internal/record"
)

// written is the layout version that Write uses: that of Humble, which all
// later versions read.
const written = 5

// Write writes the metadata of a bag of one MCAP file with the given name.
func Write(folder, file string, conns []*record.Connection) error {
	info := record.Info{Connections: conns}
	record.Sum(&info)
	var b strings.Builder
	fmt.Fprintf(&b, "rosbag2_bagfile_information:\n  version: %d\n  storage_identifier: mcap\n", written)
	fmt.Fprintf(&b, "  duration:\n    nanoseconds: %d\n", info.Last-info.First)
	fmt.Fprintf(&b, "  starting_time:\n    nanoseconds_since_epoch: %d\n", info.First)
	fmt.Fprintf(&b, "  message_count: %d\n  topics_with_message_count:\n", info.Messages)
	for _, c := range conns {
		fmt.Fprintf(&b, "    - topic_metadata:\n        name: %s\n        type: %s\n        serialization_format: cdr\n",
			strconv.Quote(c.Topic), strconv.Quote(record.LongType(c.Type)))
		fmt.Fprintf(&b, "        offered_qos_profiles: %s\n      message_count: %d\n", strconv.Quote(c.QoS), c.Count)
	}
	if len(conns) == 0 {
		b.WriteString("    []\n")
	}
	fmt.Fprintf(&b, "  compression_format: \"\"\n  compression_mode: \"\"\n  relative_file_paths:\n    - %s\n", strconv.Quote(file))
	fmt.Fprintf(&b, "  files:\n    - path: %s\n      starting_time:\n        nanoseconds_since_epoch: %d\n", strconv.Quote(file), info.First)
	fmt.Fprintf(&b, "      duration:\n        nanoseconds: %d\n      message_count: %d\n", info.Last-info.First, info.Messages)
	return os.WriteFile(filepath.Join(folder, Name), []byte(b.String()), 0o644)
}
