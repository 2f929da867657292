package ros2

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/transport/ros2/dds"
)

func TestEnvironment(t *testing.T) {
	multicast := dds.Config{Multicast: true}
	loopback := dds.Config{Peers: []string{"127.0.0.1"}, Loopback: true}
	for _, c := range []struct {
		env  string // NAME=value, by spaces
		want dds.Config
		gid  int
	}{
		{"", multicast, gidIron},
		{"ROS_DISTRO=humble", multicast, gidHumble},
		{"ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET ROS_STATIC_PEERS=192.0.2.7;localhost", dds.Config{Multicast: true, Peers: []string{"192.0.2.7", "127.0.0.1"}}, gidIron},
		{"ROS_AUTOMATIC_DISCOVERY_RANGE=SYSTEM_DEFAULT ROS_STATIC_PEERS=192.0.2.7", multicast, gidIron},
		{"ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST", dds.Config{Peers: []string{"127.0.0.1"}}, gidIron},
		{"ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST ROS_STATIC_PEERS=192.0.2.7", dds.Config{Peers: []string{"127.0.0.1", "192.0.2.7"}}, gidIron},
		{"ROS_AUTOMATIC_DISCOVERY_RANGE=OFF ROS_STATIC_PEERS=192.0.2.7", dds.Config{Off: true}, gidIron},
		{"ROS_LOCALHOST_ONLY=1", loopback, gidIron},
		{"ROS_LOCALHOST_ONLY=1 ROS_AUTOMATIC_DISCOVERY_RANGE=SUBNET ROS_DISTRO=humble", loopback, gidHumble},
		{"ROS_LOCALHOST_ONLY=1 ROS_DISTRO=jazzy", dds.Config{Peers: []string{"127.0.0.1"}}, gidIron},
		{"ROS_LOCALHOST_ONLY=0 ROS_DOMAIN_ID=17", dds.Config{Multicast: true, Domain: 17}, gidIron},
	} {
		t.Run(c.env, func(t *testing.T) {
			clearEnvironment(t)
			for pair := range strings.FieldsSeq(c.env) {
				name, value, _ := strings.Cut(pair, "=")
				t.Setenv(name, value)
			}
			cfg, err := Config{}.withEnvironment()
			if err != nil {
				t.Fatal(err)
			}
			got, err := cfg.dds()
			if err != nil {
				t.Fatal(err)
			}
			c.want.Name, c.want.UserData = "stllm", "enclave=/;"
			if !reflect.DeepEqual(got, c.want) || cfg.GidWidth != c.gid {
				t.Errorf("got %+v, gid %d\nexpected %+v, gid %d", got, cfg.GidWidth, c.want, c.gid)
			}
		})
	}
	for _, bad := range []string{"ROS_DOMAIN_ID=many", "ROS_DOMAIN_ID=233", "ROS_AUTOMATIC_DISCOVERY_RANGE=FAR", "ROS_STATIC_PEERS=no.such.host.invalid"} {
		t.Run(bad, func(t *testing.T) {
			clearEnvironment(t)
			name, value, _ := strings.Cut(bad, "=")
			t.Setenv(name, value)
			if err := CheckEnvironment(); err == nil || !strings.Contains(err.Error(), name) {
				t.Errorf("error %v, expected one that names %s", err, name)
			}
		})
	}
}

func clearEnvironment(t *testing.T) {
	t.Helper()
	for _, name := range []string{"ROS_DOMAIN_ID", "ROS_LOCALHOST_ONLY", "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_STATIC_PEERS", "ROS_DISTRO"} {
		t.Setenv(name, "")
	}
}
