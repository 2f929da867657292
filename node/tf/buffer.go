// Package tf is a time-stamped transform tree with the semantics of tf2 (geometry2 0.39, tf2/src/buffer_core.cpp): ten seconds
// of transforms for each child frame, interpolation and never extrapolation, static transforms for all times, parents that
// may change. A Buffer belongs to one goroutine.
package tf

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
)

// DefaultCache is how long transforms are kept, counted from the newest of their frame.
const DefaultCache = 10 * time.Second

// maxDepth is where tf2 says that a tree has a loop.
const maxDepth = 1000

// quaternionTolerance is how far from 1 the squared length of a quaternion may be.
const quaternionTolerance = 1e-2

// Bounds of a buffer, far beyond any robot's: a publisher that makes up names or stamps must not take all memory.
const (
	maxFrames    = 4096    // names
	maxName      = 1024    // bytes
	maxSamples   = 1 << 20 // of all frames, about 90 MB
	maxSameStamp = 16      // of one frame
)

// Buffer holds the tree.
type Buffer struct {
	keep    int64
	frames  map[string]*cache // by child
	known   map[string]bool   // every frame ever named
	samples int               // of all frames
	dropped uint64
}

// New makes an empty buffer that keeps transforms for the given time; 0 means DefaultCache.
func New(keep time.Duration) *Buffer {
	if keep <= 0 {
		keep = DefaultCache
	}
	return &Buffer{keep: int64(keep), frames: map[string]*cache{}, known: map[string]bool{}}
}

// Clear forgets everything, as after a backward jump of time. Static transforms go, too, unless keepStatic says otherwise: a
// latched publisher does not send them again.
func (b *Buffer) Clear(keepStatic bool) {
	for name, c := range b.frames {
		if !keepStatic || !c.static {
			delete(b.frames, name)
		}
	}
	b.known, b.samples = map[string]bool{}, 0
	for name, c := range b.frames {
		b.samples += len(c.samples)
		b.known[name] = true
		for _, s := range c.samples {
			b.known[s.parent] = true
		}
	}
}

// Set adds a transform that takes points of the child frame into the parent frame. A leading slash of a name is dropped.
// Transforms that tf2 refuses come back as an *InvalidError, data older than the cache as an *[OldError], and what a full
// buffer has no room for as a *[FullError].
func (b *Buffer) Set(parent, child string, stamp int64, t geometry.Transform, static bool) error {
	parent, child = strings.TrimPrefix(parent, "/"), strings.TrimPrefix(child, "/")
	fail := func(format string, args ...any) error {
		return &InvalidError{fmt.Sprintf("transform from %q to %q refused: ", child, parent) + fmt.Sprintf(format, args...)}
	}
	switch q := t.Rotation; {
	case child == "":
		return fail("child_frame_id is empty")
	case parent == "":
		return fail("header.frame_id is empty")
	case parent == child:
		return fail("a frame cannot be its own parent")
	case len(child) > maxName || len(parent) > maxName:
		return &InvalidError{fmt.Sprintf("transform refused: frame names have %d and %d bytes, expected at most %d", len(child), len(parent), maxName)}
	case !t.Finite():
		return fail("translation %v, rotation %v hold a number that is not finite", t.Translation, q)
	case math.Abs(q.Real*q.Real+q.Imag*q.Imag+q.Jmag*q.Jmag+q.Kmag*q.Kmag-1) >= quaternionTolerance:
		return fail("rotation has length %.4f, expected 1", quat.Abs(q))
	}
	names := len(b.known)
	for _, name := range []string{parent, child} {
		if !b.known[name] {
			names++
		}
	}
	if names > maxFrames {
		return &FullError{fmt.Sprintf("transform from %q to %q: %d frames are known, no more are kept", child, parent, len(b.known))}
	}
	c, gone := b.frames[child], 0
	if c == nil || c.static != static {
		if c != nil {
			gone = len(c.samples)
		}
		c = &cache{static: static}
	}
	before := len(c.samples)
	dropped, ok := c.insert(sample{stamp, parent, t}, b.keep)
	if !ok {
		newest, _ := c.latest()
		return &OldError{fmt.Sprintf("transform from %q to %q refused: stamp %s is more than %v older than the newest at %s", child, parent,
			seconds(stamp), time.Duration(b.keep), seconds(newest))}
	}
	samples := b.samples - gone + len(c.samples) - before
	if samples > maxSamples {
		if len(c.samples) == 1 {
			return &FullError{fmt.Sprintf("transform from %q to %q: %d transforms are kept, no more fit", child, parent, b.samples)}
		}
		c.samples = c.samples[1:]
		samples--
		dropped++
	}
	b.frames[child], b.samples = c, samples
	b.known[parent], b.known[child] = true, true
	b.dropped += uint64(dropped)
	return nil
}

