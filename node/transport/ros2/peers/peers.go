// Package peers runs foreign ROS 2 participants for tests: a C++ program on Fast DDS, speaking as rmw_fastrtps_cpp does, and
// programs in C and Python on CycloneDDS, speaking as rmw_cyclonedds_cpp does. They are told on their standard input what to do.
// A fourth on RustDDS is told in the same way, others in Rust by their arguments. Where one cannot be had the test is skipped and told
// what to install.
package peers

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/transport/ros2/dds"
)

// Patience is how long a test waits for what must come; it says nothing of how fast it should.
const Patience = 90 * time.Second

// Peer is a running foreign participant.
type Peer struct {
	t    testing.TB
	name string
	cmd  *exec.Cmd
	in   io.WriteCloser
	said *bytes.Buffer // what it complained of
	// header says that requests and responses have rmw_cyclonedds's header.
	header bool
	blind  bool // tells nothing of participants, only of endpoints
	lease  time.Duration
	frail  bool // does not go on after it was stopped

	mu        sync.Mutex
	changed   chan struct{} // closed and made anew with each event
	guids     map[string]dds.GUID
	matched   map[string]int
	writing   map[string]int
	wrote     map[string][]int64
	samples   map[string][]dds.Sample
	policies  map[string]int
	counts    map[string]*Count
	endpoints map[dds.GUID]dds.Discovery
	users     map[dds.GUID]string
	ended     bool
	next      int
}

// Endpoint says what a peer is to make. Type is as in DDS.
type Endpoint struct {
	Topic, Type string
	QoS         dds.QoS
	// Text is the type's definition, for peers that have a codec.
	Text string
}

// Message describes an end of an ordinary topic.
func Message(t testing.TB, topic string, sample msgs.Message, qos dds.QoS) Endpoint {
	t.Helper()
	pkg, name, _ := strings.Cut(sample.ROSType(), "/")
	kind := "msg"
	if strings.HasSuffix(name, "_FeedbackMessage") {
		kind = "action"
	}
	return Endpoint{Topic: "rt" + topic, Type: pkg + "::" + kind + "::dds_::" + name + "_", QoS: qos, Text: definition(t, sample.ROSType())}
}

func definition(t testing.TB, typ string) string {
	t.Helper()
	text, err := msgs.Definition(typ, msgs.CDR)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// start runs a peer's program; it is killed with the test.
func start(t testing.TB, name string, cmd *exec.Cmd) *Peer {
	t.Helper()
	p := &Peer{
		t: t, name: name, cmd: cmd, said: &bytes.Buffer{}, changed: make(chan struct{}), guids: map[string]dds.GUID{}, matched: map[string]int{},
		writing: map[string]int{}, wrote: map[string][]int64{}, samples: map[string][]dds.Sample{}, policies: map[string]int{}, counts: map[string]*Count{}, endpoints: map[dds.GUID]dds.Discovery{}, users: map[dds.GUID]string{},
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if p.in, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = p.said
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	read := make(chan struct{})
	go func() { defer close(read); p.listen(out) }()
	t.Cleanup(func() {
		_ = p.in.Close() // asks it to leave in order
		timer := time.AfterFunc(5*time.Second, func() { _ = cmd.Process.Kill() })
		<-read
		_ = cmd.Wait()
		timer.Stop()
		if s := p.said.String(); t.Failed() && s != "" {
			t.Logf("%s complained: %s", name, s)
		}
	})
	p.until("start", func() bool { return p.guids["participant"] != dds.GUID{} })
	return p
}

func (p *Peer) listen(out io.Reader) {
	r := bufio.NewReaderSize(out, 1<<20)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			break
		}
		p.mu.Lock()
		p.heard(strings.Fields(line))
		close(p.changed)
		p.changed = make(chan struct{})
		p.mu.Unlock()
	}
	p.mu.Lock()
	p.ended = true
	close(p.changed)
	p.changed = make(chan struct{})
	p.mu.Unlock()
}

