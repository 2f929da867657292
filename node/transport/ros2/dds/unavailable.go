//go:build !fastdds

package dds

import "errors"

// Available tells whether this binary was built with Fast DDS.
const Available = false

// errUnavailable says what is missing and how to get it.
var errUnavailable = errors.New("this binary was built without Fast DDS, so it does not speak ROS 2: " +
	"install it (apt-get install libfastrtps-dev libfastcdr-dev) and run make build again; ROS 1 and bag replay work without")

type (
	// Participant is not to be had in this build.
	Participant struct{}
	// Writer is not to be had in this build.
	Writer struct{}
	// Reader is not to be had in this build.
	Reader struct{}
)

// NewParticipant says what is missing.
func NewParticipant(Config, func(Discovery)) (*Participant, error) { return nil, errUnavailable }

// NewWriter is never reached without a participant; the same holds for all that follows.
func (*Participant) NewWriter(string, string, QoS, func(Status)) (*Writer, error) {
	return nil, errUnavailable
}

// NewReader fails.
func (*Participant) NewReader(string, string, QoS, func(Status), func(Sample)) (*Reader, error) {
	return nil, errUnavailable
}

// GUID is zero.
func (*Participant) GUID() GUID { return GUID{} }

// Close does nothing.
func (*Participant) Close() {}

// Write fails.
func (*Writer) Write([]byte) (int64, error) { return 0, errUnavailable }

// WriteRelated fails.
func (*Writer) WriteRelated([]byte, GUID, int64) error { return errUnavailable }

// GUID is zero.
func (*Writer) GUID() GUID { return GUID{} }

// Matched is false.
func (*Writer) Matched(GUID) bool { return false }

// Settled is false.
func (*Writer) Settled(GUID) bool { return false }

// Heartbeat fails.
func (*Writer) Heartbeat() error { return errUnavailable }

// Acknowledged is true: there is nothing to wait for.
func (*Writer) Acknowledged() bool { return true }

// Close does nothing.
func (*Writer) Close() {}

// GUID is zero.
func (*Reader) GUID() GUID { return GUID{} }

// Close does nothing.
func (*Reader) Close() {}
