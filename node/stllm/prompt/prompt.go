// Package prompt writes the token sequence that the language model and the Q-Former see: the qwen_1_5 chat template with
// the published system text, placeholders for the spatial and the video tokens, and the question as plain text.
//
// Source: llava/train/train_3d.py of zoezheng126/Spatio-Temporal-LLM (preprocess_3d_multimodal and the meta prompt), checked
// token by token in golden/core (prompt_ids, qformer_ids, untimed.*, blocks).
package prompt

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Placeholders in a token sequence, as the reference numbers them (llava/constants.py).
const (
	PointCloud int32 = -300 // becomes the spatial tokens
	Video      int32 = -200 // becomes the video tokens
)

// System is the published system text. It says 64 tokens where there are 32 and runs two sentences together without a
// separator; published weights were trained with exactly this text.
const System = "You are a helpful assistant." +
	"The first 64 tokens by user encode learnable queries representing objects and locations in the 3D scene. " +
	"The following tokens represent egocentric video of recent actions. " +
	"Use both to reason about spatial references and temporal context when answering."

// Tokenizer is what a prompt needs of a tokenizer. Encode treats its whole input as ordinary text.
type Tokenizer interface {
	Encode(text string) []int32
	// ID returns the id of a token by its exact content, special ones included.
	ID(content string) (int32, bool)
}

// Options choose between the prompt forms that the reference has.
type Options struct {
	System string // default [System]
	// Timed adds the sentence on length and times of the video. It is there in training and off by default in the
	// published inference script.
	Timed bool
	// GenerationHeader ends the prompt with the assistant's header. The published inference adds none; without it the
	// model has to write the header itself.
	GenerationHeader bool
}

// Builder writes prompts with one tokenizer.
type Builder struct {
	tok        Tokenizer
	opt        Options
	start, end int32
}

// New checks that the tokenizer knows the template's two special tokens.
func New(tok Tokenizer, opt Options) (*Builder, error) {
	b := &Builder{tok: tok, opt: opt}
	if b.opt.System == "" {
		b.opt.System = System
	}
	for _, special := range []struct {
		content string
		id      *int32
	}{{"<|im_start|>", &b.start}, {"<|im_end|>", &b.end}} {
		id, ok := tok.ID(special.content)
		if !ok {
			return nil, fmt.Errorf("prompt: the tokenizer has no token %q, which the qwen_1_5 chat template needs", special.content)
		}
		*special.id = id
	}
	return b, nil
}

// Prompt is one question ready for the model.
type Prompt struct {
	IDs     []int32 // the language model's sequence with one PointCloud and one Video placeholder
	QFormer []int32 // the user turn without placeholders: the Q-Former's text
	Text    string  // the user's text, as written
}

// Build writes the prompt for a question about frames seen at times (seconds from the first frame) in a video of the given
// length in seconds. Whatever the question holds stays ordinary text: it cannot end the turn or add a placeholder.
func (b *Builder) Build(question string, times []float64, seconds float64) (Prompt, error) {
	switch {
	case !utf8.ValidString(question):
		return Prompt{}, fmt.Errorf("question is not valid UTF-8")
	case strings.TrimSpace(question) == "":
		return Prompt{}, fmt.Errorf("question is empty")
	}
	text := question
	if b.opt.Timed {
		text = TimeSentence(times, seconds) + "\n" + question
	}
	user := b.user("\n" + text)
	ids := b.SystemIDs()
	ids = append(ids, user...)
	if b.opt.GenerationHeader {
		ids = append(ids, b.start)
		ids = append(ids, b.tok.Encode("assistant\n")...)
	}
	return Prompt{IDs: ids, QFormer: words(user), Text: text}, nil
}

// Prefix are the tokens before the first placeholder: the same for every question.
func (p Prompt) Prefix() []int32 {
	for i, id := range p.IDs {
		if id < 0 {
			return p.IDs[:i]
		}
	}
	return p.IDs
}

// SystemIDs is the system turn: the same for every question, so its keys and values can be kept.
func (b *Builder) SystemIDs() []int32 {
	ids := append([]int32{b.start}, b.tok.Encode("system\n"+b.opt.System)...)
	ids = append(ids, b.end)
	return append(ids, b.tok.Encode("\n")...)
}

// TimeSentence is the sentence on the video's length and its frames' times, as the reference writes it (no space before
// "Please").
func TimeSentence(times []float64, seconds float64) string {
	at := make([]string, len(times))
	for i, t := range times {
		at[i] = strconv.FormatFloat(t, 'f', 2, 64) + "s"
	}
	return fmt.Sprintf("The video lasts for %.2f seconds, and %d frames are uniformly sampled from it. "+
		"These frames are located at %s.Please answer the following questions related to this video.",
		seconds, len(times), strings.Join(at, ","))
}

// Kind tells what a stretch of the spliced sequence holds.
type Kind int

// The kinds, numbered as in golden/core.
const (
	Text Kind = iota
	Spatial
	VideoTokens
)

// Block is a stretch of the spliced sequence. For text, IDs are its tokens.
type Block struct {
	Kind   Kind
	Start  int
	Length int
	IDs    []int32
}

// Splice lays out the sequence when the placeholders become the given numbers of tokens. A number of 0 leaves that
// modality out (an ablation, or a model without it).
func Splice(ids []int32, spatial, video int) []Block {
	var blocks []Block
	at, from := 0, 0
	add := func(kind Kind, n int, text []int32) {
		if n > 0 {
			blocks = append(blocks, Block{Kind: kind, Start: at, Length: n, IDs: text})
			at += n
		}
	}
	for i, id := range ids {
		if id >= 0 {
			continue
		}
		add(Text, i-from, ids[from:i])
		from = i + 1
		if id == PointCloud {
			add(Spatial, spatial, nil)
		} else {
			add(VideoTokens, video, nil)
		}
	}
	add(Text, len(ids)-from, ids[from:])
	return blocks
}

// Length is the number of positions that blocks cover.
func Length(blocks []Block) int {
	if len(blocks) == 0 {
		return 0
	}
	last := blocks[len(blocks)-1]
	return last.Start + last.Length
}
