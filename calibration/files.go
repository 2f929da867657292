package calibration

import (
	"fmt"
	"math"
	"os"

	"github.com/goccy/go-yaml"
	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/smallfile"
	"github.com/stllm/stllm/node/yamltree"
)

// matrix is how camera_calibration writes one.
type matrix struct {
	Rows int       `yaml:"rows"`
	Cols int       `yaml:"cols"`
	Data []float64 `yaml:"data"`
}

type cameraFile struct {
	Width      int    `yaml:"image_width"`
	Height     int    `yaml:"image_height"`
	Name       string `yaml:"camera_name"`
	Camera     matrix `yaml:"camera_matrix"`
	Model      string `yaml:"distortion_model"`
	Distortion matrix `yaml:"distortion_coefficients"`
	Rectify    matrix `yaml:"rectification_matrix"`
	Projection matrix `yaml:"projection_matrix"`
}

// ReadCamera reads a camera_calibration YAML file (what camera_info_manager loads).
func ReadCamera(path string) (*Intrinsics, error) {
	data, err := smallfile.Read(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("camera calibration: %w", err)
	}
	in, err := ParseCamera(data)
	if err != nil {
		return nil, fmt.Errorf("camera calibration %s: %w", path, err)
	}
	return in, nil
}

// maxFile bounds a file, bytes.
const maxFile = 1 << 20

func parse(data []byte) (yamltree.Node, error) {
	if len(data) > maxFile {
		return yamltree.Node{}, fmt.Errorf("%d bytes, expected at most %d", len(data), maxFile)
	}
	return yamltree.Parse(data)
}

// ParseCamera reads the content of a camera_calibration YAML file. Entries that it does not know are left alone.
func ParseCamera(data []byte) (*Intrinsics, error) {
	top, err := parse(data)
	if err != nil {
		return nil, err
	}
	fields, err := top.Fields()
	if err != nil {
		return nil, err
	}
	in := &Intrinsics{BinningX: 1, BinningY: 1}
	for _, s := range []struct {
		name string
		to   *int
	}{{"image_width", &in.Width}, {"image_height", &in.Height}} {
		if f, ok := fields[s.name]; ok {
			if *s.to, err = f.Size(); err != nil {
				return nil, err
			}
		}
	}
	if f, ok := fields["distortion_model"]; ok {
		if in.Model, err = f.Text(); err != nil {
			return nil, err
		}
	}
	if in.D, err = readMatrix(fields, "distortion_coefficients", -1); err != nil {
		return nil, err
	}
	if _, ok := fields["camera_matrix"]; !ok {
		return nil, top.Fail("camera_matrix is missing")
	}
	for _, m := range []struct {
		name string
		to   []float64
	}{{"camera_matrix", in.K[:]}, {"rectification_matrix", in.R[:]}, {"projection_matrix", in.P[:]}} {
		numbers, err := readMatrix(fields, m.name, len(m.to))
		if err != nil {
			return nil, err
		}
		copy(m.to, numbers)
	}
	if err := in.Validate(); err != nil {
		return nil, err
	}
	return in, nil
}

// readMatrix reads rows, cols and data of an entry; nil where it is missing. want < 0: any number of numbers.
func readMatrix(fields map[string]yamltree.Node, name string, want int) ([]float64, error) {
	entry, ok := fields[name]
	if !ok || entry.Empty() {
		return nil, nil
	}
	parts, err := entry.Fields()
	if err != nil {
		return nil, err
	}
	data, ok := parts["data"]
	if !ok {
		return nil, entry.Fail("%s has no data", name)
	}
	numbers, err := data.Numbers()
	if err != nil {
		return nil, err
	}
	if want >= 0 && len(numbers) != want {
		return nil, data.Fail("%s.data has %d numbers, expected %d", name, len(numbers), want)
	}
	cells := 1
	for _, part := range []string{"rows", "cols"} {
		f, ok := parts[part]
		if !ok {
			return numbers, nil
		}
		n, err := f.Size()
		if err != nil {
			return nil, err
		}
		cells *= n
	}
	if cells != len(numbers) {
		return nil, data.Fail("%s.data has %d numbers, its rows and cols make %d", name, len(numbers), cells)
	}
	return numbers, nil
}

// WriteCamera writes a camera_calibration YAML file. An R or P that is not given is written as the identity and as K, which
// is what they mean: ROS's own tools take the zeros for numbers.
func WriteCamera(path, name string, in *Intrinsics) error {
	full := *in
	if full.R == [9]float64{} {
		full.R = [9]float64{1, 0, 0, 0, 1, 0, 0, 0, 1}
	}
	if k := full.K; full.P == [12]float64{} {
		full.P = [12]float64{k[0], k[1], k[2], 0, k[3], k[4], k[5], 0, k[6], k[7], k[8], 0}
	}
	in = &full
	f := cameraFile{Width: in.Width, Height: in.Height, Name: name, Model: in.Model,
		Camera: matrix{3, 3, in.K[:]}, Distortion: matrix{1, len(in.D), in.D}, Rectify: matrix{3, 3, in.R[:]}, Projection: matrix{3, 4, in.P[:]}}
	data, err := yaml.Marshal(f)
	if err != nil {
		return fmt.Errorf("camera calibration: %w", err)
	}
	return os.WriteFile(path, data, 0o644)
}

