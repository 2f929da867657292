//go:build fastdds

package dds

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

// datagram puts words of hex together.
func datagram(t testing.TB, words ...string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.Join(words, ""), " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	rtps  = "52545053 0201 0110 0110aaaa bbbbbbbb cccccccc" // CycloneDDS's
	stamp = "0901 0800 0102030405060708"
	gone  = "0110aaaa bbbbbbbb cccccccc 00000204" // the GUID of what leaves
	// DATA from the writer of subscriptions, with a status (disposed and unregistered) beside it.
	flags, to, status = "150b", "0000 1000 000004c7 000004c2 00000000 07000000", "7100 0400 00000003 0100 0000"
	key               = "0003 0000 5a00 1000 " + gone + " 0100 0000"
)

func TestFarewell(t *testing.T) {
	const short, pad = to + status + gone, "0101 0800"
	for _, c := range []struct{ name, from, to string }{
		{"at the end", flags + "3c00" + to + status + key, flags + "3000" + short + pad},
		{"length to the end", flags + "0000" + to + status + key, flags + "3000" + short + pad},
		{"after and before others", stamp + flags + "3c00" + to + status + key + stamp, stamp + flags + "3000" + short + pad},
		{"a participant, without a status", "1509 3000 0000 1000 000100c7 000100c2 00000000 07000000 0003 0000 5000 1000" + gone + "0100 0000",
			"1509 2400 0000 1000 000100c7 000100c2 00000000 07000000" + gone + pad},
		{"big-endian", "1508 0030 0000 0010 000003c7 000003c2 00000000 00000007 0002 0000 005a 0010" + gone + "0001 0000",
			"1508 0024 0000 0010 000003c7 000003c2 00000000 00000007" + gone + pad},
		{"plain CDR", "1509 2800 0000 1000 000003c7 000003c2 00000000 07000000 0001 0000" + gone, "1509 2400 0000 1000 000003c7 000003c2 00000000 07000000" + gone + "0101 0000"},
		{"after another parameter", "1509 3800 0000 1000 000003c7 000003c2 00000000 07000000 0003 0000 1500 0400 02010000 5a00 1000" + gone + "0100 0000",
			"1509 2400 0000 1000 000003c7 000003c2 00000000 07000000" + gone + "0101 1000"},
		{"after its participant's GUID", "1509 4400 0000 1000 000003c7 000003c2 00000000 07000000 0003 0000 5000 1000 0110aaaa bbbbbbbb cccccccc 000001c1 5a00 1000" + gone + "0100 0000",
			"1509 2400 0000 1000 000003c7 000003c2 00000000 07000000" + gone + "0101 1c00"},
		{"after a submessage that does not end at a multiple of 4", "8001 0500 1122334455 000000" + flags + "3c00" + to + status + key, "8001 0500 1122334455 000000" + flags + "3000" + short + pad},
	} {
		b, want := datagram(t, rtps, c.from), datagram(t, rtps, c.to)
		size := len(b)
		if n := farewell(b); n != 1 || len(b) != size || !bytes.HasPrefix(b, want) {
			t.Errorf("%s: %d changed\n%x\nexpected\n%x", c.name, n, b, want)
		}
		if farewell(b) != 0 {
			t.Errorf("%s: changed twice", c.name)
		}
	}
	for name, words := range map[string]string{
		"data": "150f" + "3c00" + to + status + key, "another writer": flags + "3c00" + strings.Replace(to, "000004c2", "00000403", 1) + status + key,
		"Fast DDS's own": flags + "3000" + short, "no GUID": flags + "3c00" + to + status + strings.Replace(key, "5a00", "5b00", 1),
		"a parameter beyond the end": flags + "3c00" + to + strings.Replace(status, "0400", "ff00", 1) + key,
		"nothing":                    "", "an offset beyond the end": flags + "3c00" + strings.Replace(to, "1000", "ffff", 1) + status + key,
		"an offset into the header":                     flags + "3c00" + strings.Replace(to, "1000", "0c00", 1) + status + key,
		"an offset of no words":                         flags + "3d00" + strings.Replace(to, "1000", "1100", 1) + "00" + status + key,
		"a participant's GUID where an endpoint leaves": flags + "3c00" + to + status + strings.Replace(key, "5a00", "5000", 1),
	} {
		b := datagram(t, rtps, words)
		if before := bytes.Clone(b); farewell(b) != 0 || !bytes.Equal(b, before) {
			t.Errorf("%s: changed to %x", name, b)
		}
	}
	for name, b := range map[string][]byte{
		"no RTPS": datagram(t, strings.Replace(rtps, "53", "54", 1), flags, "3c00", to, status, key), "cut off": datagram(t, rtps, flags, "3c00", to, status, key[:20]),
		"short": datagram(t, "5254"), "empty": nil,
	} {
		if before := bytes.Clone(b); farewell(b) != -1 || !bytes.Equal(b, before) {
			t.Errorf("%s: taken for a datagram", name)
		}
	}
}

func FuzzFarewell(f *testing.F) {
	f.Add(datagram(f, rtps, stamp, flags, "3c00", to, status, key))
	f.Add(datagram(f, rtps, "1508 0030 0000 0010 000003c7 000003c2 00000000 00000007 0002 0000 005a 0010", gone, "0001 0000"))
	f.Fuzz(func(t *testing.T, b []byte) {
		// What lies behind must stay as it is.
		room := append(bytes.Clone(b), 0xa5, 0xa5, 0xa5, 0xa5)
		farewell(room[:len(b)])
		if !bytes.Equal(room[len(b):], []byte{0xa5, 0xa5, 0xa5, 0xa5}) {
			t.Error("written behind the end")
		}
	})
}
