package rea

import (
	"encoding/json"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func item(id string) Item {
	return Item{
		ID: id, Video: "v/1", PointCloud: "p/1.npy", C2Ws: "c/1", K: "k/1.txt",
		Conversations: []Conversation{{"human", "<pointcloud>\n<image>\nWhere is the sink?"}, {"gpt", "Behind you."}},
		Metadata:      Metadata{Dataset: "made", QuestionType: "relative_direction", QueryStopFrame: 9},
	}
}

func TestRoundTrip(t *testing.T) {
	want := []Item{item("a"), item("b")}
	path := filepath.Join(t.TempDir(), "items.json")
	if err := Write(path, want); err != nil {
		t.Fatal(err)
	}
	got, broken, err := Read(path)
	if err != nil || broken != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("%+v %v %v", got, broken, err)
	}
	if q, a := got[0].Question(), got[0].Answer(); q != "Where is the sink?" || a != "Behind you." {
		t.Errorf("%q %q", q, a)
	}
}

// One broken item is named, with its field; the good ones beside it are read.
func TestBrokenItems(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Item)
		want   string
	}{
		"no video":     {func(it *Item) { it.Video = "" }, "field video"},
		"one turn":     {func(it *Item) { it.Conversations = it.Conversations[:1] }, "1 turns"},
		"unknown type": {func(it *Item) { it.Metadata.QuestionType = "weather" }, `"weather"`},
		"no question":  {func(it *Item) { it.Conversations[0].Value = "<image>" }, "question is empty"},
		"no answer":    {func(it *Item) { it.Conversations[1].Value = " " }, "reference answer is empty"},
		"twice":        {func(it *Item) { it.ID = "good" }, "#0"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := item("bad")
			c.change(&bad)
			text, err := json.Marshal([]Item{item("good"), bad})
			if err != nil {
				t.Fatal(err)
			}
			items, broken, err := decode(strings.NewReader(string(text)), "list.json")
			if err != nil || len(items) != 1 || len(broken) != 1 || !strings.Contains(broken[0].Error(), c.want) || !strings.Contains(broken[0].Error(), "list.json") {
				t.Errorf("%d items, %v, %v; expected an error with %q", len(items), broken, err, c.want)
			}
		})
	}
}

func TestListThatBreaksOff(t *testing.T) {
	text, err := json.Marshal([]Item{item("a"), item("b")})
	if err != nil {
		t.Fatal(err)
	}
	items, _, err := decode(strings.NewReader(string(text[:len(text)-20])), "list.json")
	if err == nil || len(items) != 1 {
		t.Errorf("%d items, %v", len(items), err)
	}
}

func TestLinspace(t *testing.T) {
	for _, c := range []struct {
		n, count int
		want     []int
	}{{10, 4, []int{0, 3, 6, 9}}, {3, 5, []int{0, 0, 1, 1, 2}}, {4, 0, []int{0, 1, 2, 3}}, {7, 1, []int{0}}} {
		if got := Linspace(c.n, c.count); !slices.Equal(got, c.want) {
			t.Errorf("Linspace(%d, %d) = %v, expected %v", c.n, c.count, got, c.want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	text, _ := json.Marshal([]Item{item("a")})
	f.Add(string(text))
	f.Add(`[{"id":5},null,[]]`)
	f.Fuzz(func(t *testing.T, text string) {
		items, _, _ := decode(strings.NewReader(text), "fuzz")
		for _, it := range items {
			_, _, _ = it.Question(), it.Answer(), it.Task()
		}
	})
}
