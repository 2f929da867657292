package calibration

import (
	"fmt"
	"math"
	"os"

	"github.com/goccy/go-yaml"
	"gonum.org/v1/gonum/num/quat"
	"gonum.org/v1/gonum/spatial/r3"

	"github.com/stllm/stllm/node/geometry"
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
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("camera calibration: %w", err)
	}
	in, err := ParseCamera(data)
	if err != nil {
		return nil, fmt.Errorf("camera calibration %s: %w", path, err)
	}
	return in, nil
}

// ParseCamera reads the content of a camera_calibration YAML file.
func ParseCamera(data []byte) (*Intrinsics, error) {
	var f cameraFile
	if err := yaml.Unmarshal(data, &f); err != nil {
		return nil, err // go-yaml's errors carry line, column and the text
	}
	in := &Intrinsics{Width: f.Width, Height: f.Height, Model: f.Model, D: f.Distortion.Data, BinningX: 1, BinningY: 1}
	for _, m := range []struct {
		name string
		from matrix
		to   []float64
		need bool
	}{
		{"camera_matrix", f.Camera, in.K[:], true}, {"rectification_matrix", f.Rectify, in.R[:], false}, {"projection_matrix", f.Projection, in.P[:], false},
	} {
		if len(m.from.Data) == 0 && !m.need {
			continue
		}
		if len(m.from.Data) != len(m.to) {
			return nil, fmt.Errorf("%s.data has %d numbers, expected %d", m.name, len(m.from.Data), len(m.to))
		}
		copy(m.to, m.from.Data)
	}
	return in, in.Validate()
}

// WriteCamera writes a camera_calibration YAML file.
func WriteCamera(path, name string, in *Intrinsics) error {
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

type linkFile struct {
	Links []struct {
		Parent   string    `yaml:"parent"`
		Child    string    `yaml:"child"`
		XYZ      []float64 `yaml:"xyz"`
		RPY      []float64 `yaml:"rpy"`        // radians, fixed axes x, y, z (REP-103)
		Rotation []float64 `yaml:"quaternion"` // x y z w
	} `yaml:"links"`
}

// ReadExtrinsics reads links from a YAML file:
//
//	links:
//	  - parent: base_link
//	    child: camera_color_optical_frame
//	    xyz: [0.2, 0.0, 1.1]          # metres
//	    rpy: [-1.5708, 0.0, -1.5708]  # radians; or quaternion: [x, y, z, w]
func ReadExtrinsics(path string) ([]Link, error) {
	data, err := os.ReadFile(path)
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
	var f linkFile
	if err := yaml.UnmarshalWithOptions(data, &f, yaml.Strict()); err != nil {
		return nil, err
	}
	if len(f.Links) == 0 {
		return nil, fmt.Errorf("no links; expected a list \"links\" of parent, child, xyz and rpy or quaternion")
	}
	var out []Link
	children := map[string]bool{}
	for i, l := range f.Links {
		fail := func(format string, args ...any) ([]Link, error) {
			return nil, fmt.Errorf("link %d (%s to %s): %s", i+1, l.Parent, l.Child, fmt.Sprintf(format, args...))
		}
		switch {
		case l.Parent == "" || l.Child == "" || l.Parent == l.Child:
			return fail("parent and child must be two different frames")
		case children[l.Child]:
			return fail("the child has a parent already")
		case len(l.XYZ) != 3:
			return fail("xyz has %d numbers, expected 3 metres", len(l.XYZ))
		case (len(l.RPY) == 3) == (len(l.Rotation) == 4):
			return fail("expected either rpy (3 radians) or quaternion (x y z w)")
		}
		children[l.Child] = true
		t := geometry.Transform{Translation: r3.Vec{X: l.XYZ[0], Y: l.XYZ[1], Z: l.XYZ[2]}}
		if len(l.Rotation) == 4 {
			t.Rotation = quat.Number{Imag: l.Rotation[0], Jmag: l.Rotation[1], Kmag: l.Rotation[2], Real: l.Rotation[3]}
			if d := math.Abs(quat.Abs(t.Rotation) - 1); !(d <= 1e-2) {
				return fail("quaternion %v has length %.3f, expected 1 (order x y z w)", l.Rotation, quat.Abs(t.Rotation))
			}
		} else {
			t.Rotation = fromRPY(l.RPY[0], l.RPY[1], l.RPY[2])
		}
		if !t.Finite() {
			return fail("a number is not finite")
		}
		out = append(out, Link{l.Parent, l.Child, t.Normalized()})
	}
	return out, nil
}

// fromRPY turns about the fixed axes x, then y, then z.
func fromRPY(roll, pitch, yaw float64) quat.Number {
	about := func(a float64, axis quat.Number) quat.Number {
		return quat.Add(quat.Number{Real: math.Cos(a / 2)}, quat.Scale(math.Sin(a/2), axis))
	}
	return quat.Mul(about(yaw, quat.Number{Kmag: 1}), quat.Mul(about(pitch, quat.Number{Jmag: 1}), about(roll, quat.Number{Imag: 1})))
}
