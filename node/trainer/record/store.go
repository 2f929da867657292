package record

import (
	"bufio"
	"context"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/stllm/stllm/node/wholefile"
)

// Store is a data folder: shape.json and one file a seed.
type Store struct {
	dir   string
	shape Shape
}

// Open opens a data folder, and makes it where it is absent. A folder of another shape is refused.
func Open(dir string, s Shape) (*Store, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	path := filepath.Join(dir, "shape.json")
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		if data, err = json.MarshalIndent(s, "", "  "); err != nil {
			return nil, err
		}
		return &Store{dir, s}, os.WriteFile(path, append(data, '\n'), 0o644)
	}
	if err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	var found Shape
	if err := json.Unmarshal(data, &found); err != nil {
		return nil, fmt.Errorf("%s: %w; delete the folder to make its data again", path, err)
	}
	if found != s {
		return nil, fmt.Errorf("%s: the data has the shape %+v, expected %+v: name another folder", path, found, s)
	}
	return &Store{dir, s}, nil
}

// Shape is the shape of all records.
func (s *Store) Shape() Shape { return s.shape }

func (s *Store) path(seed uint64) string {
	return filepath.Join(s.dir, fmt.Sprintf("%08d.gob", seed))
}

// Has tells whether the record of a seed lies in the folder.
func (s *Store) Has(seed uint64) bool {
	_, err := os.Stat(s.path(seed))
	return err == nil
}

// Get reads the record of a seed, and makes it where it is absent. A damaged file is made again.
func (s *Store) Get(seed uint64) (*Record, error) {
	r, err := s.read(seed)
	if err == nil {
		return r, nil
	}
	if r, err = Make(seed, s.shape); err != nil {
		return nil, err
	}
	return r, s.write(r)
}

func (s *Store) read(seed uint64) (*Record, error) {
	f, err := os.Open(s.path(seed))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var r Record
	if err := gob.NewDecoder(bufio.NewReaderSize(f, 1<<20)).Decode(&r); err != nil {
		return nil, fmt.Errorf("%s: %w", f.Name(), err)
	}
	if r.Seed != seed {
		return nil, fmt.Errorf("%s: holds seed %d", f.Name(), r.Seed)
	}
	return &r, nil
}

// write puts the file in its place in one step, so that a killed run leaves no half record.
func (s *Store) write(r *Record) error {
	err := wholefile.Stream(s.path(r.Seed), func(w io.Writer) error { return gob.NewEncoder(w).Encode(r) })
	if err != nil {
		return fmt.Errorf("data folder: record of seed %d: %w", r.Seed, err)
	}
	return nil
}

// Fill makes the records of seeds that are absent, several at a time. progress may be nil.
func (s *Store) Fill(ctx context.Context, seeds []uint64, workers int, progress func(done, total int)) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	work := make(chan uint64)
	var wg sync.WaitGroup
	var mu sync.Mutex
	done := 0
	for range max(1, workers) {
		wg.Go(func() {
			for seed := range work {
				if !s.Has(seed) {
					r, err := Make(seed, s.shape)
					if err == nil {
						err = s.write(r)
					}
					if err != nil {
						cancel(err)
						return
					}
				}
				mu.Lock()
				done++
				if progress != nil {
					progress(done, len(seeds))
				}
				mu.Unlock()
			}
		})
	}
send:
	for _, seed := range seeds {
		select {
		case work <- seed:
		case <-ctx.Done():
			break send
		}
	}
	close(work)
	wg.Wait()
	return context.Cause(ctx)
}
