// Package bench times reading a ROS 1 bag against go-rosbag v0.0.6, in one run:
//
//	cd bags/bench && go test -bench .
//
// Each reads all messages of a bag of 128 MiB: pictures of 600 kB at 30 Hz and
// transforms between them, which ours also sorts by time. A message is either
// overwritten by the next one, or kept. The metric "x-peer" is the peer's time
// over ours.
package bench

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	rosbag "github.com/lherman-cs/go-rosbag"

	"github.com/stllm/stllm/bags"
	"github.com/stllm/stllm/msgs"
)

const pictures, perPicture = 210, 10

// made is a bag and its size in bytes.
func made(b *testing.B, compression string) (string, int64) {
	b.Helper()
	path := filepath.Join(b.TempDir(), "made.bag")
	w, err := bags.CreateWith(path, bags.WriteOptions{Compression: compression})
	if err != nil {
		b.Fatal(err)
	}
	image, err1 := w.Add(bags.Connection{Topic: "/image", Type: "sensor_msgs/Image", Encoding: msgs.ROS1})
	tf, err2 := w.Add(bags.Connection{Topic: "/tf", Type: "tf2_msgs/TFMessage", Encoding: msgs.ROS1})
	if err := errors.Join(err1, err2); err != nil {
		b.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(1, 1))
	data := make([]byte, 640_000)
	for i := range pictures {
		for j := 0; j < len(data); j += 2 { // half of it noise, as pictures are
			data[j] = byte(rng.Uint32())
		}
		log := int64(1e18) + int64(i)*33e6
		if err := w.Write(image, log, data); err != nil {
			b.Fatal(err)
		}
		for j := range perPicture {
			if err := w.Write(tf, log+int64(j)*3e6, data[:120]); err != nil {
				b.Fatal(err)
			}
		}
	}
	if err := w.Close(); err != nil {
		b.Fatal(err)
	}
	st, err := os.Stat(path)
	if err != nil {
		b.Fatal(err)
	}
	return path, st.Size()
}

func ours(path string, keep bool) (messages int, err error) {
	r, err := bags.Open(path)
	if err != nil {
		return 0, err
	}
	defer r.Close()
	it := r.Messages(bags.Filter{Reuse: !keep})
	defer it.Close()
	for {
		if _, err := it.Next(); err == io.EOF {
			return messages, nil
		} else if err != nil {
			return messages, err
		}
		messages++
	}
}

func peers(path string, keep bool) (messages int, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	d := rosbag.NewDecoder(f)
	for {
		rec, err := d.Read()
		if err == io.EOF {
			return messages, nil
		}
		if err != nil {
			return messages, err
		}
		if m, ok := rec.(*rosbag.RecordMessageData); ok && len(m.Data()) > 0 {
			if _, err := m.Time(); err != nil {
				return messages, err
			}
			messages++
		}
		if !keep {
			rec.Close() // the next one takes its memory
		}
	}
}

func BenchmarkReadBag(b *testing.B) {
	for _, compression := range []string{"none", "lz4"} {
		path, size := made(b, compression)
		for _, keep := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/keep=%v", compression, keep), func(b *testing.B) {
				b.SetBytes(size)
				var spent, theirs time.Duration
				timed := func(read func(string, bool) (int, error), sum *time.Duration) {
					start := time.Now()
					n, err := read(path, keep)
					if err != nil || n != pictures*(1+perPicture) {
						b.Fatalf("%d messages, %v", n, err)
					}
					*sum += time.Since(start)
				}
				for b.Loop() {
					timed(ours, &spent)
					b.StopTimer()
					timed(peers, &theirs)
					b.StartTimer()
				}
				b.ReportMetric(float64(theirs)/float64(spent), "x-peer")
			})
		}
	}
}
