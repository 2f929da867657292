package imaging

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// What resize.c makes of rows and columns is byte for byte what Go makes of them, of sizes that are multiples of nothing, to the last
// byte of a picture, for numbers as large as they can be.
func TestPasses(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for _, c := range []struct{ width, height, to, down int }{{1, 1, 1, 1}, {640, 48, 96, 96}, {17, 3, 96, 2}, {100, 70, 33, 17}, {5, 5, 384, 7}, {2000, 2, 3, 1}, {2048, 1, 8, 2}, {3000, 1, 2, 1}} {
		for _, kind := range []string{"random", "white", "edges"} {
			t.Run(fmt.Sprintf("%+v %s", c, kind), func(t *testing.T) {
				src := make([]uint8, 3*c.width*c.height)
				for i := range src {
					switch kind {
					case "random":
						src[i] = uint8(r.Uint32())
					case "white":
						src[i] = 255
					case "edges":
						src[i] = 255 * uint8(i/9%2)
					}
				}
				across, down := weights(c.width, c.to), weights(c.height, c.down)
				want, got := make([]uint8, 3*c.to*c.height), make([]uint8, 3*c.to*c.height)
				across.horizontal(want, src, c.width, c.to, 0, c.height)
				if w, ok := across.wide(); ok {
					w.horizontal(got, src, c.width, c.to, 0, c.height)
					if !bytes.Equal(want, got) {
						t.Fatal("across: other bytes")
					}
				}
				out := make([]uint8, 3*c.to*c.down)
				down.vertical(out, want, c.to, 0, c.down)
				for y := range c.down {
					for i := range 3 * c.to {
						sum := int32(1) << (precision - 1)
						for k, w := range down.weight[y] {
							sum += int32(want[3*c.to*(down.start[y]+k)+i]) * w
						}
						if got := out[3*c.to*y+i]; got != clamp(sum) {
							t.Fatalf("down: byte %d of row %d is %d, expected %d", i, y, got, clamp(sum))
						}
					}
				}
			})
		}
	}
}