// heard takes one line; the lock is held.
func (p *Peer) heard(w []string) {
	number := func(i int) int64 {
		n, err := strconv.ParseInt(w[i], 10, 64)
		if err != nil {
			p.t.Errorf("%s said %q", p.name, w)
		}
		return n
	}
	switch {
	case len(w) == 3 && w[0] == "guid":
		p.guids[w[1]] = p.guid(w[2])
	case len(w) == 3 && w[0] == "matched":
		p.matched[w[1]] = int(number(2))
	case len(w) == 3 && w[0] == "writing":
		p.writing[w[1]]++
	case len(w) == 3 && w[0] == "wrote":
		p.wrote[w[1]] = append(p.wrote[w[1]], number(2))
	case len(w) == 3 && w[0] == "incompatible":
		p.policies[w[1]] = int(number(2))
	case len(w) == 6 && w[0] == "count":
		p.counts[w[1]] = &Count{Samples: int(number(2)), Bytes: number(3), Mean: time.Duration(number(4)) * time.Microsecond, Max: time.Duration(number(5)) * time.Microsecond}
	case len(w) == 7 && w[0] == "sample":
		p.samples[w[1]] = append(p.samples[w[1]], dds.Sample{
			Writer: p.guid(w[2]), Sequence: number(3), Related: p.guid(w[4]), RelatedSequence: number(5), Data: p.bytes(w[6]),
		})
	case len(w) == 5 && w[0] == "participant":
		id := p.guid(w[1])
		if w[3] == "here" {
			p.users[id] = string(p.bytes(w[4]))
		} else {
			delete(p.users, id)
		}
	case len(w) == 9 && w[0] == "endpoint":
		d := dds.Discovery{GUID: p.guid(w[1]), Kind: dds.KindReader, Topic: w[4], Type: w[5], Reliable: w[6] == "rel", TransientLocal: w[7] == "tl", UserData: string(p.bytes(w[8]))}
		if w[2] == "writer" {
			d.Kind = dds.KindWriter
		}
		if w[3] == "here" {
			p.endpoints[d.GUID] = d
		} else {
			delete(p.endpoints, d.GUID)
		}
	default:
		p.t.Errorf("%s said %.200q", p.name, w)
	}
}

func (p *Peer) bytes(s string) []byte {
	if s == "-" {
		return nil
	}
	b, err := hex.DecodeString(s)
	if err != nil {
		p.t.Errorf("%s said %.80q: %v", p.name, s, err)
	}
	return b
}

func (p *Peer) guid(s string) (g dds.GUID) {
	copy(g[:], p.bytes(s))
	return g
}

// until waits until ok, which is called with the lock held.
func (p *Peer) until(what string, ok func() bool) {
	p.t.Helper()
	timeout := time.After(Patience)
	for {
		p.mu.Lock()
		done, ended, changed := ok(), p.ended, p.changed
		p.mu.Unlock()
		if done {
			return
		}
		if ended {
			p.t.Fatalf("%s has ended, waited for: %s", p.name, what)
		}
		select {
		case <-changed:
		case <-timeout:
			p.t.Fatalf("%s: waited %v in vain: %s", p.name, Patience, what)
		}
	}
}

func (p *Peer) tell(words ...string) {
	p.t.Helper()
	if _, err := io.WriteString(p.in, strings.Join(words, " ")+"\n"); err != nil {
		p.t.Fatalf("%s: %v", p.name, err)
	}
}

// GUID of the peer's participant.
func (p *Peer) GUID() dds.GUID {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.guids["participant"]
}

// Close lets the peer leave in order.
func (p *Peer) Close() { _ = p.in.Close() }

// Kill ends the peer at once, without a word to others.
func (p *Peer) Kill() { _ = p.cmd.Process.Kill() }

// Stop makes the peer stop where it is, until Continue; it neither reads nor acknowledges.
func (p *Peer) Stop() { _ = p.cmd.Process.Signal(syscall.SIGSTOP) }

