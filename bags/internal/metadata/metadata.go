// Package metadata reads and writes the metadata.yaml of ROS 2 bag folders.
package metadata

import (
	"fmt"
	"path/filepath"
	"strings"

	"github.com/goccy/go-yaml"

	"github.com/stllm/stllm/node/smallfile"
	"github.com/stllm/stllm/node/yamltree"
)

// Name of the file in the folder.
const Name = "metadata.yaml"

// maxSize bounds the file in bytes; a real one has some kilobytes per topic.
const maxSize = 16 << 20

// maxVersion is the newest layout known (Jazzy and later).
const maxVersion = 9

// Bag is the part of a metadata.yaml that reading needs.
type Bag struct {
	Version           int      `yaml:"version"`
	Storage           string   `yaml:"storage_identifier"`
	Files             []string `yaml:"relative_file_paths"`
	CompressionFormat string   `yaml:"compression_format"`
	CompressionMode   string   `yaml:"compression_mode"`
	Distro            string   `yaml:"ros_distro"`
	Messages          int64    `yaml:"message_count"`
	Topics            []struct {
		Metadata Topic `yaml:"topic_metadata"`
	} `yaml:"topics_with_message_count"`
}

// Topic is what the metadata tells of a topic.
type Topic struct {
	Name string `yaml:"name"`
	Type string `yaml:"type"`
	Hash string `yaml:"type_description_hash"`
}

// Read reads the metadata of the bag in the folder.
func Read(folder string) (*Bag, error) {
	path := filepath.Join(folder, Name)
	text, err := smallfile.Read(path, maxSize)
	if err != nil {
		return nil, err
	}
	b, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return b, nil
}

// Parse reads the text of a metadata.yaml.
func Parse(text []byte) (b *Bag, err error) {
	defer func() {
		// The parser is not ours; a hostile file must not end the program.
		if p := recover(); p != nil {
			b, err = nil, fmt.Errorf("not YAML: %v", p)
		}
	}()
	if line := yamltree.TooDeep(text); line > 0 {
		return nil, fmt.Errorf("line %d: nested too deeply (more than %d levels)", line, yamltree.MaxDepth)
	}
	var doc struct {
		Bag *Bag `yaml:"rosbag2_bagfile_information"`
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, err
	}
	b = doc.Bag
	if b == nil {
		return nil, fmt.Errorf("\"rosbag2_bagfile_information\" is missing")
	}
	if b.Version < 1 || b.Version > maxVersion {
		return nil, fmt.Errorf("version is %d, known are 1 to %d", b.Version, maxVersion)
	}
	if len(b.Files) == 0 {
		return nil, fmt.Errorf("\"relative_file_paths\" is missing or empty")
	}
	b.CompressionMode = strings.ToLower(b.CompressionMode)
	switch b.CompressionMode {
	case "", "none":
		b.CompressionFormat = ""
	case "file", "message":
	default:
		return nil, fmt.Errorf("compression_mode is %q, expected file, message or none", b.CompressionMode)
	}
	return b, nil
}

// Path is where a file that the metadata names lies: beside it. Early versions
// wrote the folder's name before it, and bags get renamed, so only the last
// element counts; nothing outside the folder is read.
func Path(folder, file string) string {
	return filepath.Join(folder, filepath.Base(filepath.FromSlash(file)))
}
