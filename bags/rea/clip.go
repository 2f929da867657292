package rea

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/smallfile"
)

// Clip is what an item shows: frames with poses, intrinsics and a map, all by path.
type Clip struct {
	Frames []Frame
	K      [9]float64 // of the frames' pictures
	Map    string     // path of the point cloud
	// Unposed counts pictures without a pose, which the released readers never look at, since they go by the pose folder.
	Unposed int
}

// Frame is one posed picture.
type Frame struct {
	Name  string // without ending, for example frame_0000000113
	Image string // path
	Pose  geometry.Transform
}

// pictures are the endings that are tried for a pose's frame.
var pictures = []string{".jpg", ".jpeg", ".png", ".JPG", ".PNG"}

// Open finds an item's files, reads its poses and intrinsics and checks that they fit together. The frames are chosen as the
// released readers do it: the sorted list of the pose folder at linspace(0, n−1, count), cut to whole numbers; query start and
// stop are not used. A count of 0 takes all.
func (it Item) Open(roots Roots, count int) (*Clip, error) {
	c := &Clip{Map: under(roots.PointClouds, it.PointCloud)}
	if _, err := os.Stat(c.Map); err != nil {
		return nil, fmt.Errorf("pointcloud: %w", err)
	}
	k, err := numbers(under(roots.K, it.K), 9)
	if err != nil {
		return nil, fmt.Errorf("K: %w", err)
	}
	copy(c.K[:], k)
	if c.K[0] <= 0 || c.K[4] <= 0 || c.K[6] != 0 || c.K[7] != 0 || c.K[8] != 1 {
		return nil, fmt.Errorf("K: %s holds %v, expected fx 0 cx 0 fy cy 0 0 1 with fx and fy above 0", it.K, c.K)
	}
	poses := under(roots.C2Ws, it.C2Ws)
	names, err := posed(poses)
	if err != nil {
		return nil, fmt.Errorf("c2ws: %w", err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("c2ws: folder %s has no .txt pose", poses)
	}
	video := under(roots.Videos, it.Video)
	entries, err := os.ReadDir(video)
	if err != nil {
		return nil, fmt.Errorf("video: %w", err)
	}
	for _, e := range entries {
		name := strings.TrimSuffix(e.Name(), filepath.Ext(e.Name()))
		if _, ok := slices.BinarySearch(names, name); !ok && slices.Contains(pictures, filepath.Ext(e.Name())) {
			c.Unposed++
		}
	}
	for _, i := range Linspace(len(names), count) {
		f := Frame{Name: names[i]}
		if f.Image, err = picture(video, names[i]); err != nil {
			return nil, fmt.Errorf("video: %w", err)
		}
		m, err := numbers(filepath.Join(poses, names[i]+".txt"), 16)
		if err != nil {
			return nil, fmt.Errorf("c2ws: %w", err)
		}
		if f.Pose, err = geometry.FromMatrix([16]float64(m)); err != nil {
			return nil, fmt.Errorf("c2ws: %s.txt: %w", names[i], err)
		}
		c.Frames = append(c.Frames, f)
	}
	return c, nil
}

// Linspace is numpy's linspace(0, n−1, count, dtype=int): the indices that are looked at. With fewer frames than asked for,
// some come more than once, as in the reference; count 0 takes every one.
func Linspace(n, count int) []int {
	if count <= 0 {
		count = n
	}
	out := make([]int, count)
	for i := range out {
		if count > 1 {
			out[i] = int(float64(i) * (float64(n-1) / float64(count-1)))
		}
	}
	if count > 1 {
		out[count-1] = n - 1 // numpy sets the end exactly
	}
	return out
}

func posed(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), ".txt"); ok {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

func picture(dir, name string) (string, error) {
	for _, ending := range pictures {
		p := filepath.Join(dir, name+ending)
		if _, err := os.Stat(p); err == nil {
			return p, nil
		} else if !errors.Is(err, fs.ErrNotExist) {
			return "", err
		}
	}
	return "", fmt.Errorf("pose %s.txt has no picture %s.jpg or .png in %s", name, name, dir)
}

// maxText bounds a file of a few numbers.
const maxText = 1 << 16

// numbers reads a text file of exactly n finite numbers.
func numbers(path string, n int) ([]float64, error) {
	b, err := smallfile.Read(path, maxText)
	if err != nil {
		return nil, err
	}
	return parseNumbers(path, string(b), n)
}

func parseNumbers(path, text string, n int) ([]float64, error) {
	fields := strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == '\n' || r == '\r' || r == '\t' || r == ',' })
	if len(fields) != n {
		return nil, fmt.Errorf("%s holds %d numbers, expected %d", path, len(fields), n)
	}
	out := make([]float64, n)
	for i, f := range fields {
		v, err := strconv.ParseFloat(f, 64)
		if err != nil || v != v || v-v != 0 {
			return nil, fmt.Errorf("%s: number %d is %q, expected a finite number", path, i+1, f)
		}
		out[i] = v
	}
	return out, nil
}
