// Package msgs holds the ROS messages that the program speaks: one set of Go structs for both ROS generations, with codecs
// for the ROS 1 wire format and for ROS 2's CDR made from the interface definitions.
package msgs

//go:generate go run ./internal/gen

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/stllm/stllm/msgs/idl"
	"github.com/stllm/stllm/msgs/interfaces"
)

// Message is a pointer to one of the structs of this package.
type Message interface {
	// ROSType is "pkg/Name"; parts of services and actions are named as in ROS 2, "pkg/Ask_Request".
	ROSType() string
}

// Time is a moment in whole seconds and nanoseconds since 1970, as both generations have it on the wire.
type Time struct {
	Sec     int32
	Nanosec uint32
}

// Duration is a span of time.
type Duration struct {
	Sec     int32
	Nanosec uint32 // added to Sec, also when that is negative; ROS 1 writes it as an int32
}

// UnixNano is the moment in nanoseconds. ROS 1's seconds are unsigned; moments after 2038 are read as such.
func (t Time) UnixNano() int64 { return int64(uint32(t.Sec))*int64(time.Second) + int64(t.Nanosec) }

// TimeFromNanos splits nanoseconds.
func TimeFromNanos(ns int64) Time {
	sec := ns / int64(time.Second)
	rest := ns % int64(time.Second)
	if rest < 0 {
		sec, rest = sec-1, rest+int64(time.Second)
	}
	return Time{int32(uint32(sec)), uint32(rest)}
}

// DurationFromNanos splits nanoseconds.
func DurationFromNanos(ns int64) Duration {
	t := TimeFromNanos(ns)
	return Duration(t)
}

// Nanos is the span in nanoseconds.
func (d Duration) Nanos() int64 { return int64(d.Sec)*int64(time.Second) + int64(int32(d.Nanosec)) }

// definitions are read from the embedded texts at first use; they never change.
var definitions = struct{ one, two func() *idl.Set }{
	one: sync.OnceValue(func() *idl.Set { return mustLoad(idl.ROS1) }),
	two: sync.OnceValue(func() *idl.Set { return mustLoad(idl.ROS2) }),
}

func mustLoad(gen idl.Generation) *idl.Set {
	set, err := interfaces.Load(gen)
	if err != nil {
		panic(fmt.Sprintf("built-in interface definitions: %v", err)) // a test loads them
	}
	return set
}

// Definitions are the built-in definitions of an encoding's generation.
func Definitions(e Encoding) *idl.Set {
	if e == ROS1 {
		return definitions.one()
	}
	return definitions.two()
}

// Key brings a type name into the form "pkg/Name": "pkg/msg/Name" and "pkg::msg::dds_::Name_" are taken, too.
func Key(typ string) string {
	if strings.Contains(typ, "::") {
		typ = strings.TrimSuffix(strings.ReplaceAll(strings.ReplaceAll(typ, "::dds_::", "/"), "::", "/"), "_")
	}
	parts := strings.Split(typ, "/")
	if len(parts) == 3 && (parts[1] == "msg" || parts[1] == "srv" || parts[1] == "action") {
		return parts[0] + "/" + parts[2]
	}
	return typ
}

// New makes an empty message by type name.
func New(typ string) (Message, bool) { return newMessage(Key(typ)) }

// MD5 is ROS 1's sum of a message ("sensor_msgs/Image") or service ("stllm_msgs/Ask").
func MD5(typ string) (string, error) { return definitions.one().MD5(Key(typ)) }

// TypeHash is ROS 2's RIHS01 hash of a message, service or action. Where a service and an action have the same name, the
// action is meant when the type says so ("stllm_msgs/action/Ask").
func TypeHash(typ string) (string, error) {
	set, key := definitions.two(), Key(typ)
	if set.HasAction(key) && (strings.Contains(typ, "/action/") || strings.Contains(typ, "::action::") || !set.HasService(key)) {
		return set.ActionHash(key)
	}
	return set.TypeHash(key)
}

// Definition is the text of a type with all that it refers to, in the encoding's dialect.
func Definition(typ string, e Encoding) (string, error) { return Definitions(e).Definition(Key(typ)) }
