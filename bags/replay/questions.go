package replay

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
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
	ID       string         `yaml:"id"`
	At       *float64       `yaml:"at"`
	Stamp    *float64       `yaml:"stamp"`
	Text     string         `yaml:"text"`
	Task     string         `yaml:"task"`
	Choices  []string       `yaml:"choices"`
	Answer   string         `yaml:"answer"`
	Label    string         `yaml:"label"`
	Group    string         `yaml:"group"`
	Metadata map[string]any `yaml:"metadata"`
}

// ReadQuestions reads a questions file; errors name the line.
func ReadQuestions(path string) ([]Question, error) {
	data, err := os.ReadFile(path)
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
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, err
	}
	if len(file.Docs) == 0 || file.Docs[0].Body == nil {
		return nil, errors.New("the file is empty, expected a list of questions")
	}
	list, ok := file.Docs[0].Body.(*ast.SequenceNode)
	if !ok {
		return nil, fmt.Errorf("line %d: expected a list of questions (each starting with \"- id:\")", line(file.Docs[0].Body))
	}
	var out []Question
	seen := map[string]int{}
	for _, node := range list.Values {
		var q Question
		n := line(node)
		if err := yaml.NodeToValue(node, &q, yaml.Strict()); err != nil {
			return nil, fmt.Errorf("question in line %d: %w", n, err)
		}
		if err := q.validate(); err != nil {
			return nil, fmt.Errorf("question in line %d: %w", n, err)
		}
		if first, dup := seen[q.ID]; dup {
			return nil, fmt.Errorf("question in line %d: id %q is used in line %d already", n, q.ID, first)
		}
		seen[q.ID] = n
		out = append(out, q)
	}
	return out, nil
}

func line(n ast.Node) int {
	if t := n.GetToken(); t != nil && t.Position != nil {
		return t.Position.Line
	}
	return 0
}

func (q *Question) validate() error {
	switch {
	case q.ID == "":
		return errors.New("id is missing")
	case len(q.ID) > 100 || strings.ContainsAny(q.ID, "/\\\x00") || strings.HasPrefix(q.ID, "."):
		return fmt.Errorf("id %q cannot be part of a file name", q.ID)
	case strings.TrimSpace(q.Text) == "":
		return errors.New("text is missing")
	case (q.At == nil) == (q.Stamp == nil):
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
	if q.At != nil {
		return start + int64(*q.At*1e9)
	}
	return int64(*q.Stamp * 1e9)
}
