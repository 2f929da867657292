package meteor

import (
	"archive/zip"
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
)

// Resources are METEOR's English tables. They are read at run time from where pycocoevalcap keeps them, since neither the
// word lists nor the paraphrases may be shipped here.
type Resources struct {
	functionWords map[string]bool
	synsets       map[string][]int
	bases         map[string][]string // irregular form to base forms
	prefixes      map[string]bool
	open          func() (io.ReadCloser, error) // paraphrase-en.gz; nil when it is not there

	mu       sync.Mutex
	loaded   *paraphrases    // what was read of the table last,
	loadedOf map[string]bool // for these words
}

const (
	jarName        = "meteor/meteor-1.5.jar"
	paraphraseName = "meteor/data/paraphrase-en.gz"
)

// Open reads the tables from a pycocoevalcap 1.2 wheel (.whl), from the folder that it unpacks to, or from the package
// folder itself. Without the paraphrase table scores differ from the published ones; Paraphrases tells.
func Open(path string) (*Resources, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("METEOR tables: %w (pip download --no-deps pycocoevalcap==1.2 brings them)", err)
	}
	var jar []byte
	r := &Resources{}
	if info.IsDir() {
		dir := path
		if _, err := os.Stat(filepath.Join(dir, jarName)); errors.Is(err, fs.ErrNotExist) {
			dir = filepath.Join(path, "pycocoevalcap")
		}
		if jar, err = os.ReadFile(filepath.Join(dir, jarName)); err != nil {
			return nil, fmt.Errorf("METEOR tables: %w", err)
		}
		table := filepath.Join(dir, paraphraseName)
		if _, err := os.Stat(table); err == nil {
			r.open = func() (io.ReadCloser, error) { return os.Open(table) }
		}
	} else {
		if jar, r.open, err = fromWheel(path); err != nil {
			return nil, err
		}
	}
	z, err := zip.NewReader(bytes.NewReader(jar), int64(len(jar)))
	if err != nil {
		return nil, fmt.Errorf("METEOR tables: %s is no jar: %w", jarName, err)
	}
	return r, r.read(z)
}

func fromWheel(path string) (jar []byte, open func() (io.ReadCloser, error), err error) {
	w, err := zip.OpenReader(path)
	if err != nil {
		return nil, nil, fmt.Errorf("METEOR tables: %s is neither a folder nor a wheel: %w", path, err)
	}
	defer w.Close()
	f, err := w.Open("pycocoevalcap/" + jarName)
	if err != nil {
		return nil, nil, fmt.Errorf("METEOR tables: wheel %s: %w", path, err)
	}
	defer f.Close()
	if jar, err = io.ReadAll(f); err != nil {
		return nil, nil, fmt.Errorf("METEOR tables: wheel %s: %w", path, err)
	}
	if _, err := fs.Stat(w, "pycocoevalcap/"+paraphraseName); err != nil {
		return jar, nil, nil
	}
	return jar, func() (io.ReadCloser, error) {
		w, err := zip.OpenReader(path)
		if err != nil {
			return nil, err
		}
		f, err := w.Open("pycocoevalcap/" + paraphraseName)
		if err != nil {
			w.Close()
			return nil, err
		}
		return both{f, w}, nil
	}, nil
}

// both closes a file and the archive that it lies in.
type both struct {
	io.ReadCloser
	archive io.Closer
}

func (b both) Close() error { return errors.Join(b.ReadCloser.Close(), b.archive.Close()) }

// Paraphrases tells whether the paraphrase table is there.
func (r *Resources) Paraphrases() bool { return r.open != nil }