// Resumes tells whether the peer goes on after Continue: RustDDS 0.15 ends its threads when their waiting is interrupted.
func (p *Peer) Resumes() bool { return !p.frail }

// Continue ends Stop.
func (p *Peer) Continue() { _ = p.cmd.Process.Signal(syscall.SIGCONT) }

// Endpoints are what the peer has discovered of a participant.
func (p *Peer) Endpoints(of dds.GUID) []dds.Discovery {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []dds.Discovery
	for _, d := range p.endpoints {
		if d.GUID.Prefix() == of.Prefix() {
			list = append(list, d)
		}
	}
	return list
}

// Lease is how long the peer is remembered when it is killed. 0: a few seconds.
func (p *Peer) Lease() time.Duration { return p.lease }

// TellsParticipants says whether UserData can be asked.
func (p *Peer) TellsParticipants() bool { return !p.blind }

// UserData is that of a participant, once it is discovered.
func (p *Peer) UserData(of dds.GUID) string {
	p.t.Helper()
	p.until("the participant is discovered", func() bool { _, ok := p.users[of]; return ok })
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.users[of]
}

// End is a writer or a reader of a peer.
type End struct {
	p    *Peer
	id   string
	GUID dds.GUID
	read int
}

func (p *Peer) end(verb string, e Endpoint) *End {
	p.t.Helper()
	p.next++
	id := verb + strconv.Itoa(p.next)
	text := hex.EncodeToString([]byte(e.Text))
	if text == "" {
		text = "-"
	}
	p.tell("type", e.Type, text)
	words := []string{verb, id, e.Topic, e.Type, "be", "vol", strconv.Itoa(max(1, e.QoS.Depth)), "-"}
	if e.QoS.Reliable {
		words[4] = "rel"
	}
	if e.QoS.TransientLocal {
		words[5] = "tl"
	}
	if e.QoS.UserData != "" {
		words[7] = hex.EncodeToString([]byte(e.QoS.UserData))
	}
	p.tell(words...)
	p.until(verb+" of "+e.Topic, func() bool { return p.guids[id] != dds.GUID{} })
	p.mu.Lock()
	defer p.mu.Unlock()
	return &End{p: p, id: id, GUID: p.guids[id]}
}

// Writer makes a writer.
func (p *Peer) Writer(e Endpoint) *End { p.t.Helper(); return p.end("writer", e) }

// Reader makes a reader.
func (p *Peer) Reader(e Endpoint) *End { p.t.Helper(); return p.end("reader", e) }

// Close takes it back.
func (e *End) Close() { e.p.t.Helper(); e.p.tell("close", e.id) }

// Matched waits until n others are connected.
func (e *End) Matched(n int) {
	e.p.t.Helper()
	e.p.until(fmt.Sprintf("%s matches %d", e.id, n), func() bool { return e.p.matched[e.id] == n })
}

// Incompatible waits for word of an incompatible policy and returns its DDS number.
func (e *End) Incompatible() (policy int) {
	e.p.t.Helper()
	e.p.until("incompatible QoS", func() bool { policy = e.p.policies[e.id]; return policy != 0 })
	return policy
}

// Write publishes CDR and returns its sequence number.
func (e *End) Write(data []byte) int64 { e.p.t.Helper(); return e.send("write", "", data) }

// Raw publishes what need not be CDR of the writer's type.
func (e *End) Raw(data []byte) { e.p.t.Helper(); e.send("raw", "", data) }

// KillAmid publishes a message and kills the peer as soon as it says that it begins, and tells whether it had not said that it was
// done, which Fast DDS says before it sends.
func (e *End) KillAmid(m msgs.Message) (amid bool) {
	e.p.t.Helper()
	data, err := msgs.CDR.Marshal(m)
	if err != nil {
		e.p.t.Fatal(err)
	}
	e.p.mu.Lock()
	begun, done := e.p.writing[e.id], len(e.p.wrote[e.id])
	e.p.mu.Unlock()
	e.p.tell("write", e.id, hex.EncodeToString(data))
	e.p.until("the writing begins", func() bool { return e.p.writing[e.id] > begun })
	e.p.Kill()
	e.p.mu.Lock()
	defer e.p.mu.Unlock()
	return len(e.p.wrote[e.id]) == done
}

