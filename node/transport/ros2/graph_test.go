package ros2

import (
	"reflect"
	"testing"

	"github.com/stllm/stllm/node/transport/ros2/dds"
)

func example() participantEntities {
	return participantEntities{gid: dds.GUID{1, 15, 9, 15: 0xC1}, nodes: []nodeEntities{
		{namespace: "/", name: "stllm", readers: []dds.GUID{{1}, {2}}, writers: []dds.GUID{{3}}},
		{namespace: "/a", name: "talker", writers: []dds.GUID{{4}}},
	}}
}

func TestEntitiesOfBothWidths(t *testing.T) {
	for _, width := range []int{gidIron, gidHumble} {
		for _, p := range []participantEntities{example(), {gid: dds.GUID{7}}} {
			got, err := decodeEntities(p.encode(width))
			if err != nil {
				t.Fatalf("width %d: %v", width, err)
			}
			if !reflect.DeepEqual(got, p) {
				t.Errorf("width %d: got %+v, expected %+v", width, got, p)
			}
		}
	}
}

func TestGraphForgetsAParticipantAsAWhole(t *testing.T) {
	g := newGraph()
	p := dds.GUID{1, 15, 3, 14: 1, 15: 0xC1}
	p = p.Participant()
	w := p
	w[15] = 3
	g.discovered(dds.Discovery{Kind: dds.KindParticipant, GUID: p})
	g.discovered(dds.Discovery{Kind: dds.KindWriter, GUID: w, Topic: "rt/x"})
	g.entities(participantEntities{gid: p, nodes: []nodeEntities{{namespace: "/", name: "talker", writers: []dds.GUID{w}}}}, w)
	if n := g.nodeOf(w); n != "/talker" {
		t.Errorf("node of the writer is %q", n)
	}
	g.discovered(dds.Discovery{Kind: dds.KindParticipant, GUID: p, Removed: true})
	if g.present(w) || g.nodeOf(w) != "" || len(g.on("rt/x", dds.KindWriter)) != 0 {
		t.Error("the participant left, its writer is still known")
	}
}

// A sample that is taken after its writer has left says nothing: nobody would ever take it back.
func TestGraphPassesOverTheDead(t *testing.T) {
	g := newGraph()
	p := dds.GUID{1, 15, 3, 14: 1, 15: 0xC1}.Participant()
	w := p
	w[15] = 3
	told := participantEntities{gid: p, nodes: []nodeEntities{{namespace: "/", name: "talker", writers: []dds.GUID{w}}}}
	g.entities(told, w)
	if g.known(p) {
		t.Error("a writer that was never discovered was believed")
	}
	g.discovered(dds.Discovery{Kind: dds.KindParticipant, GUID: p})
	g.discovered(dds.Discovery{Kind: dds.KindWriter, GUID: w, Topic: "ros_discovery_info"})
	g.entities(told, w)
	if !g.known(p) {
		t.Error("a writer that is there was not believed")
	}
	g.discovered(dds.Discovery{Kind: dds.KindParticipant, GUID: p, Removed: true})
	g.entities(told, w)
	if g.known(p) {
		t.Error("a writer that has left was believed")
	}
}

func FuzzDecodeEntities(f *testing.F) {
	f.Add(example().encode(gidIron))
	f.Add(example().encode(gidHumble))
	f.Add([]byte{0, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(_ *testing.T, data []byte) {
		_, _ = decodeEntities(data)
	})
}