// Dropped counts transforms that were taken and then dropped before their time, for want of room.
func (b *Buffer) Dropped() uint64 { return b.dropped }

// Has tells whether a frame was ever named.
func (b *Buffer) Has(frame string) bool { return b.known[frame] }

// Frames lists all frames in order.
func (b *Buffer) Frames() []string { return slices.Sorted(maps.Keys(b.known)) }

// Parent is the newest parent of a frame, or "".
func (b *Buffer) Parent(frame string) string {
	if c := b.frames[frame]; c != nil {
		_, p := c.latest()
		return p
	}
	return ""
}

// Latest is the newest stamp of a frame's transform; static ones have 0.
func (b *Buffer) Latest(frame string) int64 {
	if c := b.frames[frame]; c != nil {
		stamp, _ := c.latest()
		return stamp
	}
	return 0
}

func (b *Buffer) check(role, frame string) error {
	switch {
	case frame == "":
		return &InvalidError{role + " frame is empty"}
	case frame[0] == '/':
		return &InvalidError{fmt.Sprintf("%s frame %q starts with a slash", role, frame)}
	case !b.known[frame]:
		return &LookupError{fmt.Sprintf("%s frame %q does not exist (known: %s)", role, frame, b.someFrames())}
	}
	return nil
}

func (b *Buffer) someFrames() string {
	all := b.Frames()
	if len(all) == 0 {
		return "none yet"
	}
	if len(all) > 10 {
		return strings.Join(all[:10], ", ") + ", …"
	}
	return strings.Join(all, ", ")
}

// Lookup returns the transform that takes points of source into target at a stamp (ns; 0: the latest common time), and the
// stamp that it is for.
func (b *Buffer) Lookup(target, source string, stamp int64) (geometry.Transform, int64, error) {
	if target == source {
		if stamp == 0 {
			stamp = b.Latest(target)
		}
		return geometry.Identity(), stamp, nil
	}
	if err := b.check("target", target); err != nil {
		return geometry.Transform{}, 0, err
	}
	if err := b.check("source", source); err != nil {
		return geometry.Transform{}, 0, err
	}
	if stamp == 0 {
		var err error
		if stamp, err = b.latestCommon(target, source); err != nil {
			return geometry.Transform{}, 0, err
		}
	}
	t, err := b.walk(target, source, stamp)
	return t, stamp, err
}

// LookupFixed is the advanced form: source at its stamp, seen in target at another, by way of a frame that does not move.
func (b *Buffer) LookupFixed(target string, targetStamp int64, source string, sourceStamp int64, fixed string) (geometry.Transform, int64, error) {
	for _, f := range [][2]string{{"target", target}, {"source", source}, {"fixed", fixed}} {
		if err := b.check(f[0], f[1]); err != nil {
			return geometry.Transform{}, 0, err
		}
	}
	a, _, err := b.Lookup(fixed, source, sourceStamp)
	if err != nil {
		return geometry.Transform{}, 0, err
	}
	c, stamp, err := b.Lookup(target, fixed, targetStamp)
	if err != nil {
		return geometry.Transform{}, 0, err
	}
	return c.Mul(a).Normalized(), stamp, nil
}

// chain is a transform being put together along a path.
type chain struct {
	q quat.Number
	v r3.Vec
}

// step goes one frame up. Quaternions are taken as they are, unit or nearly so, as tf2 does.
func (c *chain) step(t geometry.Transform) {
	c.v = r3.Add(rotate(t.Rotation, c.v), t.Translation)
	c.q = quat.Mul(t.Rotation, c.q)
}

