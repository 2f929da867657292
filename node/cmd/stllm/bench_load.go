package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/stllm/stllm/node/checkpoint"
	"github.com/stllm/stllm/node/ort"
)

// benchLoad are the settings of `stllm bench load`.
type benchLoad struct {
	model  modelFlags
	rounds int
}

func (a *app) benchLoadCommand() *cobra.Command {
	var b benchLoad
	cmd := &cobra.Command{
		Use:   "load DIR",
		Short: "Seconds, bytes and memory of loading a model, against plain reading of its files",
		Long: `load reads the files of a model folder from their beginning to their end, then loads the model, in turns; once when the
system holds nothing of the files in memory (cold) and once right after (warm). The ratio is loading over reading, of medians.`,
		Args: exactly(1, "a model folder, or nano"),
		RunE: func(cmd *cobra.Command, args []string) error {
			b.model.dir = args[0]
			return b.run(cmd.Context(), a)
		},
	}
	b.model.addRun(cmd.Flags())
	cmd.Flags().BoolVar(&b.model.opt.MapWeights, "map", false, "use float32 weights in their file without repacking: less memory, slower products; not for 4-bit weights")
	cmd.Flags().IntVar(&b.rounds, "rounds", 3, "turns of each")
	return cmd
}

// loadCost is what one reading or loading took.
type loadCost struct {
	seconds  float64
	fromDisk int64
	peak     int64 // above what the process had before
	own      int64 // afterwards, likewise
	resident int64
}

func (b benchLoad) run(ctx context.Context, a *app) error {
	if b.rounds < 1 {
		return usageError{fmt.Errorf("--rounds is %d, expected at least 1", b.rounds)}
	}
	dir, err := b.model.folder(ctx)
	if err != nil {
		return err
	}
	files, size, err := filesOf(dir, b.model.opt.PointWeights)
	if err != nil {
		return err
	}
	// The library is there before anything is measured; it is no part of a model.
	if _, err := ort.OpenDefault(); err != nil {
		return err
	}
	fmt.Fprintf(a.out, "%s: %d files, %s; medians of %d rounds\n", dir, len(files), gigabytes(size), b.rounds)
	w := tabwriter.NewWriter(a.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "files are\twhat\tseconds\tfrom disk\tpeak memory\tresident after\tof that its own\tratio")
	for _, cold := range []bool{true, false} {
		var reads, loads []loadCost
		for range b.rounds {
			r, err := b.measure(files, cold, func() (io.Closer, error) { return nil, readAll(ctx, a, files, size) })
			if err != nil {
				return err
			}
			l, err := b.measure(files, cold, func() (io.Closer, error) { return a.load(ctx, &b.model) })
			if err != nil {
				return err
			}
			reads, loads = append(reads, r), append(loads, l)
		}
		state := "warm"
		if cold {
			state = "cold"
		}
		r, l := middle(reads), middle(loads)
		fmt.Fprintf(w, "%s\tread\t%.2f\t%s\t%s\t\t\t\n", state, r.seconds, gigabytes(r.fromDisk), gigabytes(r.peak))
		fmt.Fprintf(w, "\tload\t%.2f\t%s\t%s\t%s\t%s\t%.2f\n", l.seconds, gigabytes(l.fromDisk), gigabytes(l.peak), gigabytes(l.resident), gigabytes(l.own), l.seconds/r.seconds)
	}
	return w.Flush()
}

// middle is the round whose time is the median.
func middle(rounds []loadCost) loadCost {
	var seconds []float64
	for _, r := range rounds {
		seconds = append(seconds, r.seconds)
	}
	m := median(seconds)
	for _, r := range rounds {
		if r.seconds == m {
			return r
		}
	}
	return rounds[0]
}

// measure times f and looks at the process's memory.
func (b benchLoad) measure(files []string, cold bool, f func() (io.Closer, error)) (loadCost, error) {
	debug.FreeOSMemory()
	if cold {
		if err := forget(files); err != nil {
			return loadCost{}, err
		}
	}
	if err := resetPeak(); err != nil {
		return loadCost{}, err
	}
	before, err := readMemory()
	if err != nil {
		return loadCost{}, err
	}
	start := time.Now()
	made, err := f()
	if err != nil {
		return loadCost{}, err
	}
	took := time.Since(start).Seconds()
	after, err := readMemory()
	if made != nil {
		err = errors.Join(err, made.Close())
	}
	return loadCost{took, after.fromDisk - before.fromDisk, after.peak - before.resident, after.own - before.own, after.resident - before.resident}, err
}

// filesOf are the files with a model's weights.
func filesOf(dir, points string) (files []string, size int64, err error) {
	f, err := checkpoint.OpenFolder(dir, points)
	if err != nil {
		return nil, 0, err
	}
	defer f.Close()
	for _, path := range f.Files {
		st, err := os.Stat(path)
		if err != nil {
			return nil, 0, err
		}
		size += st.Size()
	}
	return f.Files, size, nil
}

// readAll reads files as a plain program would.
func readAll(ctx context.Context, a *app, files []string, size int64) error {
	bar := a.progress("read")
	defer bar.done()
	room := make([]byte, 4<<20)
	done := int64(0)
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		for err == nil && ctx.Err() == nil {
			var n int
			n, err = f.Read(room)
			done += int64(n)
			bar.set(int(done>>20), int(size>>20))
		}
		f.Close()
		if !errors.Is(err, io.EOF) {
			return errors.Join(ctx.Err(), err)
		}
	}
	return nil
}

// forget asks the system to drop what it holds of files in memory.
func forget(files []string) error {
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = errors.Join(f.Sync(), unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
		f.Close()
		if err != nil {
			return fmt.Errorf("drop %s from the system's memory: %w", path, err)
		}
	}
	return nil
}
