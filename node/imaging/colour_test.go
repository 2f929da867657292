package imaging

import (
	"testing"

	"github.com/stllm/stllm/msgs"
)

// Made with opencv-python-headless 5.0.0: cvtColor(COLOR_YUV2RGB_UYVY) and a scaling by 255/65535, which cv_bridge calls.
func TestColoursLikeOpenCV(t *testing.T) {
	for _, c := range [][6]uint8{
		{16, 128, 128, 0, 0, 0}, {235, 128, 128, 255, 255, 255}, {0, 128, 128, 0, 0, 0}, {255, 128, 128, 255, 255, 255},
		{81, 90, 240, 254, 0, 0}, {145, 54, 34, 0, 255, 1}, {41, 240, 110, 0, 0, 255}, {171, 206, 5, 0, 250, 255},
		{206, 120, 131, 226, 222, 205}, {161, 73, 250, 255, 91, 58}, {13, 71, 98, 0, 47, 0}, {146, 104, 33, 0, 238, 103},
		{11, 0, 12, 0, 144, 0}, {38, 255, 48, 0, 41, 255}, {167, 192, 60, 67, 206, 255}, {72, 111, 67, 0, 121, 31},
	} {
		y, u, v := c[0], c[1], c[2]
		for encoding, data := range map[string][]byte{"yuv422": {u, y, v, y}, "yuv422_yuy2": {y, u, y, v}} {
			p, err := Decode(&msgs.Image{Width: 2, Height: 1, Encoding: encoding, Step: 4, Data: data})
			if err != nil {
				t.Fatal(err)
			}
			if got := [3]uint8(p.Pix[3:]); got != [3]uint8(c[3:]) {
				t.Errorf("%s %v is %v, expected %v", encoding, c[:3], got, c[3:])
			}
		}
	}
	for _, c := range [][2]int{
		{0, 0}, {127, 0}, {128, 0}, {129, 1}, {255, 1}, {256, 1}, {257, 1}, {385, 1},
		{386, 2}, {4095, 16}, {32767, 127}, {32768, 128}, {33024, 128}, {65406, 254}, {65407, 255}, {65535, 255},
		{63844, 248}, {11647, 45}, {58830, 229}, {52277, 203}, {55327, 215}, {7584, 30}, {25716, 100}, {41158, 160},
	} {
		for big, data := range [][]byte{{byte(c[0]), byte(c[0] >> 8)}, {byte(c[0] >> 8), byte(c[0])}} {
			p, err := Decode(&msgs.Image{Width: 1, Height: 1, Encoding: "mono16", IsBigendian: uint8(big), Step: 2, Data: data})
			if err != nil {
				t.Fatal(err)
			}
			if int(p.Pix[0]) != c[1] {
				t.Errorf("mono16 %d (big-endian %d) is %d, expected %d", c[0], big, p.Pix[0], c[1])
			}
		}
	}
}
