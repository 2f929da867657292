//go:build fastdds

package dds

/*
#cgo CXXFLAGS: -std=c++17 -O2 -Wno-deprecated-declarations
#cgo LDFLAGS: -lfastrtps -lfastcdr
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"bytes"
	"errors"
	"fmt"
	"runtime/cgo"
	"sync"
	"unsafe"
)

// Available tells whether this binary was built with Fast DDS.
const Available = true

// Participant is one member of a domain.
type Participant struct {
	c      *C.dds_participant
	handle cgo.Handle
	once   sync.Once
}

// text keeps C strings until it is freed.
type text struct{ all []unsafe.Pointer }

func (t *text) str(s string) *C.char {
	p := C.CString(s)
	t.all = append(t.all, unsafe.Pointer(p))
	return p
}

// list returns a C array of strings; it lives in C memory, since C keeps pointers in it during the call.
func (t *text) list(s []string) (**C.char, C.int) {
	if len(s) == 0 {
		return nil, 0
	}
	p := C.malloc(C.size_t(len(s)) * C.size_t(unsafe.Sizeof(uintptr(0))))
	t.all = append(t.all, p)
	array := unsafe.Slice((**C.char)(p), len(s))
	for i := range array {
		array[i] = t.str(s[i])
	}
	return (**C.char)(p), C.int(len(s))
}

func (t *text) free() {
	for _, p := range t.all {
		C.free(p)
	}
}

func boolInt(b bool) C.int {
	if b {
		return 1
	}
	return 0
}

// NewParticipant joins a domain. discovered is called from Fast DDS's threads and must hand over at once.
func NewParticipant(cfg Config, discovered func(Discovery)) (*Participant, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	var t text
	defer t.free()
	p := &Participant{handle: cgo.NewHandle(listeners{discovered, cfg.Garbage})}
	interfaces, nInterfaces := t.list(cfg.Interfaces)
	peers, nPeers := t.list(cfg.Peers)
	var message [256]C.char
	p.c = C.dds_participant_new(C.uintptr_t(p.handle), C.int(cfg.Domain), t.str(cfg.Name), t.str(cfg.UserData),
		interfaces, nInterfaces, peers, nPeers, boolInt(cfg.Multicast), boolInt(cfg.Loopback), boolInt(cfg.Off), &message[0])
	if p.c == nil {
		p.handle.Delete()
		return nil, fmt.Errorf("join DDS domain %d: %s", cfg.Domain, C.GoString(&message[0]))
	}
	return p, nil
}

// GUID of the participant.
func (p *Participant) GUID() (g GUID) {
	C.dds_participant_guid(p.c, (*C.uint8_t)(&g[0]))
	return g
}

// Close leaves the domain. Writers and readers must be closed before.
func (p *Participant) Close() {
	p.once.Do(func() {
		C.dds_participant_delete(p.c)
		p.handle.Delete()
	})
}

func (q QoS) c(t *text) C.dds_qos {
	c := C.dds_qos{reliable: boolInt(q.Reliable), transient_local: boolInt(q.TransientLocal), depth: C.int(q.Depth), by_topic: boolInt(q.Heartbeats)}
	if q.UserData != "" {
		c.user_data = t.str(q.UserData)
	}
	return c
}

// Writer publishes on one topic.
type Writer struct {
	c      *C.dds_writer
	handle cgo.Handle
	once   sync.Once
}

// endpoint is what callbacks of writers and readers find behind their handle.
type endpoint struct {
	status func(Status)
	wake   chan struct{} // readers
}

// NewWriter makes a writer. status is called from Fast DDS's threads.
func (p *Participant) NewWriter(topic, typ string, qos QoS, status func(Status)) (*Writer, error) {
	var t text
	defer t.free()
	w := &Writer{handle: cgo.NewHandle(&endpoint{status: status})}
	var message [256]C.char
	w.c = C.dds_writer_new(p.c, C.uintptr_t(w.handle), t.str(topic), t.str(typ), qos.c(&t), &message[0])
	if w.c == nil {
		w.handle.Delete()
		return nil, fmt.Errorf("writer of %s (%s): %s", topic, typ, C.GoString(&message[0]))
	}
	return w, nil
}

// Write publishes a payload and returns its sequence number. A reliable writer whose history is full of unacknowledged
// samples waits at most 100 ms, then fails.
func (w *Writer) Write(data []byte) (int64, error) {
	var sequence C.int64_t
	if C.dds_writer_write(w.c, unsafe.Pointer(unsafe.SliceData(data)), C.size_t(len(data)), nil, 0, &sequence) != 0 {
		return 0, fmt.Errorf("write %d bytes: not taken (history full of what a reader has not acknowledged)", len(data))
	}
	return int64(sequence), nil
}

// WriteRelated publishes a payload as the answer to a sample.
func (w *Writer) WriteRelated(data []byte, to GUID, sequence int64) error {
	if C.dds_writer_write(w.c, unsafe.Pointer(unsafe.SliceData(data)), C.size_t(len(data)), (*C.uint8_t)(&to[0]), C.int64_t(sequence), nil) != 0 {
		return fmt.Errorf("write %d bytes: not taken (history full of what a reader has not acknowledged)", len(data))
	}
	return nil
}

// GUID of the writer.
func (w *Writer) GUID() (g GUID) {
	C.dds_writer_guid(w.c, (*C.uint8_t)(&g[0]))
	return g
}

// Matched tells whether a reader is known to be connected.
func (w *Writer) Matched(reader GUID) bool {
	return C.dds_writer_matched(w.c, (*C.uint8_t)(&reader[0])) == 1
}

// Settled tells whether a reader has matched and has acknowledged something, which shows that the other side knows of the match as
// well. Only a writer with heartbeats in its QoS knows.
func (w *Writer) Settled(reader GUID) bool {
	return C.dds_writer_acknowledged(w.c, (*C.uint8_t)(&reader[0])) == 1
}

// Heartbeat tells all matched readers at once which samples there are; the writer's QoS says that it can.
func (w *Writer) Heartbeat() error {
	if C.dds_writer_heartbeat(w.c) != 0 {
		return errors.New("no heartbeat was sent (is it in the writer's QoS?)")
	}
	return nil
}

// Acknowledged tells whether every matched reliable reader has everything.
func (w *Writer) Acknowledged() bool { return C.dds_writer_unacknowledged(w.c) == 0 }

// Close removes the writer.
func (w *Writer) Close() {
	w.once.Do(func() {
		C.dds_writer_delete(w.c)
		w.handle.Delete()
	})
}

// Reader delivers one topic's samples in order from a goroutine of its own.
type Reader struct {
	c      *C.dds_reader
	handle cgo.Handle
	stop   chan struct{}
	done   chan struct{}
	once   sync.Once
}

// NewReader makes a reader. deliver owns the sample it gets; while it runs, samples wait in the reader's history and the
// oldest are dropped when it is full, which status is told by kind Lost when the next one is taken.
func (p *Participant) NewReader(topic, typ string, qos QoS, status func(Status), deliver func(Sample)) (*Reader, error) {
	var t text
	defer t.free()
	e := &endpoint{status: status, wake: make(chan struct{}, 1)}
	r := &Reader{handle: cgo.NewHandle(e), stop: make(chan struct{}), done: make(chan struct{})}
	var message [256]C.char
	r.c = C.dds_reader_new(p.c, C.uintptr_t(r.handle), t.str(topic), t.str(typ), qos.c(&t), &message[0])
	if r.c == nil {
		r.handle.Delete()
		return nil, fmt.Errorf("reader of %s (%s): %s", topic, typ, C.GoString(&message[0]))
	}
	go r.run(e, deliver)
	return r, nil
}

func (r *Reader) run(e *endpoint, deliver func(Sample)) {
	defer close(r.done)
	var missing gaps
	for {
		select {
		case <-r.stop:
			return
		case <-e.wake:
		}
		for {
			select {
			case <-r.stop:
				return
			default:
			}
			var s C.dds_sample
			if C.dds_reader_take(r.c, &s) == 0 {
				break
			}
			if n := missing.skipped(guidOf(&s.writer), int64(s.sequence)); n > 0 && e.status != nil {
				e.status(Status{Kind: Lost, Count: n})
			}
			if s.valid == 0 {
				continue // an instance's end, which ROS does not use
			}
			deliver(Sample{
				Writer: guidOf(&s.writer), Vendor: Vendor{byte(s.vendor[0]), byte(s.vendor[1])}, Sequence: int64(s.sequence),
				Related: guidOf(&s.related), RelatedSequence: int64(s.related_sequence), SourceTime: int64(s.source_ns),
			}.with(s.data, s.size))
		}
	}
}

// with copies the payload into Go's memory: the shim's buffer is used again by the next take.
func (s Sample) with(data *C.uint8_t, size C.size_t) Sample {
	s.Data = bytes.Clone(unsafe.Slice((*byte)(data), int(size)))
	return s
}

func guidOf(p *[16]C.uint8_t) GUID { return *(*GUID)(unsafe.Pointer(p)) }

// GUID of the reader.
func (r *Reader) GUID() (g GUID) {
	C.dds_reader_guid(r.c, (*C.uint8_t)(&g[0]))
	return g
}

// Close removes the reader; deliver is not called any more when it returns.
func (r *Reader) Close() {
	r.once.Do(func() {
		close(r.stop)
		<-r.done
		C.dds_reader_delete(r.c)
		r.handle.Delete()
	})
}

// farewell makes readable for Fast DDS what a datagram says of those that leave, as is done with each that comes (farewell.h). It
// returns how many submessages were changed; -1: it is no RTPS or cut short.
func farewell(datagram []byte) int {
	if len(datagram) == 0 {
		return -1
	}
	return int(C.dds_farewell((*C.uint8_t)(&datagram[0]), C.size_t(len(datagram))))
}
