package tf

import (
	"errors"
	"fmt"
)

// InvalidError refuses an argument or a transform that tf2 refuses, too.
type InvalidError struct{ Why string }

func (e *InvalidError) Error() string { return "tf: " + e.Why }

// OldError refuses a transform that is older than the cache goes back.
type OldError struct{ Why string }

func (e *OldError) Error() string { return "tf: " + e.Why }

// FullError refuses a transform for which there is no room.
type FullError struct{ Why string }

func (e *FullError) Error() string { return "tf: " + e.Why }

// LookupError says that a frame is not known, or that the tree has a loop.
type LookupError struct{ Why string }

func (e *LookupError) Error() string { return "tf: " + e.Why }

// ConnectivityError says that two frames are not in one tree.
type ConnectivityError struct{ Target, Source string }

func (e *ConnectivityError) Error() string {
	return fmt.Sprintf("tf: frames %q and %q are not connected: they are in different trees (is a publisher of the link between them missing?)", e.Source, e.Target)
}

// Extrapolation says on which side of the data a stamp lies.
type Extrapolation int

// The kinds of extrapolation.
const (
	NoData    Extrapolation = iota // the frame has no transform at all
	OneSample                      // a single one, of another stamp
	Backward                       // before the oldest
	Forward                        // after the newest: it may still come
)

// ExtrapolationError says that a transform is not known at a stamp.
type ExtrapolationError struct {
	Kind           Extrapolation
	Requested      int64  // ns
	Bound          int64  // ns: the nearest stamp that is known
	Frame          string // child frame whose data ends
	Target, Source string
}

func (e *ExtrapolationError) Error() string {
	where := fmt.Sprintf(" (frame %q, looking up %q in %q)", e.Frame, e.Source, e.Target)
	switch e.Kind {
	case NoData:
		return "tf: no transform is known" + where
	case OneSample:
		return fmt.Sprintf("tf: time %s was asked for, the only transform is of %s%s", seconds(e.Requested), seconds(e.Bound), where)
	case Backward:
		return fmt.Sprintf("tf: time %s lies %s s before the oldest transform at %s%s", seconds(e.Requested), seconds(e.Bound-e.Requested), seconds(e.Bound), where)
	}
	return fmt.Sprintf("tf: time %s lies %s s after the newest transform at %s%s", seconds(e.Requested), seconds(e.Requested-e.Bound), seconds(e.Bound), where)
}

func seconds(ns int64) string { return fmt.Sprintf("%d.%09d", ns/1e9, ns%1e9) }

// MayCome tells whether waiting can help: the newest data is older than what was asked for, or a frame or link is not known
// yet. Data that is too old will not come back.
func MayCome(err error) bool {
	var x *ExtrapolationError
	if errors.As(err, &x) {
		return x.Kind == Forward || x.Kind == NoData || x.Kind == OneSample && x.Bound < x.Requested
	}
	var lookup *LookupError
	var connect *ConnectivityError
	return errors.As(err, &lookup) || errors.As(err, &connect)
}
