package ros2

import (
	"fmt"
	"os"
	"strconv"
	"strings"

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
	Range       string
	StaticPeers []string // default ROS_STATIC_PEERS, separated by ";"
	// GidWidth is 16 (Iron and later) or 24 (up to Humble): the layout of ros_discovery_info. Default by ROS_DISTRO, then 16.
	GidWidth   int
	UseSimTime bool
	Log        zerolog.Logger
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
		switch os.Getenv("ROS_DISTRO") {
		case "foxy", "galactic", "humble":
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
	if c.Range == "" {
		c.Range = os.Getenv("ROS_AUTOMATIC_DISCOVERY_RANGE")
	}
	if c.Range == "" && os.Getenv("ROS_LOCALHOST_ONLY") == "1" {
		c.Range = "LOCALHOST"
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

// dds turns the discovery settings into addresses.
func (c Config) dds() (dds.Config, error) {
	d := dds.Config{Domain: *c.Domain, Name: c.Name, UserData: "enclave=" + c.Enclave + ";", Peers: c.StaticPeers}
	switch strings.ToUpper(c.Range) {
	case "", "SUBNET", "SYSTEM_DEFAULT":
		d.Multicast = true
	case "LOCALHOST":
		d.Interfaces = []string{"127.0.0.1"}
		d.Peers = append([]string{"127.0.0.1"}, d.Peers...)
		d.Multicast = true
	case "OFF":
		d.Peers = nil
	default:
		return d, fmt.Errorf("ROS_AUTOMATIC_DISCOVERY_RANGE is %q, expected SUBNET, LOCALHOST, OFF or SYSTEM_DEFAULT", c.Range)
	}
	return d, d.Validate()
}
