package prompt

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// Ignored is the label of a token that the loss passes over (llava/constants.py).
const Ignored int32 = -100

// Training is one question with its answer, ready to be trained on.
type Training struct {
	IDs     []int32 // the language model's sequence with one PointCloud and one Video placeholder
	Labels  []int32 // of IDs: the token itself, or Ignored
	QFormer []int32 // the user turn without placeholders
}

// Training writes the text that the published training sees. It differs from what [Builder.Build] asks: two more line breaks
// follow the video, and the answer with its header is there. The loss is on the whole of the assistant's turn, and on every
// <|im_start|>, <|im_end|> and line break of the other turns (preprocess_qwen and preprocess_3d_multimodal of train_3d.py;
// train.input_ids and train.labels of golden/core). GenerationHeader makes no difference here.
func (b *Builder) Training(question, answer string, times []float64, seconds float64) (Training, error) {
	switch {
	case !utf8.ValidString(question) || !utf8.ValidString(answer):
		return Training{}, fmt.Errorf("question or answer is not valid UTF-8")
	case strings.TrimSpace(question) == "":
		return Training{}, fmt.Errorf("question is empty")
	case strings.TrimSpace(answer) == "":
		return Training{}, fmt.Errorf("answer is empty")
	}
	text := question
	if b.opt.Timed {
		text = TimeSentence(times, seconds) + "\n" + question
	}
	line := b.tok.Encode("\n")
	if len(line) != 1 {
		return Training{}, fmt.Errorf("prompt: the tokenizer writes a line break as %d tokens, which the qwen_1_5 labels do not know", len(line))
	}
	user := b.user("\n\n\n" + text)
	t := Training{IDs: append(b.SystemIDs(), user...), QFormer: words(user)}
	for _, id := range t.IDs {
		if id != b.start && id != b.end && id != line[0] {
			id = Ignored
		}
		t.Labels = append(t.Labels, id)
	}
	turn := append([]int32{b.start}, b.tok.Encode("assistant\n"+answer)...)
	turn = append(append(turn, b.end), line...)
	t.IDs, t.Labels = append(t.IDs, turn...), append(t.Labels, turn...)
	return t, nil
}

// user is the user's turn; after is what follows the video.
func (b *Builder) user(after string) []int32 {
	// One call to Encode for each stretch between special tokens, as the reference's tokenizer splits the text there.
	user := append([]int32{b.start}, b.tok.Encode("user\n")...)
	user = append(user, PointCloud)
	user = append(user, b.tok.Encode("\n")...)
	user = append(user, Video)
	user = append(user, b.tok.Encode(after)...)
	user = append(user, b.end)
	return append(user, b.tok.Encode("\n")...)
}

// words are a turn's tokens without placeholders.
func words(turn []int32) []int32 {
	out := make([]int32, 0, len(turn)-2)
	for _, id := range turn {
		if id >= 0 {
			out = append(out, id)
		}
	}
	return out
}
