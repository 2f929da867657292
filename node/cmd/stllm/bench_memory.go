package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// memory is what the system says of this process's memory, in bytes.
type memory struct {
	peak     int64 // largest resident size since the last reset (VmHWM)
	resident int64 // VmRSS: own memory, and pages of mapped files that happen to be in
	own      int64 // RssAnon: what is not a view of a file
	swap     int64 // VmSwap
	fromDisk int64 // bytes that a disk had to give since the process began
}

func readMemory() (memory, error) {
	var m memory
	if err := fields("/proc/self/status", map[string]*int64{"VmHWM": &m.peak, "VmRSS": &m.resident, "RssAnon": &m.own, "VmSwap": &m.swap}); err != nil {
		return m, err
	}
	return m, fields("/proc/self/io", map[string]*int64{"read_bytes": &m.fromDisk})
}

// resetPeak makes the peak begin anew.
func resetPeak() error {
	if err := os.WriteFile("/proc/self/clear_refs", []byte("5"), 0); err != nil {
		return fmt.Errorf("reset the peak of memory: %w", err)
	}
	return nil
}

// fields reads lines "name: number" of a file in /proc; numbers in kB become bytes.
func fields(path string, into map[string]*int64) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("memory: %w", err)
	}
	defer f.Close()
	found := 0
	for s := bufio.NewScanner(f); s.Scan(); {
		name, rest, _ := strings.Cut(s.Text(), ":")
		to := into[name]
		if to == nil {
			continue
		}
		parts := strings.Fields(rest)
		if len(parts) == 0 {
			continue
		}
		if *to, err = strconv.ParseInt(parts[0], 10, 64); err != nil {
			return fmt.Errorf("memory: %s of %s: %w", name, path, err)
		}
		if len(parts) > 1 && parts[1] == "kB" {
			*to *= 1024
		}
		found++
	}
	if found < len(into) {
		return errors.New("memory: " + path + " lacks some of what was asked for: is this a Linux system with /proc?")
	}
	return nil
}

// gigabytes writes a size for people.
func gigabytes(n int64) string {
	if n < 1e8 {
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.2f GB", float64(n)/1e9)
}
