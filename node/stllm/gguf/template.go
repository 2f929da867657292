package gguf

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/stllm/stllm/node/tokenizer"
)

// Message is one turn of a conversation.
type Message struct {
	Role    string // system, user or assistant
	Content string
}

// Template is a chat template of a family that is known. A file's own template is a Jinja program; it is not run, but told
// by its marks, and the family's form is written here.
type Template struct {
	family family
	system string // what the template says where the conversation has no system turn
	dated  bool   // Llama 3.1 and later: the system turn begins with two dates
}

type family int

const (
	chatML family = iota
	llama3
)

// ownSystem finds the system turn that a ChatML template adds by itself.
var ownSystem = regexp.MustCompile(`<\|im_start\|>system(?:\\n|\n)([^<>{}'"]+)<\|im_end\|>`)

// ParseTemplate tells which family a template belongs to.
func ParseTemplate(text string) (*Template, error) {
	switch {
	case strings.Contains(text, "<|im_start|>") && strings.Contains(text, "<|im_end|>"):
		t := &Template{family: chatML}
		if own := ownSystem.FindStringSubmatch(text); own != nil {
			t.system = own[1]
		}
		return t, nil
	case strings.Contains(text, "<|start_header_id|>") && strings.Contains(text, "<|eot_id|>"):
		return &Template{family: llama3, dated: strings.Contains(text, "Cutting Knowledge Date")}, nil
	}
	return nil, fmt.Errorf("the file's chat template is of no known family (ChatML and Llama 3 are): it begins %q", shown(text))
}

// check looks whether the tokenizer has the tokens that the template writes.
func (t *Template) check(m *Model) error {
	needs := []string{"<|im_start|>", "<|im_end|>"}
	if t.family == llama3 {
		needs = []string{"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}
	}
	for _, content := range needs {
		if _, err := m.Tokenizer.Special(content); err != nil {
			return fmt.Errorf("chat template: %w", err)
		}
	}
	return nil
}

// Prompt writes a conversation up to where the assistant speaks. Contents are ordinary text: no message can end its turn or
// begin another.
func (m *Model) Prompt(messages []Message) ([]int32, error) {
	if m.TemplateErr != nil {
		return nil, m.TemplateErr
	}
	for _, x := range messages {
		if x.Role != "system" && x.Role != "user" && x.Role != "assistant" {
			return nil, fmt.Errorf("chat: the role is %q, expected system, user or assistant", x.Role)
		}
	}
	if len(messages) == 0 {
		return nil, errors.New("chat: no message")
	}
	w := writer{tok: m.Tokenizer}
	if m.bos >= 0 {
		w.ids = append(w.ids, m.bos)
	}
	m.Template.write(&w, messages)
	return w.ids, w.err
}

// Raw is a text as it is, to be continued.
func (m *Model) Raw(text string) []int32 {
	ids := m.Tokenizer.Encode(text)
	if m.bos >= 0 {
		ids = append([]int32{m.bos}, ids...)
	}
	return ids
}

// llama3Dates are the lines that the templates of Llama 3.1 and later put before the system text; the day is the one they
// name where none is given.
const llama3Dates = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"

func (t *Template) write(w *writer, messages []Message) {
	if messages[0].Role != "system" && (t.system != "" || t.dated) {
		messages = append([]Message{{"system", t.system}}, messages...)
	}
	if t.family == chatML {
		for _, x := range messages {
			w.special("<|im_start|>").text(x.Role + "\n" + x.Content).special("<|im_end|>").text("\n")
		}
		w.special("<|im_start|>").text("assistant\n")
		return
	}
	for i, x := range messages {
		content := strings.TrimSpace(x.Content)
		if i == 0 && t.dated {
			content = llama3Dates + content
		}
		w.special("<|start_header_id|>").text(x.Role).special("<|end_header_id|>").text("\n\n" + content).special("<|eot_id|>")
	}
	w.special("<|start_header_id|>").text("assistant").special("<|end_header_id|>").text("\n\n")
}

// writer puts tokens together; each stretch of text between two special tokens is split by itself.
type writer struct {
	tok *tokenizer.Tokenizer
	ids []int32
	err error
}

func (w *writer) special(content string) *writer {
	id, err := w.tok.Special(content)
	if err != nil && w.err == nil {
		w.err = err
	}
	w.ids = append(w.ids, id)
	return w
}

func (w *writer) text(s string) *writer {
	w.ids = append(w.ids, w.tok.Encode(s)...)
	return w
}
