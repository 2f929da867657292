package eval

import (
	"context"
	"fmt"

	"github.com/stllm/stllm/node/stllm"
)

// Query is what an answerer gets of an item: everything but the right answer.
type Query struct {
	ID       string
	Task     stllm.Task
	Question string
	Choices  []string
	Run      Ablation
	Clip     *Clip // without what the run keeps back: no frames, pictures that are nil, no map
}

// Reply is an answer.
type Reply struct {
	Text     string
	Evidence *stllm.Evidence // frames are counted as in the query's clip
}

// Answerer answers questions. Answer may be called from several goroutines at once. An error makes the item count as failed;
// it should say what was being done.
type Answerer interface {
	// ID names the answerer and its state. Results of different ids are not mixed.
	ID() string
	Answer(ctx context.Context, q Query) (Reply, error)
}

// Table answers from a table by item id: for tests, and to score answers that were made elsewhere. It sees nothing, so all
// runs answer alike.
type Table struct {
	Name    string
	Answers map[string]string
}

// ID is the table's name.
func (t Table) ID() string { return t.Name }

// Answer looks the item up.
func (t Table) Answer(_ context.Context, q Query) (Reply, error) {
	text, ok := t.Answers[q.ID]
	if !ok {
		return Reply{}, fmt.Errorf("table %s has no answer for item %s", t.Name, q.ID)
	}
	return Reply{Text: text}, nil
}
