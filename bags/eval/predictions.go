package eval

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/wholefile"
)

// Prediction is one line of predictions.jsonl: one item in one run.
type Prediction struct {
	Run       Ablation   `json:"run"`
	ID        string     `json:"id"`
	Index     int        `json:"index"` // of the item in the evaluation, from 0
	Task      stllm.Task `json:"task,omitempty"`
	Group     string     `json:"group,omitempty"`
	About     string     `json:"about,omitempty"` // the noun asked about, where known
	Question  string     `json:"question"`
	Reference string     `json:"reference"`
	Label     string     `json:"label,omitempty"` // of the right answer
	Answer    string     `json:"prediction"`
	Said      string     `json:"predicted_label,omitempty"` // "" where the answer says none, or several
	Error     string     `json:"error,omitempty"`           // why there is no answer
	Seconds   float64    `json:"seconds"`
	Picture   string     `json:"picture,omitempty"` // file below the folder

	Evidence *stllm.Evidence `json:"evidence,omitempty"`
}

// Right tells whether the item has a label and the answer says it.
func (p *Prediction) Right() bool { return p.Error == "" && p.Label != "" && p.Said == p.Label }

// key is what a prediction is found by.
type key struct {
	run Ablation
	id  string
}

// maxLine bounds a line of predictions.jsonl.
const maxLine = 16 << 20

// ReadPredictions reads predictions.jsonl. What was written last of an item in a run counts. A last line that was cut off by
// a kill is left out; whole is the number of bytes before it. A missing file is an empty one.
func ReadPredictions(path string) (all []Prediction, whole int64, err error) {
	f, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("predictions: %w", err)
	}
	defer f.Close()
	all, whole, err = decodePredictions(f)
	if err != nil {
		return nil, 0, fmt.Errorf("predictions %s: %w", path, err)
	}
	return all, whole, nil
}

func decodePredictions(r io.Reader) (all []Prediction, whole int64, err error) {
	at := map[key]int{}
	b := bufio.NewReader(r)
	for line := 1; ; line++ {
		text, err := readLine(b)
		if err == io.EOF {
			return all, whole, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("line %d: %w", line, err)
		}
		whole += int64(len(text))
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		var p Prediction
		if !utf8.Valid(text) {
			return nil, 0, fmt.Errorf("line %d is not valid UTF-8", line)
		}
		if err := json.Unmarshal(text, &p); err != nil {
			return nil, 0, fmt.Errorf("line %d: %w", line, err)
		}
		if p.ID == "" || p.Run == "" {
			return nil, 0, fmt.Errorf("line %d has no id or no run", line)
		}
		k := key{p.Run, p.ID}
		if n, again := at[k]; again {
			all[n] = p
			continue
		}
		at[k] = len(all)
		all = append(all, p)
	}
}

// readLine returns a line with its end; io.EOF where there is none, also after a piece without an end.
func readLine(b *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		part, err := b.ReadSlice('\n')
		line = append(line, part...)
		if len(line) > maxLine {
			return nil, fmt.Errorf("has more than %d bytes", maxLine)
		}
		if err == nil {
			return line, nil
		}
		if err != bufio.ErrBufferFull {
			return nil, err
		}
	}
}

// log appends predictions to a file, a line at a time.
type log struct {
	mu   sync.Mutex
	file *os.File
}

// openLog opens the file for appending after its whole lines.
func openLog(path string, whole int64) (*log, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("predictions: %w", err)
	}
	if err = f.Truncate(whole); err == nil {
		_, err = f.Seek(whole, io.SeekStart)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("predictions: %w", err), f.Close())
	}
	return &log{file: f}, nil
}

func (l *log) add(p Prediction) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(p); err != nil {
		return fmt.Errorf("write the prediction of item %s: %w", p.ID, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, err := l.file.Write(b.Bytes()); err != nil {
		return fmt.Errorf("write the prediction of item %s: %w", p.ID, err)
	}
	return nil
}

func (l *log) close() error { return l.file.Close() }

// writeJSON replaces a file as a whole: a kill leaves the old one or the new one.
func writeJSON(path string, v any) error {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return wholefile.Write(path, b.Bytes())
}

// fileName makes part of a file name of an id.
func fileName(id string) string {
	return strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '-' || r == '_' {
			return r
		}
		return '_'
	}, id)
}