// Link is a fixed transform between two frames of the robot, for cameras that no static publisher knows.
type Link struct {
	Parent, Child string
	Transform     geometry.Transform // child to parent, metres
}

// ReadExtrinsics reads links from a YAML file:
//
//	links:
//	  - parent: base_link
//	    child: camera_color_optical_frame
//	    xyz: [0.2, 0.0, 1.1]          # metres
//	    rpy: [-1.5708, 0.0, -1.5708]  # radians; or quaternion: [x, y, z, w]
func ReadExtrinsics(path string) ([]Link, error) {
	data, err := smallfile.Read(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("extrinsics: %w", err)
	}
	links, err := ParseExtrinsics(data)
	if err != nil {
		return nil, fmt.Errorf("extrinsics %s: %w", path, err)
	}
	return links, nil
}

// ParseExtrinsics reads the content of an extrinsics file.
func ParseExtrinsics(data []byte) ([]Link, error) {
	top, err := parse(data)
	if err != nil {
		return nil, err
	}
	const expected = "expected a list \"links\" of parent, child, xyz and rpy or quaternion"
	if top.Empty() {
		return nil, fmt.Errorf("no links; %s", expected)
	}
	fields, err := top.Fields("links")
	if err != nil {
		return nil, err
	}
	entries, err := fields["links"].Items()
	if err != nil {
		return nil, err
	}
	if len(entries) == 0 {
		return nil, top.Fail("no links; %s", expected)
	}
	var out []Link
	children := map[string]int{}
	for _, entry := range entries {
		link, err := readLink(entry)
		if err != nil {
			return nil, err
		}
		if line := children[link.Child]; line > 0 {
			return nil, entry.Fail("%s has a parent already, at line %d", link.Child, line)
		}
		children[link.Child] = entry.Line
		out = append(out, link)
	}
	return out, nil
}

func readLink(entry yamltree.Node) (Link, error) {
	fields, err := entry.Fields("parent", "child", "xyz", "rpy", "quaternion")
	if err != nil {
		return Link{}, err
	}
	var link Link
	for _, s := range []struct {
		name string
		to   *string
	}{{"parent", &link.Parent}, {"child", &link.Child}} {
		if f, ok := fields[s.name]; ok {
			if *s.to, err = f.Text(); err != nil {
				return Link{}, err
			}
		}
	}
	if link.Parent == "" || link.Child == "" || link.Parent == link.Child {
		return Link{}, entry.Fail("parent is %q and child is %q, expected two different frames", link.Parent, link.Child)
	}
	list := func(name string, want int, unit string) ([]float64, error) {
		f, ok := fields[name]
		if !ok {
			return nil, entry.Fail("%s to %s: %s is missing, expected %d %s", link.Parent, link.Child, name, want, unit)
		}
		numbers, err := f.Numbers()
		if err != nil {
			return nil, err
		}
		if len(numbers) != want {
			return nil, f.Fail("%s has %d numbers, expected %d %s", name, len(numbers), want, unit)
		}
		for i, n := range numbers {
			if math.IsNaN(n) || math.IsInf(n, 0) {
				return nil, f.Fail("%s[%d] is %v, expected a finite number", name, i, n)
			}
		}
		return numbers, nil
	}
	xyz, err := list("xyz", 3, "metres")
	if err != nil {
		return Link{}, err
	}
	link.Transform.Translation = r3.Vec{X: xyz[0], Y: xyz[1], Z: xyz[2]}
	_, angles := fields["rpy"]
	if _, both := fields["quaternion"]; angles == both {
		return Link{}, entry.Fail("%s to %s: expected either rpy (3 radians) or quaternion (x y z w)", link.Parent, link.Child)
	}
	if angles {
		rpy, err := list("rpy", 3, "radians")
		if err != nil {
			return Link{}, err
		}
		link.Transform.Rotation = fromRPY(rpy[0], rpy[1], rpy[2])
	} else {
		q, err := list("quaternion", 4, "numbers (x y z w)")
		if err != nil {
			return Link{}, err
		}
		link.Transform.Rotation = quat.Number{Imag: q[0], Jmag: q[1], Kmag: q[2], Real: q[3]}
		if length := quat.Abs(link.Transform.Rotation); math.Abs(length-1) > 1e-2 {
			return Link{}, fields["quaternion"].Fail("quaternion %v has length %.3f, expected 1 (order x y z w)", q, length)
		}
	}
	link.Transform = link.Transform.Normalized()
	return link, nil
}

// fromRPY turns about the fixed axes x, then y, then z.
func fromRPY(roll, pitch, yaw float64) quat.Number {
	about := func(a float64, axis quat.Number) quat.Number {
		return quat.Add(quat.Number{Real: math.Cos(a / 2)}, quat.Scale(math.Sin(a/2), axis))
	}
	return quat.Mul(about(yaw, quat.Number{Kmag: 1}), quat.Mul(about(pitch, quat.Number{Jmag: 1}), about(roll, quat.Number{Imag: 1})))
}
