package peers_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport"
	"github.com/stllm/stllm/node/transport/ros2"
	"github.com/stllm/stllm/node/transport/ros2/dds"
	"github.com/stllm/stllm/node/transport/ros2/peers"
)

// entities is rmw_dds_common/ParticipantEntitiesInfo with gids of either width.
type entities struct {
	gid   dds.GUID
	nodes []nodeInfo
}

type nodeInfo struct {
	namespace, name  string
	readers, writers []dds.GUID
}

// read decodes little-endian CDR; a message that is too short panics, which fails the test.
func (e *entities) read(b []byte, width int) {
	b = b[4:]
	at := 0
	gid := func() (g dds.GUID) {
		copy(g[:], b[at:at+width])
		at += width
		return g
	}
	number := func() int {
		at = (at + 3) &^ 3
		at += 4
		return int(binary.LittleEndian.Uint32(b[at-4:]))
	}
	text := func() string {
		n := number()
		at += n
		return string(b[at-n : at-1])
	}
	gids := func() (list []dds.GUID) {
		for range number() {
			list = append(list, gid())
		}
		return list
	}
	e.gid = gid()
	for range number() {
		e.nodes = append(e.nodes, nodeInfo{text(), text(), gids(), gids()})
	}
}

// write is the reverse, for one node.
func (e *entities) write(width int) []byte {
	b := []byte{0, 1, 0, 0}
	number := func(n int) {
		b = append(b, make([]byte, -len(b)&3)...)
		b = binary.LittleEndian.AppendUint32(b, uint32(n))
	}
	gids := func(list ...dds.GUID) {
		for _, g := range list {
			b = append(append(b, g[:]...), make([]byte, width-16)...)
		}
	}
	gids(e.gid)
	number(len(e.nodes))
	for _, n := range e.nodes {
		for _, s := range []string{n.namespace, n.name} {
			number(len(s) + 1)
			b = append(append(b, s...), 0)
		}
		for _, list := range [][]dds.GUID{n.readers, n.writers} {
			number(len(list))
			gids(list...)
		}
	}
	return b
}

// discoveryInfo describes the graph's topic.
func discoveryInfo(t *testing.T, width int) peers.Endpoint {
	e := peers.Message(t, "", &msgs.ParticipantEntitiesInfo{}, dds.QoS{Reliable: true, TransientLocal: true, Depth: 100})
	e.Topic = "ros_discovery_info"
	e.Text = strings.ReplaceAll(e.Text, "uint8[16] data", fmt.Sprintf("uint8[%d] data", width))
	return e
}

func TestGraph(t *testing.T) {
	for _, width := range []int{16, 24} {
		t.Run(fmt.Sprintf("gid%d", width), func(t *testing.T) {
			each(t, func(t *testing.T, start func() *peers.Peer) { graph(t, start, width) })
		})
	}
}

