package ros2

import (
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rs/zerolog"

	"github.com/stllm/stllm/node/transport/ros2/dds"
)

// Config says how to join a graph. Zero fields come from the environment, as they do for rcl.
type Config struct {
	Name, Namespace string
	Remaps          map[string]string
	Domain          *int   // default ROS_DOMAIN_ID, then 0
	Enclave         string // default "/"
	// Range is ROS_AUTOMATIC_DISCOVERY_RANGE: SUBNET, LOCALHOST, OFF or SYSTEM_DEFAULT; ROS_LOCALHOST_ONLY=1 means LOCALHOST.
	Range string
	// Loopback, with LOCALHOST, is how that was up to Humble: nodes use 127.0.0.1 alone, and one that announces another address
	// is not heard. From Iron on they use their ordinary addresses, which CycloneDDS then insists on. ROS_LOCALHOST_ONLY=1 means
	// it unless ROS_DISTRO names a later release.
	Loopback    bool
	StaticPeers []string // IPv4 addresses or names; default ROS_STATIC_PEERS, separated by ";"
	// GidWidth is 16 (Iron and later) or 24 (up to Humble): the layout of ros_discovery_info. Default by ROS_DISTRO, then 16.
	GidWidth   int
	UseSimTime bool
	Log        zerolog.Logger
}

// resolveTime is how long a static peer's name may take to resolve.
const resolveTime = 5 * time.Second

// CheckEnvironment says what is wrong with the ROS 2 variables of this process, as New would.
func CheckEnvironment() error {
	c, err := Config{}.withEnvironment()
	if err == nil {
		_, err = c.dds()
	}
	return err
}

func (c Config) withEnvironment() (Config, error) {
	if c.Name == "" {
		c.Name = defaultName
	}
	if c.Enclave == "" {
		c.Enclave = "/"
	}
	if c.GidWidth == 0 {
		c.GidWidth = gidIron
		if upToHumble() {
			c.GidWidth = gidHumble
		}
	}
	if c.GidWidth != gidIron && c.GidWidth != gidHumble {
		return c, fmt.Errorf("gid width is %d, expected %d (Iron and later) or %d (Humble and earlier)", c.GidWidth, gidIron, gidHumble)
	}
	if c.Domain == nil {
		id := 0
		if v := os.Getenv("ROS_DOMAIN_ID"); v != "" {
			var err error
			if id, err = strconv.Atoi(v); err != nil {
				return c, fmt.Errorf("ROS_DOMAIN_ID is %q, expected a number from 0 to 232", v)
			}
		}
		c.Domain = &id
	}
	if c.Range == "" && os.Getenv("ROS_LOCALHOST_ONLY") == "1" { // it goes before the range in rcl, too
		c.Range = "LOCALHOST"
		c.Loopback = os.Getenv("ROS_DISTRO") == "" || upToHumble()
	}
	if c.Range == "" {
		c.Range = os.Getenv("ROS_AUTOMATIC_DISCOVERY_RANGE")
	}
	if c.StaticPeers == nil {
		for p := range strings.SplitSeq(os.Getenv("ROS_STATIC_PEERS"), ";") {
			if p = strings.TrimSpace(p); p != "" {
				c.StaticPeers = append(c.StaticPeers, p)
			}
		}
	}
	return c, nil
}

// upToHumble tells whether ROS_DISTRO names a release before Iron.
func upToHumble() bool {
	return slices.Contains([]string{"foxy", "galactic", "humble"}, os.Getenv("ROS_DISTRO"))
}

// dds turns the discovery settings into addresses, as rmw_fastrtps does from Iron on: only SUBNET goes by multicast, LOCALHOST and
// SUBNET try the static peers, OFF finds nobody. In LOCALHOST all goes to 127.0.0.1, which Fast DDS also puts in the place of the
// machine's other addresses, while rmw_cyclonedds uses its ordinary interface and asks localhost. CycloneDDS 0.10 and a node here
// find each other; 11 drops announcements that come over loopback unless its configuration names that interface, too.
func (c Config) dds() (dds.Config, error) {
	d := dds.Config{Domain: *c.Domain, Name: c.Name, UserData: "enclave=" + c.Enclave + ";"}
	static := true
	switch strings.ToUpper(c.Range) {
	case "", "SUBNET":
		d.Multicast = true
	case "SYSTEM_DEFAULT":
		d.Multicast, static = true, false
	case "LOCALHOST":
		d.Peers = []string{"127.0.0.1"}
		d.Loopback = c.Loopback && len(c.StaticPeers) == 0 // a peer elsewhere has to reach us, too
	case "OFF":
		d.Off, static = true, false
	default:
		return d, fmt.Errorf("ROS_AUTOMATIC_DISCOVERY_RANGE is %q, expected SUBNET, LOCALHOST, OFF or SYSTEM_DEFAULT", c.Range)
	}
	if static {
		for _, p := range c.StaticPeers {
			address, err := resolvePeer(p)
			if err != nil {
				return d, err
			}
			d.Peers = append(d.Peers, address)
		}
	}
	return d, d.Validate()
}

// resolvePeer finds the IPv4 address of a static peer.
func resolvePeer(name string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), resolveTime)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip4", name)
	if err != nil {
		return "", fmt.Errorf("ROS_STATIC_PEERS: %q is neither an IPv4 address nor a name of one: %w", name, err)
	}
	return addresses[0].Unmap().String(), nil
}
