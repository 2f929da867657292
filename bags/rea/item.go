// Package rea reads and writes REA items (Reasoning about Environments and Actions, arXiv 2507.05258) in their released form:
// a JSON list that refers to a folder of frames, a point cloud, a folder of camera poses and an intrinsics file.
//
// Facts on the format and its oddities are from the authors' repository zoezheng126/Spatio-Temporal-LLM.
package rea

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/wholefile"
)

// Item is one question of the list, as released.
type Item struct {
	ID            string         `json:"id"`
	SceneID       string         `json:"scene_id,omitempty"` // the video's id, despite its name
	Video         string         `json:"video"`              // folder of frames
	PointCloud    string         `json:"pointcloud"`         // .npy, .ply or .glb
	C2Ws          string         `json:"c2ws"`               // folder of <frame>.txt, camera to world
	K             string         `json:"K"`                  // 3×3 text file
	Conversations []Conversation `json:"conversations"`
	Metadata      Metadata       `json:"metadata"`
}

// Conversation is one turn.
type Conversation struct {
	From  string `json:"from"` // "human" or "gpt"
	Value string `json:"value"`
}

// Metadata says what kind of question an item is.
type Metadata struct {
	Dataset         string `json:"dataset"`
	QuestionType    string `json:"question_type"`
	QueryStartFrame int    `json:"query_start_frame"`
	QueryStopFrame  int    `json:"query_stop_frame"`

	// What the released form has no place for; other readers pass over it.
	Source  string   `json:"source_id,omitempty"` // the item's id where it comes from
	Group   string   `json:"group,omitempty"`
	Label   string   `json:"label,omitempty"`
	About   string   `json:"about,omitempty"`
	Choices []string `json:"choices,omitempty"`
}

// Placeholders stand before the question of a human turn.
const Placeholders = "<pointcloud><image>"

// Question is the human turn without its placeholders.
func (it Item) Question() string {
	q := it.Conversations[0].Value
	for _, placeholder := range []string{"<pointcloud>", "<image>"} {
		q = strings.ReplaceAll(q, placeholder, "")
	}
	return strings.TrimSpace(q)
}

// Answer is the reference answer.
func (it Item) Answer() string { return strings.TrimSpace(it.Conversations[1].Value) }

// Task is the question type under one name: furniture_affordance_prediction and furniture_affordance are the same.
func (it Item) Task() stllm.Task {
	return stllm.Task(strings.TrimSuffix(it.Metadata.QuestionType, "_prediction"))
}

// ItemError is what is wrong with one item; the others go on.
type ItemError struct {
	ID   string // or "#n" where the item has none
	File string
	Err  error
}

func (e *ItemError) Error() string { return fmt.Sprintf("item %s of %s: %v", e.ID, e.File, e.Err) }

// Unwrap gives the cause.
func (e *ItemError) Unwrap() error { return e.Err }

// Read reads a list of items. Items that are broken come back as errors beside the good ones; a list that stops in the
// middle gives the items before the break and an error that says where it is.
func Read(path string) (items []Item, broken []*ItemError, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, nil, fmt.Errorf("REA items: %w", err)
	}
	defer f.Close()
	return decode(f, path)
}

func decode(r io.Reader, path string) (items []Item, broken []*ItemError, err error) {
	d := json.NewDecoder(r)
	start, err := d.Token()
	if err != nil {
		return nil, nil, fmt.Errorf("REA items %s: %w, expected a JSON list", path, err)
	}
	if start != json.Delim('[') {
		return nil, nil, fmt.Errorf("REA items %s: starts with %v, expected a JSON list", path, start)
	}
	seen := map[string]int{}
	for n := 0; d.More(); n++ {
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return items, broken, fmt.Errorf("REA items %s: list breaks off after %d items at byte %d: %w", path, n, d.InputOffset(), err)
		}
		it, err := parse(raw)
		id := it.ID
		if id == "" {
			id = fmt.Sprintf("#%d", n)
		}
		if first, dup := seen[it.ID]; err == nil && dup {
			err = fmt.Errorf("its id stands at #%d already", first)
		}
		if err != nil {
			broken = append(broken, &ItemError{id, path, err})
			continue
		}
		seen[it.ID] = n
		items = append(items, it)
	}
	if _, err := d.Token(); err != nil {
		return items, broken, fmt.Errorf("REA items %s: list breaks off after %d items: %w", path, len(items)+len(broken), io.ErrUnexpectedEOF)
	}
	return items, broken, nil
}

// parse reads one item and says which field is missing.
func parse(raw json.RawMessage) (Item, error) {
	var loose struct {
		Item
		ID json.RawMessage `json:"id"` // a string as released; a number is taken, too
	}
	if err := json.Unmarshal(raw, &loose); err != nil {
		return loose.Item, err
	}
	it := loose.Item
	if err := json.Unmarshal(loose.ID, &it.ID); err != nil {
		it.ID = strings.Trim(string(loose.ID), `"`)
	}
	if !utf8.Valid(raw) {
		return it, errors.New("not valid UTF-8")
	}
	for _, field := range []struct{ name, value string }{
		{"id", it.ID}, {"video", it.Video}, {"pointcloud", it.PointCloud}, {"c2ws", it.C2Ws}, {"K", it.K},
		{"metadata.question_type", it.Metadata.QuestionType},
	} {
		if field.value == "" {
			return it, fmt.Errorf("field %s is missing or empty", field.name)
		}
	}
	if len(it.Conversations) < 2 || it.Conversations[0].From != "human" || it.Conversations[1].From != "gpt" {
		return it, fmt.Errorf("conversations has %d turns, expected a human's and then a gpt's", len(it.Conversations))
	}
	switch it.Task() {
	case stllm.TaskDirection, stllm.TaskDistance, stllm.TaskFindItem, stllm.TaskAffordance, stllm.TaskPlanning:
	default:
		return it, fmt.Errorf("metadata.question_type is %q, expected one of relative_direction, relative_distance, find_my_item, furniture_affordance, action_planning", it.Metadata.QuestionType)
	}
	if it.Question() == "" {
		return it, errors.New("the question is empty")
	}
	if it.Answer() == "" {
		return it, errors.New("the reference answer is empty")
	}
	return it, nil
}

// Write writes a list of items as released.
func Write(path string, items []Item) error {
	b, err := json.MarshalIndent(items, "", " ")
	if err != nil {
		return fmt.Errorf("REA items: %w", err)
	}
	if err := wholefile.Write(path, append(b, '\n')); err != nil {
		return fmt.Errorf("REA items: %w", err)
	}
	return nil
}

// Roots are the folders that an item's paths are relative to.
type Roots struct{ Videos, PointClouds, C2Ws, K string }

// RootsBeside puts all of them into the folder of the list.
func RootsBeside(list string) Roots {
	d := filepath.Dir(list)
	return Roots{d, d, d, d}
}

func under(root, path string) string {
	if filepath.IsAbs(path) || root == "" {
		return path
	}
	return filepath.Join(root, path)
}
