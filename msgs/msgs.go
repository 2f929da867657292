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

// TypeHash is ROS 2's RIHS01 hash of a message or service.
func TypeHash(typ string) (string, error) { return definitions.two().TypeHash(Key(typ)) }

// Definition is the text of a type with all that it refers to, in the encoding's dialect.
func Definition(typ string, e Encoding) (string, error) { return Definitions(e).Definition(Key(typ)) }

// Compatible tells whether a foreign definition of a type (as a bag carries it) has the same fields as the built-in one; the
// error names the first that differs.
func Compatible(typ string, e Encoding, definition string) error {
	key := Key(typ)
	own, ok := Definitions(e).Spec(key)
	if !ok {
		return fmt.Errorf("message type %s is not known", typ)
	}
	gen := idl.ROS2
	if e == ROS1 {
		gen = idl.ROS1
	}
	foreign := map[string]*idl.Spec{}
	for i, part := range strings.Split(definition, strings.Repeat("=", 80)) {
		k := key
		if i > 0 {
			head, body, _ := strings.Cut(strings.TrimLeft(part, "\r\n"), "\n")
			k, part = Key(strings.TrimSpace(strings.TrimPrefix(head, "MSG:"))), body
		}
		pkg, name, _ := strings.Cut(k, "/")
		spec, err := idl.Parse(pkg, name, "msg", part, gen)
		if err != nil {
			return fmt.Errorf("foreign definition: %w", err)
		}
		foreign[k] = spec
	}
	return compare(own, foreign[key], e, foreign)
}

func compare(own, other *idl.Spec, e Encoding, foreign map[string]*idl.Spec) error {
	if other == nil {
		return fmt.Errorf("the foreign definition lacks %s", own.Key())
	}
	for i, f := range own.Fields {
		if i >= len(other.Fields) {
			return fmt.Errorf("%s: field %s is missing in the foreign definition", own.Key(), f.Name)
		}
		g := other.Fields[i]
		if f.Type != g.Type || f.Name != g.Name {
			return fmt.Errorf("%s: field %d is %v %s in the foreign definition, expected %v %s", own.Key(), i+1, g.Type, g.Name, f.Type, f.Name)
		}
		if f.Type.Builtin() || f.Type.Package == "builtin_interfaces" {
			continue
		}
		inner, ok := Definitions(e).Spec(f.Type.Key())
		if !ok {
			return fmt.Errorf("%s: type %s is not known", own.Key(), f.Type.Key())
		}
		if err := compare(inner, foreign[f.Type.Key()], e, foreign); err != nil {
			return err
		}
	}
	if len(other.Fields) > len(own.Fields) {
		return fmt.Errorf("%s: the foreign definition has another field %s", own.Key(), other.Fields[len(own.Fields)].Name)
	}
	return nil
}
