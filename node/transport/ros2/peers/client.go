package peers

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport/ros2/dds"
)

// headerSize is that of what rmw_cyclonedds puts before requests and responses: u64 client, i64 number.
const headerSize = 16

// Client asks a service the way the rmw implementation on the peer's middleware does.
type Client struct {
	p      *Peer
	w, r   *End
	id     uint64 // Cyclone's
	number int64
}

// Client makes the two ends and waits until they are connected. typ is "std_srvs/Trigger", kind "srv" or "action".
func (p *Peer) Client(service, typ, kind string) *Client {
	p.t.Helper()
	g := p.GUID()
	c := &Client{p: p, id: binary.LittleEndian.Uint64(g[4:12])}
	pkg, name, _ := strings.Cut(typ, "/")
	end := func(topic, part string) Endpoint {
		e := Endpoint{Topic: topic, Type: pkg + "::" + kind + "::dds_::" + name + part + "_", QoS: dds.QoS{Reliable: true, Depth: 10}, Text: definition(p.t, typ+part)}
		if p.header {
			e.Text = "uint64 client\nint64 sequence\n" + emptyMember(e.Text)
			tag := make([]string, len(g))
			for i, b := range g {
				tag[i] = fmt.Sprintf("%02x", b)
			}
			e.QoS.UserData = "clientid=" + strings.Join(tag, ".") + ";"
		}
		return e
	}
	c.r = p.Reader(end("rr"+service+"Reply", "_Response"))
	c.w = p.Writer(end("rq"+service+"Request", "_Request"))
	c.r.Matched(1)
	c.w.Matched(1)
	return c
}

// emptyMember gives a message without fields the member that it has on the wire, which a header does not replace.
func emptyMember(text string) string {
	own, _, _ := strings.Cut(text, "\n====")
	if strings.TrimSpace(own) == "" {
		return "uint8 structure_needs_at_least_one_member\n"
	}
	return text
}

// Ask sends a request and returns its number.
func (c *Client) Ask(req msgs.Message) int64 {
	c.p.t.Helper()
	data, err := msgs.CDR.Marshal(req)
	if err != nil {
		c.p.t.Fatal(err)
	}
	if !c.p.header {
		return c.w.send("request", c.r.id, data)
	}
	c.number++
	head := append([]byte{}, data[:4]...)
	head = binary.LittleEndian.AppendUint64(head, c.id)
	head = binary.LittleEndian.AppendUint64(head, uint64(c.number))
	c.w.Write(append(head, data[4:]...))
	return c.number
}

// Raw sends what need not be a request.
func (c *Client) Raw(data []byte) {
	c.p.t.Helper()
	if c.p.header {
		c.w.Raw(data)
		return
	}
	c.w.send("request", c.r.id, data)
}

// Answer waits for a response to this client and decodes it. What it answers is returned.
func (c *Client) Answer(res msgs.Message) (number int64) {
	c.p.t.Helper()
	for {
		s := c.r.Next()
		number, data, mine := c.read(s)
		if !mine {
			continue // each client hears the responses to all
		}
		if err := msgs.CDR.Unmarshal(data, res); err != nil {
			c.p.t.Fatalf("%s got a response that cannot be decoded: %v", c.p.name, err)
		}
		return number
	}
}

// read takes a response apart.
func (c *Client) read(s dds.Sample) (number int64, data []byte, mine bool) {
	if !c.p.header {
		return s.RelatedSequence, s.Data, s.Related == c.r.GUID || s.Related == c.w.GUID // rmw_fastrtps takes either
	}
	if len(s.Data) < 4+headerSize {
		return 0, nil, false
	}
	id, number := binary.LittleEndian.Uint64(s.Data[4:]), int64(binary.LittleEndian.Uint64(s.Data[12:]))
	return number, append(s.Data[:4:4], s.Data[4+headerSize:]...), id == c.id
}

// Call asks and waits for the answer.
func (c *Client) Call(req, res msgs.Message) {
	c.p.t.Helper()
	asked := c.Ask(req)
	if got := c.Answer(res); got != asked {
		c.p.t.Errorf("asked %d, the answer is to %d", asked, got)
	}
}
