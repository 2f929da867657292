package ros1

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/bluenviron/goroslib/v2/pkg/protocommon"
)

// Limits of the outside world. A peer that keeps none of these loses its connection, not the node's time.
const (
	dialTimeout      = 5 * time.Second
	handshakeTimeout = 5 * time.Second
	writeTimeout     = 30 * time.Second
	// MaxMessageBytes is the largest message that is read. goroslib itself stops at 16 MiB, which a map cloud exceeds.
	MaxMessageBytes = 1 << 30
	firstChunk      = 4 << 20
)

// readFrame reads one length-prefixed message into a new buffer. Memory grows with the bytes that really arrive, so a length
// alone costs nothing.
func readFrame(r io.Reader) ([]byte, error) {
	var prefix [4]byte
	if _, err := io.ReadFull(r, prefix[:]); err != nil {
		return nil, err
	}
	n := int(binary.LittleEndian.Uint32(prefix[:]))
	if n > MaxMessageBytes {
		return nil, fmt.Errorf("message of %d bytes, the limit is %d", n, MaxMessageBytes)
	}
	buf := make([]byte, min(n, firstChunk))
	for at := 0; ; {
		m, err := io.ReadFull(r, buf[at:])
		if err != nil {
			return nil, fmt.Errorf("message of %d bytes broke off after %d: %w", n, at+m, err)
		}
		at = len(buf)
		if at == n {
			return buf, nil
		}
		grown := make([]byte, min(n, 4*at))
		copy(grown, buf)
		buf = grown
	}
}

// frame is a message ready for a socket: length and payload in one buffer.
func frame(payload []byte) []byte {
	out := make([]byte, 4, 4+len(payload))
	binary.LittleEndian.PutUint32(out, uint32(len(payload)))
	return append(out, payload...)
}

// readHeader reads a TCPROS connection header within the handshake's deadline.
func readHeader(c net.Conn, r *bufio.Reader) (protocommon.HeaderRaw, error) {
	if err := c.SetReadDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return nil, err
	}
	// Peek makes sure that the whole length is there: the decoder reads it in one go.
	if _, err := r.Peek(4); err != nil {
		return nil, fmt.Errorf("read connection header: %w", err)
	}
	h, err := protocommon.HeaderRawDecode(r)
	if err != nil {
		return nil, fmt.Errorf("read connection header: %w", err)
	}
	return h, c.SetReadDeadline(time.Time{})
}

func writeHeader(c net.Conn, h protocommon.Header) error {
	if err := c.SetWriteDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	if err := protocommon.HeaderEncode(c, h); err != nil {
		return fmt.Errorf("write connection header: %w", err)
	}
	return c.SetWriteDeadline(time.Time{})
}
