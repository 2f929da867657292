package replay

import (
	"errors"
	"fmt"
	"math"
	"strings"

	"github.com/stllm/stllm/node/smallfile"
	"github.com/stllm/stllm/node/yamltree"
)

// Question is one entry of a questions file:
//
//   - id: q1                 # unique; names the picture and the line of the answer
//     at: 7.5                # seconds from the bag's start; or
//     stamp: 1700000007.5    # seconds since 1970
//     text: Where is the sink?
//     task: relative_direction   # optional: one of REA's types
//     answer: …              # optional: reference answer, label and group, for evaluation
//     label: …
//     group: now
type Question struct {
	ID       string
	At       *float64
	Stamp    *float64
	End      bool // asked when the bag ends, instead of At or Stamp; not for files
	Text     string
	Task     string
	Choices  []string
	Answer   string
	Label    string
	Group    string
	Metadata map[string]any
}

// maxQuestions bounds a questions file, bytes.
const maxQuestions = 16 << 20

// ReadQuestions reads a questions file; errors name the line.
func ReadQuestions(path string) ([]Question, error) {
	data, err := smallfile.Read(path, maxQuestions)
	if err != nil {
		return nil, fmt.Errorf("questions: %w", err)
	}
	qs, err := ParseQuestions(data)
	if err != nil {
		return nil, fmt.Errorf("questions %s: %w", path, err)
	}
	return qs, nil
}

// ParseQuestions reads the content of a questions file.
func ParseQuestions(data []byte) ([]Question, error) {
	top, err := yamltree.Parse(data)
	if err != nil {
		return nil, err
	}
	if top.Empty() {
		return nil, errors.New("the file is empty, expected a list of questions")
	}
	list, err := top.Items()
	if err != nil {
		return nil, fmt.Errorf("line %d: expected a list of questions (each starting with \"- id:\")", top.Line)
	}
	var out []Question
	seen := map[string]int{}
	for _, node := range list {
		q, err := readQuestion(node)
		if err != nil {
			return nil, fmt.Errorf("question in line %d: %w", node.Line, err)
		}
		if first, dup := seen[q.ID]; dup {
			return nil, fmt.Errorf("question in line %d: id %q is used in line %d already", node.Line, q.ID, first)
		}
		seen[q.ID] = node.Line
		out = append(out, q)
	}
	return out, nil
}

func readQuestion(node yamltree.Node) (q Question, err error) {
	node.Name = "the question"
	fields, err := node.Fields("id", "at", "stamp", "text", "task", "choices", "answer", "label", "group", "metadata")
	if err != nil {
		return q, err
	}
	for name, f := range fields {
		if f.Empty() {
			delete(fields, name)
		}
	}
	for _, s := range []struct {
		name string
		to   *string
	}{{"id", &q.ID}, {"text", &q.Text}, {"task", &q.Task}, {"answer", &q.Answer}, {"label", &q.Label}, {"group", &q.Group}} {
		if *s.to, err = fields[s.name].Text(); err != nil {
			return q, err
		}
	}
	for _, s := range []struct {
		name string
		to   **float64
	}{{"at", &q.At}, {"stamp", &q.Stamp}} {
		if f, ok := fields[s.name]; ok {
			v, err := f.Number()
			if err != nil {
				return q, fmt.Errorf("%w of seconds", err)
			}
			*s.to = &v
		}
	}
	if f, ok := fields["choices"]; ok {
		items, err := f.Items()
		if err != nil {
			return q, err
		}
		q.Choices = make([]string, len(items))
		for i, item := range items {
			if q.Choices[i], err = item.Text(); err != nil {
				return q, err
			}
		}
	}
	if f, ok := fields["metadata"]; ok {
		v, err := f.Any()
		if err != nil {
			return q, err
		}
		if q.Metadata, ok = v.(map[string]any); !ok {
			return q, f.Fail("metadata is not a mapping of names to values")
		}
	}
	return q, q.Validate()
}

// Validate finds what no bag can make good.
func (q *Question) Validate() error {
	times := 0
	for _, given := range []bool{q.At != nil, q.Stamp != nil, q.End} {
		if given {
			times++
		}
	}
	switch {
	case q.ID == "":
		return errors.New("id is missing")
	case len(q.ID) > 100 || strings.ContainsAny(q.ID, "/\\\x00") || strings.HasPrefix(q.ID, "."):
		return fmt.Errorf("id %q cannot be part of a file name", q.ID)
	case strings.TrimSpace(q.Text) == "":
		return errors.New("text is missing")
	case times != 1:
		return errors.New("expected either at (seconds from the bag's start) or stamp (seconds since 1970)")
	case q.At != nil && !(*q.At >= 0 && *q.At < 1e9):
		return fmt.Errorf("at is %g, expected seconds from the bag's start", *q.At)
	case q.Stamp != nil && !(*q.Stamp > 0 && *q.Stamp < 1e10):
		return fmt.Errorf("stamp is %g, expected seconds since 1970", *q.Stamp)
	}
	switch q.Task {
	case "", "relative_direction", "relative_distance", "find_my_item", "furniture_affordance", "action_planning":
		return nil
	}
	return fmt.Errorf("task is %q, expected relative_direction, relative_distance, find_my_item, furniture_affordance, action_planning or none", q.Task)
}

// moment is when a question is asked, ns.
func (q *Question) moment(start int64) int64 {
	switch {
	case q.End:
		return math.MaxInt64
	case q.At != nil:
		return start + int64(*q.At*1e9)
	}
	return int64(*q.Stamp * 1e9)
}
