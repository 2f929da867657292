// Package dds is the DDS participant under the ROS 2 transport: raw CDR payloads, sample identities and discovery through
// Fast DDS. It is linked where Fast DDS is installed (build tag fastdds, which the Makefile sets when it finds the headers);
// elsewhere NewParticipant says what to install, and the rest of the program works without it. It is linked and not loaded
// at run time because Fast DDS has a C++ interface, which no dlopen can find by name across versions.
package dds

import "fmt"

// GUID names a participant or an endpoint on the wire.
type GUID [16]byte

// Prefix is the participant's part.
func (g GUID) Prefix() (p [12]byte) {
	copy(p[:], g[:12])
	return p
}

// Participant returns the GUID of the participant that an endpoint belongs to.
func (g GUID) Participant() GUID {
	copy(g[12:], []byte{0, 0, 1, 0xC1})
	return g
}

func (g GUID) String() string { return fmt.Sprintf("%x.%x", g[:12], g[12:]) }

// Vendor is the RTPS vendor id, which the first two bytes of a GUID repeat.
type Vendor [2]byte

// Vendors that need telling apart (https://www.dds-foundation.org/dds-rtps-vendor-and-product-ids/).
var (
	VendorFastDDS = Vendor{1, 15}
	VendorCyclone = Vendor{1, 16}
	VendorRustDDS = Vendor{1, 18}
)

// Config says how to join a domain.
type Config struct {
	Domain     int      // 0 to 232
	Name       string   // participant name, for tools
	UserData   string   // "enclave=/;"
	Interfaces []string // addresses to use alone; empty: all
	Peers      []string // addresses to find by unicast
	Multicast  bool     // find others by multicast, too
	Loopback   bool     // be found at 127.0.0.1 alone: by all on this machine, by nobody else
	Off        bool     // find nobody, and be found by nobody

	// Garbage is told of each datagram that is no RTPS, or cut short; it must hand over at once. nil: nobody is told.
	Garbage func(from string, size int)
}

// Validate names the field that is wrong.
func (c Config) Validate() error {
	if c.Domain < 0 || c.Domain > 232 {
		return fmt.Errorf("ROS_DOMAIN_ID is %d, expected 0 to 232 (ports end there)", c.Domain)
	}
	return nil
}

// QoS of one endpoint; history is keep-last.
type QoS struct {
	Reliable, TransientLocal bool
	Depth                    int
	UserData                 string // "typehash=RIHS01_…;"
	// Heartbeats lets a writer send one when it is told to, and know which readers have acknowledged anything. Others see its liveliness as MANUAL_BY_TOPIC, without a lease.
	Heartbeats bool
}

// Sample is one message as it came: Data with the CDR encapsulation header.
type Sample struct {
	Writer          GUID
	Vendor          Vendor
	Sequence        int64
	Related         GUID // zero: none
	RelatedSequence int64
	SourceTime      int64 // ns, the writer's wall clock
	Data            []byte
}

// Kind of a discovered entity.
type Kind int

// The kinds, as the shim numbers them.
const (
	KindParticipant Kind = 1
	KindWriter      Kind = 2
	KindReader      Kind = 3
)

// Discovery is something that came to or left the domain.
type Discovery struct {
	Kind                     Kind
	Removed                  bool
	GUID                     GUID
	Vendor                   Vendor
	Topic, Type              string // endpoints
	UserData                 string
	Reliable, TransientLocal bool // endpoints
}

// StatusKind says what happened to an endpoint.
type StatusKind int

// The kinds; the shim numbers the first two.
const (
	Matched      StatusKind = 1 // Count: peers now
	Incompatible StatusKind = 2 // Count: endpoints so far; Policy: the DDS policy id
	Lost         StatusKind = 3 // Count: samples that a reader never got to
)

// Status is an event of one endpoint.
type Status struct {
	Kind   StatusKind
	Count  int
	Policy int
}

// PolicyName is the ROS name of a DDS policy id (DDS 1.4, table 2.2.3).
func PolicyName(id int) string {
	names := map[int]string{
		2: "durability", 4: "deadline", 5: "latency_budget", 6: "ownership", 8: "liveliness", 11: "reliability",
		12: "destination_order", 13: "history", 14: "resource_limits", 22: "data_representation",
	}
	if n, ok := names[id]; ok {
		return n
	}
	return fmt.Sprintf("policy %d", id)
}
