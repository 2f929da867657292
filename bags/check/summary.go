// Package check says what is in a bag, and whether a node finds in it what it
// needs: pictures with camera_info, a transform from the camera to the fixed
// frame at each picture's stamp, and a map.
package check

import (
	"maps"
	"slices"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/msgs"
)

// Summary is what a bag contains. Times are in ns since the epoch.
type Summary struct {
	Paths       []string         `json:"paths"`
	Format      string           `json:"format"`
	Distro      string           `json:"distro,omitempty"`
	Files       int              `json:"files"`
	Bytes       int64            `json:"bytes"`
	First       int64            `json:"first_ns"`
	Last        int64            `json:"last_ns"`
	Messages    int64            `json:"messages"`
	Compression map[string]int64 `json:"compression"` // chunks by compression
	Indexed     bool             `json:"indexed"`
	Topics      []Topic          `json:"topics"`
	Warnings    []string         `json:"warnings,omitempty"`
}

// Topic is one topic of a bag, over all who published it with the same type.
type Topic struct {
	Name       string  `json:"topic"`
	Type       string  `json:"type"`
	Encoding   string  `json:"encoding"`
	Count      int64   `json:"messages"`
	Publishers int     `json:"publishers"`
	First      int64   `json:"first_ns"`
	Last       int64   `json:"last_ns"`
	Rate       float64 `json:"rate_hz"` // mean; 0 for fewer than 2 messages
	Latched    bool    `json:"latched"`
	// Known says that the program can read the type; where it cannot though
	// it knows the name, Differs says in what the bag's definition differs.
	Known   bool   `json:"known"`
	Differs string `json:"differs,omitempty"`
	// BuiltIn says that the bag carries no definition.
	BuiltIn bool `json:"built_in_definition,omitempty"`
}

// Summarize describes a bag, or several as one.
func Summarize(r bags.Reader, paths []string) *Summary {
	info := r.Info()
	s := &Summary{Paths: paths, Format: info.Format, Distro: info.Distro, Files: len(info.Files), First: info.First, Last: info.Last,
		Messages: info.Messages, Compression: info.Compression, Indexed: info.Indexed}
	for _, f := range info.Files {
		s.Bytes += f.Size
	}
	type key struct {
		topic, typ string
		encoding   msgs.Encoding
	}
	byKey := map[key]*Topic{}
	for _, c := range info.Connections {
		k := key{c.Topic, c.Type, c.Encoding}
		t := byKey[k]
		if t == nil {
			t = &Topic{Name: c.Topic, Type: c.Type, Encoding: encodingName(c.Encoding), Known: true, First: c.First, Last: c.Last}
			byKey[k] = t
		}
		t.add(c)
	}
	for _, t := range byKey {
		if span := t.Last - t.First; t.Count > 1 && span > 0 {
			t.Rate = float64(t.Count-1) / (float64(span) / 1e9)
		}
		s.Topics = append(s.Topics, *t)
	}
	slices.SortFunc(s.Topics, func(a, b Topic) int {
		return slices.Compare([]string{a.Name, a.Type, a.Encoding}, []string{b.Name, b.Type, b.Encoding})
	})
	s.Warnings = warnings(r)
	return s
}

func (t *Topic) add(c *bags.Connection) {
	t.Publishers++
	t.Latched = t.Latched || c.Latched
	t.BuiltIn = t.BuiltIn || c.BuiltIn
	if c.Count > 0 {
		if t.Count == 0 {
			t.First, t.Last = c.First, c.Last
		}
		t.First, t.Last = min(t.First, c.First), max(t.Last, c.Last)
		t.Count += c.Count
	}
	if _, ok := msgs.New(c.Type); !ok || c.Encoding != msgs.ROS1 && c.Encoding != msgs.CDR {
		t.Known = false
		return
	}
	if c.Definition == "" || c.BuiltIn || c.DefinitionFormat == "ros2idl" {
		return
	}
	if err := msgs.Compatible(c.Type, c.Encoding, c.Definition); err != nil {
		t.Known, t.Differs = false, err.Error()
	}
}

func encodingName(e msgs.Encoding) string {
	if e != msgs.ROS1 && e != msgs.CDR {
		return "other"
	}
	return e.String()
}

func warnings(r bags.Reader) []string {
	var out []string
	for _, w := range r.Warnings() {
		out = append(out, w.String())
	}
	return out
}

// topicsOf lists the topics of any of the types that have messages and can be
// read, those with most messages first.
func (s *Summary) topicsOf(types ...string) []Topic {
	var out []Topic
	for _, t := range s.Topics {
		if t.Count > 0 && t.Known && slices.Contains(types, t.Type) {
			out = append(out, t)
		}
	}
	slices.SortStableFunc(out, func(a, b Topic) int { return int(b.Count - a.Count) })
	return out
}

// topic finds one by name.
func (s *Summary) topic(name string) (Topic, bool) {
	i := slices.IndexFunc(s.Topics, func(t Topic) bool { return t.Name == name && t.Count > 0 })
	if i < 0 {
		return Topic{}, false
	}
	return s.Topics[i], true
}

// compressions lists the names of the compressions in order.
func (s *Summary) compressions() []string { return slices.Sorted(maps.Keys(s.Compression)) }