func graph(t *testing.T, start func() *peers.Peer, width int) {
	n := node(t, ros2.Config{Name: "eyes", Namespace: "/robot1", Enclave: "/kitchen", GidWidth: width})
	subscribe(t, n, "/camera/image", &msgs.Image{}, transport.SensorQoS())
	subscribe(t, n, "/tf_static", &msgs.TFMessage{}, transport.StaticQoS())
	advertise(t, n, "~answer_text", &msgs.String{}, transport.DefaultQoS())
	short := advertise(t, n, "~gone", &msgs.String{}, transport.DefaultQoS())
	if _, err := n.Serve("~clear_window", transport.Service{Type: "std_srvs/Trigger", Request: func() msgs.Message { return &msgs.TriggerRequest{} },
		Handle: func(context.Context, msgs.Message) (msgs.Message, error) { return &msgs.TriggerResponse{}, nil }}); err != nil {
		t.Fatal(err)
	}
	if _, err := n.ServeAction("~ask_action", transport.Action{Type: "stllm_msgs/Ask", Goal: func() msgs.Message { return &msgs.AskGoal{} },
		Result: func() msgs.Message { return &msgs.AskResult{} }, Execute: func(context.Context, msgs.Message, func(msgs.Message)) (msgs.Message, error) {
			return &msgs.AskResult{}, nil
		}}); err != nil {
		t.Fatal(err)
	}
	if err := short.Close(); err != nil {
		t.Fatal(err)
	}
	const service, action = "robot1/eyes/clear_window", "robot1/eyes/ask_action/_action/"
	hash := func(typ string) string {
		h, err := msgs.TypeHash(typ)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	// Each endpoint: kind, topic, type, reliability, durability, hash. The first hashes are those that ROS 2 Jazzy publishes.
	const (
		str     = "RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"
		img     = "RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47"
		trigger = "RIHS01_eeff2cd6fa5ad9d27cdf4dec64818317839b62f212a91e6b5304b634b2062c5f"
	)
	want := map[string]bool{
		"reader rt/camera/image sensor_msgs::msg::dds_::Image_ be vol " + img:                                                                    true,
		"reader rt/tf_static tf2_msgs::msg::dds_::TFMessage_ rel tl " + hash("tf2_msgs/TFMessage"):                                               true,
		"writer rt/robot1/eyes/answer_text std_msgs::msg::dds_::String_ rel vol " + str:                                                          true,
		"reader rq/" + service + "Request std_srvs::srv::dds_::Trigger_Request_ rel vol " + trigger:                                              true,
		"writer rr/" + service + "Reply std_srvs::srv::dds_::Trigger_Response_ rel vol " + trigger:                                               true,
		"writer rt/" + action + "feedback stllm_msgs::action::dds_::Ask_FeedbackMessage_ rel vol " + hash("stllm_msgs/Ask_FeedbackMessage"):      true,
		"writer rt/" + action + "status action_msgs::msg::dds_::GoalStatusArray_ rel tl " + hash("action_msgs/GoalStatusArray"):                  true,
		"reader rq/" + action + "send_goalRequest stllm_msgs::action::dds_::Ask_SendGoal_Request_ rel vol " + hash("stllm_msgs/Ask_SendGoal"):    true,
		"writer rr/" + action + "send_goalReply stllm_msgs::action::dds_::Ask_SendGoal_Response_ rel vol " + hash("stllm_msgs/Ask_SendGoal"):     true,
		"reader rq/" + action + "get_resultRequest stllm_msgs::action::dds_::Ask_GetResult_Request_ rel vol " + hash("stllm_msgs/Ask_GetResult"): true,
		"writer rr/" + action + "get_resultReply stllm_msgs::action::dds_::Ask_GetResult_Response_ rel vol " + hash("stllm_msgs/Ask_GetResult"):  true,
		"reader rq/" + action + "cancel_goalRequest action_msgs::srv::dds_::CancelGoal_Request_ rel vol " + hash("action_msgs/CancelGoal"):       true,
		"writer rr/" + action + "cancel_goalReply action_msgs::srv::dds_::CancelGoal_Response_ rel vol " + hash("action_msgs/CancelGoal"):        true,
	}
	p := start()
	reader := p.Reader(discoveryInfo(t, width))
	var e entities
	for e.nodes == nil || len(e.nodes[0].readers)+len(e.nodes[0].writers) != len(want) { // what comes first may be from before
		e = entities{}
		e.read(reader.Next().Data, width)
	}
	if len(e.nodes) != 1 || e.nodes[0].namespace != "/robot1" || e.nodes[0].name != "eyes" {
		t.Fatalf("%+v", e)
	}
	if e.gid != e.gid.Participant() {
		t.Errorf("gid %v is none of a participant", e.gid)
	}
	if p.TellsParticipants() {
		if u := p.UserData(e.gid); u != "enclave=/kitchen;" {
			t.Errorf("participant's user data %q", u)
		}
	}
	var found, own []dds.Discovery // own: those of the graph's topic, which are the participant's and no node's
	eventually(t, "the endpoints are discovered", func() bool {
		found, own = nil, nil
		for _, d := range p.Endpoints(e.gid) {
			if d.Topic == "ros_discovery_info" {
				own = append(own, d)
			} else {
				found = append(found, d)
			}
		}
		return len(found) == len(want) && len(own) == 2
	})
	for _, d := range own {
		user := ""
		if width == 16 { // the hash that ROS 2 Jazzy publishes; Humble has none
			user = "typehash=RIHS01_91a0593bacdcc50ea9bdcf849a938b128412cc1ea821245c663bcd26f83c295e;"
		}
		if d.Type != "rmw_dds_common::msg::dds_::ParticipantEntitiesInfo_" || !d.Reliable || !d.TransientLocal || d.UserData != user {
			t.Errorf("%+v", d)
		}
		if slices.Contains(e.nodes[0].readers, d.GUID) || slices.Contains(e.nodes[0].writers, d.GUID) {
			t.Errorf("an end of ros_discovery_info (%v) is said to be the node's", d.GUID)
		}
	}
	got := map[string]bool{}
	for _, d := range found {
		kind, owned := "reader", e.nodes[0].readers
		if d.Kind == dds.KindWriter {
			kind, owned = "writer", e.nodes[0].writers
		}
		if !slices.Contains(owned, d.GUID) {
			t.Errorf("%s of %s (%v) is not the node's in ros_discovery_info", kind, d.Topic, d.GUID)
		}
		words := []string{kind, d.Topic, d.Type, "be", "vol"}
		if d.Reliable {
			words[3] = "rel"
		}
		if d.TransientLocal {
			words[4] = "tl"
		}
		for pair := range strings.SplitSeq(d.UserData, ";") {
			if h, ok := strings.CutPrefix(pair, "typehash="); ok {
				words = append(words, h)
			}
		}
		if strings.HasPrefix(d.Topic, "r") && d.Topic[1] != 't' && !strings.Contains(d.UserData, "serviceid=") {
			t.Errorf("%s of %s has no serviceid: %q", kind, d.Topic, d.UserData)
		}
		got[strings.Join(words, " ")] = true
	}
	if !maps.Equal(got, want) {
		for w := range want {
			if !got[w] {
				t.Errorf("missing: %s", w)
			}
		}
		for g := range got {
			if !want[g] {
				t.Errorf("found:   %s", g)
			}
		}
	}
}

// What a peer tells of itself names the source of its messages, with gids of both widths.
func TestGraphIn(t *testing.T) {
	for _, width := range []int{16, 24} {
		t.Run(fmt.Sprintf("gid%d", width), func(t *testing.T) {
			each(t, func(t *testing.T, start func() *peers.Peer) {
				n := node(t, ros2.Config{Name: "eyes"})
				chat, _ := subscribe(t, n, "/chat", &msgs.String{}, transport.DefaultQoS())
				p := start()
				w := p.Writer(peers.Message(t, "/chat", &msgs.String{}, dds.QoS{Reliable: true, Depth: 10}))
				info := p.Writer(discoveryInfo(t, width))
				e := entities{gid: p.GUID(), nodes: []nodeInfo{{"/", "silent", nil, nil}, {"/there", "talker", nil, []dds.GUID{w.GUID}}}}
				info.Write(e.write(width))
				w.Matched(1)
				info.Matched(1)
				for source := ""; source != "/there/talker"; {
					w.Send(&msgs.String{Data: "who am I"})
					if source = receive(t, "a message", chat).Source; source != "" && source != "/there/talker" {
						t.Fatalf("source %q", source)
					}
				}
			})
		})
	}
}