func (r *Resources) read(z *zip.Reader) error {
	r.functionWords, r.synsets = map[string]bool{}, map[string][]int{}
	r.bases, r.prefixes = map[string][]string{}, map[string]bool{}
	var key string
	for _, part := range []struct {
		name string
		line func(i int, line string) error
	}{
		{"function/english.words", func(_ int, line string) error {
			if w := tokens(line); len(w) > 0 {
				r.functionWords[w[0]] = true
			}
			return nil
		}},
		{"synonym/english.synsets", func(i int, line string) error {
			if i%2 == 0 {
				key = line
				return nil
			}
			for _, t := range tokens(line) {
				id, err := strconv.Atoi(t)
				if err != nil {
					return err
				}
				r.synsets[key] = append(r.synsets[key], id)
			}
			return nil
		}},
		{"synonym/english.exceptions", func(i int, line string) error {
			if i%2 == 0 {
				key = line
				return nil
			}
			for _, form := range tokens(line) {
				r.bases[form] = append(r.bases[form], key)
			}
			return nil
		}},
		{"nonbreaking/english.prefixes", func(_ int, line string) error {
			w := tokens(line)
			if len(w) > 0 && !strings.HasPrefix(w[0], "#") {
				r.prefixes[w[0]] = len(w) > 1 && w[1] == "#NUMERIC_ONLY#"
			}
			return nil
		}},
	} {
		if err := eachLine(z, part.name, part.line); err != nil {
			return err
		}
	}
	return nil
}

func eachLine(z *zip.Reader, name string, do func(i int, line string) error) error {
	f, err := z.Open(name)
	if err != nil {
		return fmt.Errorf("METEOR tables: %s in the jar: %w", name, err)
	}
	defer f.Close()
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for i := 0; s.Scan(); i++ {
		if err := do(i, s.Text()); err != nil {
			return fmt.Errorf("METEOR tables: %s line %d: %w", name, i+1, err)
		}
	}
	return s.Err()
}

// paraphrases maps a phrase (words joined by spaces) to the phrases that may stand for it, in the table's order.
type paraphrases struct {
	of      map[string][][]string
	longest int
}

// paraphrases returns a part of the table that holds all entries of these words. The table takes seconds to read, so what was
// read last is used again when it has all of them; entries of further words change nothing.
func (r *Resources) paraphrases(vocabulary map[string]bool) (*paraphrases, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	enough := r.loaded != nil
	for w := range vocabulary {
		if !enough {
			break
		}
		enough = r.loadedOf[w]
	}
	if enough {
		return r.loaded, nil
	}
	p, err := r.readParaphrases(vocabulary)
	if err != nil {
		return nil, err
	}
	r.loaded, r.loadedOf = p, vocabulary
	return p, nil
}

// readParaphrases reads the part of the table whose words all occur in the given vocabulary: an entry with any other word cannot
// match. That keeps a table of 272 MB to a few kilobytes.
func (r *Resources) readParaphrases(vocabulary map[string]bool) (*paraphrases, error) {
	p := &paraphrases{of: map[string][][]string{}}
	if r.open == nil {
		return p, nil
	}
	f, err := r.open()
	if err != nil {
		return nil, fmt.Errorf("METEOR paraphrases: %w", err)
	}
	defer f.Close()
	gz, err := gzip.NewReader(bufio.NewReaderSize(f, 1<<20))
	if err != nil {
		return nil, fmt.Errorf("METEOR paraphrases: %w", err)
	}
	s := bufio.NewScanner(gz)
	s.Buffer(make([]byte, 1<<20), 1<<20)
	known := func(line []byte) bool {
		for {
			w, rest, more := bytes.Cut(line, []byte{' '})
			if len(w) > 0 && !vocabulary[string(w)] {
				return false
			}
			if !more {
				return true
			}
			line = rest
		}
	}
	var phrase string
	keep := false
	for i := 0; s.Scan(); i++ {
		switch i % 3 {
		case 1:
			if keep = known(s.Bytes()); keep {
				phrase = strings.Join(tokens(s.Text()), " ")
			}
		case 2:
			if keep && known(s.Bytes()) {
				p.of[phrase] = append(p.of[phrase], tokens(s.Text()))
				p.longest = max(p.longest, strings.Count(phrase, " ")+1)
			}
		}
	}
	if err := s.Err(); err != nil {
		return nil, fmt.Errorf("METEOR paraphrases: %w", err)
	}
	return p, nil
}
