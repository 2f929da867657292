package config

import "fmt"

// VoxelFeatures names what the point encoder is given of a voxel.
type VoxelFeatures string

// The features of a voxel: the colour of one of its points as published, or mean colour, centroid and fill.
const (
	ColorFeatures VoxelFeatures = "color"
	StatFeatures  VoxelFeatures = "stats"
)

// PatchPlace names where an image patch is put.
type PatchPlace string

// The places of a patch.
const (
	// MapPlace is where the patch's ray first meets the map; the default.
	MapPlace PatchPlace = "map"
	// DepthPlace is where a depth camera has measured that the ray ends; where it has measured nothing, MapPlace.
	DepthPlace PatchPlace = "depth"
	// RayPlace is none: all rays end at Miss, so that a patch has its direction alone.
	RayPlace PatchPlace = "ray"
)

// RobotOptions are the robot profile's departures from the published model. Places and directions are those of the level
// frame of the current (last) camera: x to its right, y ahead, z up, metres.
type RobotOptions struct {
	// DirectionOctaves and PositionOctaves are the frequencies 2^first … of the encodings of unit directions and of places
	// in 1/m. A count of 0 positions leaves the places out.
	DirectionOctaves Octaves `json:"direction_octaves"`
	PositionOctaves  Octaves `json:"position_octaves"`
	// TimeOctaves are the frequencies of a frame's age, rad/s.
	TimeOctaves   Octaves       `json:"time_octaves"`
	VoxelFeatures VoxelFeatures `json:"voxel_features"`
	// StartFrame adds each place as seen from the window's first camera (in its own level frame), so that how things stood
	// then need not be computed from two poses.
	StartFrame bool `json:"start_frame"`
	// TextContext is the number of tokens on either side that a token of the user turn brings along into the Q-Former, whose
	// text has no order otherwise. 0: none, as published.
	TextContext int `json:"text_context"`
	// SequenceTokens makes spatial tokens of the whole Q-Former sequence, of frames and of the question's words too, so that
	// the language model sees what was found for each of them. false: of the latent queries alone, as published.
	SequenceTokens bool `json:"sequence_tokens"`
	// PatchMemory puts the patches of all frames beside the voxels into the cross-attention memory, each at its PatchPlace.
	PatchMemory bool `json:"patch_memory"`
	// PatchPlace is where they are put; absent: map. It changes no tensor, so that a model may be run with another one than it
	// was trained with.
	PatchPlace PatchPlace `json:"patch_place,omitempty"`
	// EmptyMemory adds one learned token to that memory, for questions about what is not there.
	EmptyMemory bool `json:"empty_memory"`
	// SystemPrompt is the system turn's text; empty: the published one.
	SystemPrompt string `json:"system_prompt"`
	// Near, Far and Miss bound the patches' rays: nothing nearer or further is hit, or measured, and a ray that hits nothing ends
	// at Miss.
	Near float64 `json:"near"`
	Far  float64 `json:"far"`
	Miss float64 `json:"miss"`
}

// Octaves are count frequencies, each twice the one before, from 2^first on.
type Octaves struct {
	First int `json:"first"`
	Count int `json:"count"`
}

func (o Octaves) validate(name string, least int) error {
	if o.Count < least || o.Count > 16 || o.First < -16 || o.First > 16 {
		return fmt.Errorf("config: robot_config.%s is %+v, expected a count of %d to 16 and a first of -16 to 16", name, o, least)
	}
	return nil
}

// Columns is the width of an encoded place: direction, position with range, age, and whether it is a picture's.
func (o *RobotOptions) Columns() int {
	n := 3*(1+2*o.DirectionOctaves.Count) + 1 + 2*o.TimeOctaves.Count + 1
	if o.PositionOctaves.Count > 0 {
		n += 4 * (1 + 2*o.PositionOctaves.Count)
	}
	if o.StartFrame {
		n += 4 * (1 + 2*o.PositionOctaves.Count)
	}
	return n
}

// Place is where patches are put.
func (o *RobotOptions) Place() PatchPlace {
	if o.PatchPlace == "" {
		return MapPlace
	}
	return o.PatchPlace
}

func (o *RobotOptions) validatePlace() error {
	switch o.Place() {
	case MapPlace:
		return nil
	case DepthPlace, RayPlace:
		if !o.PatchMemory {
			return fmt.Errorf("config: robot_config.patch_place is %q, which needs patch_memory: no patch has a place without it", o.PatchPlace)
		}
		return nil
	}
	return fmt.Errorf("config: robot_config.patch_place is %q, expected map, depth or ray", o.PatchPlace)
}

func (o *RobotOptions) validate() error {
	for _, f := range []struct {
		name  string
		o     Octaves
		least int
	}{{"direction_octaves", o.DirectionOctaves, 1}, {"position_octaves", o.PositionOctaves, 0}, {"time_octaves", o.TimeOctaves, 0}} {
		if err := f.o.validate(f.name, f.least); err != nil {
			return err
		}
	}
	if o.StartFrame && o.PositionOctaves.Count == 0 {
		return fmt.Errorf("config: robot_config.start_frame is true, which needs position_octaves with a count of 1 or more")
	}
	if o.TextContext < 0 || o.TextContext > 16 {
		return fmt.Errorf("config: robot_config.text_context is %d, expected 0 to 16 tokens", o.TextContext)
	}
	if o.VoxelFeatures != ColorFeatures && o.VoxelFeatures != StatFeatures {
		return fmt.Errorf("config: robot_config.voxel_features is %q, expected color or stats", o.VoxelFeatures)
	}
	if !(o.Near > 0 && o.Near < o.Far && o.Far <= 1000 && o.Miss > 0 && o.Miss <= 1000) {
		return fmt.Errorf("config: robot_config has near %v, far %v and miss %v, expected 0 < near < far and 0 < miss, in metres up to 1000", o.Near, o.Far, o.Miss)
	}
	return o.validatePlace()
}

// PointColumns is the width of an encoded voxel place, ImageColumns that of an encoded image token.
func (c *Config) PointColumns() int { return c.columns(c.PcdViewBasePE) }

// ImageColumns is the width of the encoding of an image token's ray or camera.
func (c *Config) ImageColumns() int { return c.columns(c.ImgViewBasePE) }

func (c *Config) columns(published int) int {
	if c.RobotConfig != nil {
		return c.RobotConfig.Columns()
	}
	return RayColumns(published)
}

// VoxelColumns is the width of the point encoder's input.
func (c *Config) VoxelColumns() int {
	if c.RobotConfig != nil && c.RobotConfig.VoxelFeatures == StatFeatures {
		return 7
	}
	return 3
}