func rotate(q quat.Number, v r3.Vec) r3.Vec {
	r := quat.Mul(quat.Mul(q, quat.Number{Imag: v.X, Jmag: v.Y, Kmag: v.Z}), quat.Conj(q))
	return r3.Vec{X: r.Imag, Y: r.Jmag, Z: r.Kmag}
}

func (c chain) inverse() chain {
	q := quat.Conj(c.q)
	return chain{q, rotate(q, r3.Scale(-1, c.v))}
}

func (c chain) transform() geometry.Transform {
	return geometry.Transform{Translation: c.v, Rotation: c.q}.Normalized()
}

// walk climbs from the source to the root and then from the target until it meets that path's end.
func (b *Buffer) walk(target, source string, stamp int64) (geometry.Transform, error) {
	up := chain{q: quat.Number{Real: 1}}
	frame, top := source, source
	var missing *ExtrapolationError
	for depth := 0; ; depth++ {
		c := b.frames[frame]
		if c == nil {
			top = frame // a root has no transform of its own
			break
		}
		s, err := c.at(stamp)
		if err != nil {
			// There may still be a path: the target may lie below this frame.
			err.Frame, err.Target, err.Source = frame, target, source
			top, missing = frame, err
			break
		}
		if frame == target {
			return up.transform(), nil
		}
		up.step(s.pose)
		top, frame = frame, s.parent
		if depth > maxDepth {
			return geometry.Transform{}, &LookupError{"the tree has a loop: " + b.someFrames()}
		}
	}
	down := chain{q: quat.Number{Real: 1}}
	frame = target
	for depth := 0; frame != top; depth++ {
		c := b.frames[frame]
		if c == nil {
			break
		}
		s, err := c.at(stamp)
		if err != nil {
			err.Frame, err.Target, err.Source = frame, target, source
			return geometry.Transform{}, err
		}
		if frame == source {
			return down.inverse().transform(), nil
		}
		down.step(s.pose)
		frame = s.parent
		if depth > maxDepth {
			return geometry.Transform{}, &LookupError{"the tree has a loop: " + b.someFrames()}
		}
	}
	if frame != top {
		if missing != nil {
			return geometry.Transform{}, missing
		}
		return geometry.Transform{}, &ConnectivityError{target, source}
	}
	inv := down.inverse()
	return chain{quat.Mul(inv.q, up.q), r3.Add(rotate(inv.q, up.v), inv.v)}.transform(), nil
}

// latestCommon is the newest stamp at which every link between two frames is known; 0 when all of them are static.
func (b *Buffer) latestCommon(target, source string) (int64, error) {
	type link struct {
		stamp  int64
		parent string
	}
	common := int64(math.MaxInt64)
	take := func(stamp int64) {
		if stamp != 0 {
			common = min(common, stamp)
		}
	}
	done := func() (int64, error) {
		if common == math.MaxInt64 {
			return 0, nil
		}
		return common, nil
	}
	var up []link
	frame := source
	for depth := 0; ; depth++ {
		c := b.frames[frame]
		if c == nil {
			break
		}
		stamp, parent := c.latest()
		if parent == "" {
			break
		}
		take(stamp)
		up = append(up, link{stamp, parent})
		if frame = parent; frame == target {
			return done()
		}
		if depth > maxDepth {
			return 0, &LookupError{"the tree has a loop: " + b.someFrames()}
		}
	}
	common = math.MaxInt64
	frame = target
	for depth := 0; ; depth++ {
		c := b.frames[frame]
		if c == nil {
			return 0, &ConnectivityError{target, source}
		}
		stamp, parent := c.latest()
		if parent == "" {
			return 0, &ConnectivityError{target, source}
		}
		take(stamp)
		if at := slices.IndexFunc(up, func(l link) bool { return l.parent == parent }); at >= 0 {
			for _, l := range up[:at+1] {
				take(l.stamp)
			}
			return done()
		}
		if frame = parent; frame == source {
			return done()
		}
		if depth > maxDepth {
			return 0, &LookupError{"the tree has a loop: " + b.someFrames()}
		}
	}
}