// Aligned tells that the peer's middleware fills payloads up to a multiple of four bytes.
func (p *Peer) Aligned() bool { return p.header }

// Send publishes a message.
func (e *End) Send(m msgs.Message) {
	e.p.t.Helper()
	data, err := msgs.CDR.Marshal(m)
	if err != nil {
		e.p.t.Fatal(err)
	}
	e.Write(data)
}

func (e *End) send(verb, reader string, data []byte) int64 {
	e.p.t.Helper()
	e.p.mu.Lock()
	before := len(e.p.wrote[e.id])
	e.p.mu.Unlock()
	words := []string{verb, e.id, reader, hex.EncodeToString(data)}
	e.p.tell(slices.DeleteFunc(words, func(s string) bool { return s == "" })...)
	e.p.until("written", func() bool { return len(e.p.wrote[e.id]) > before })
	e.p.mu.Lock()
	defer e.p.mu.Unlock()
	return e.p.wrote[e.id][before]
}

// Count is what a counter has counted; Mean and Max are of the way from the stamp in the header to the counter.
type Count struct {
	Samples   int
	Bytes     int64
	Mean, Max time.Duration
}

// Counter makes a reader that only counts (of the Fast DDS peer).
func (p *Peer) Counter(e Endpoint) *End { p.t.Helper(); return p.end("counter", e) }

// Count asks a counter.
func (e *End) Count() Count {
	e.p.t.Helper()
	e.p.mu.Lock()
	e.p.counts[e.id] = nil
	e.p.mu.Unlock()
	e.p.tell("report", e.id)
	e.p.until("a report", func() bool { return e.p.counts[e.id] != nil })
	e.p.mu.Lock()
	defer e.p.mu.Unlock()
	return *e.p.counts[e.id]
}

// Stream publishes a message with a header n times, stamped when it goes out, without waiting (of the Fast DDS peer).
func (e *End) Stream(m msgs.Message, n int, period time.Duration) {
	e.p.t.Helper()
	data, err := msgs.CDR.Marshal(m)
	if err != nil {
		e.p.t.Fatal(err)
	}
	e.p.tell("stream", e.id, strconv.Itoa(n), strconv.FormatInt(period.Microseconds(), 10), hex.EncodeToString(data))
}

// CPU is the processor time that the peer has used.
func (p *Peer) CPU() time.Duration {
	p.t.Helper()
	text, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/stat")
	if err != nil {
		p.t.Fatal(err)
	}
	f := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	var ticks int64
	for _, s := range f[11:13] { // utime and stime, in hundredths of a second
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			p.t.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}

// Next waits for the next sample of a reader.
func (e *End) Next() dds.Sample {
	e.p.t.Helper()
	e.p.until("a sample of "+e.id, func() bool { return len(e.p.samples[e.id]) > e.read })
	e.p.mu.Lock()
	defer e.p.mu.Unlock()
	s := e.p.samples[e.id][e.read]
	e.p.samples[e.id][e.read].Data = nil // big ones need not stay
	e.read++
	return s
}

// Into waits for the next sample and decodes it.
func (e *End) Into(m msgs.Message) {
	e.p.t.Helper()
	s := e.Next()
	if err := msgs.CDR.Unmarshal(s.Data, m); err != nil {
		e.p.t.Fatalf("%s read what cannot be decoded: %v", e.p.name, err)
	}
}

// Waiting is how many samples have come that Next has not returned.
func (e *End) Waiting() int {
	e.p.mu.Lock()
	defer e.p.mu.Unlock()
	return len(e.p.samples[e.id]) - e.read
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
