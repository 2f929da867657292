// Package config is a model folder's config.json and generation_config.json, with Hugging Face's field names. A published
// config has neither vision_config nor qformer_config: their defaults are those the authors' code fixes.
package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/stllm/stllm/node/smallfile"
)

// Profile chooses between the published model with all its quirks and ours.
type Profile string

// The profiles. A config without the field is published.
const (
	Published Profile = "published"
	Robot     Profile = "robot"
)

// PointEncoderType names the network that makes features of the map.
type PointEncoderType string

// The point encoders: OpenScene's sparse U-Net, LL3DA's masked transformer.
const (
	MinkUNet          PointEncoderType = "minkunet"
	MaskedTransformer PointEncoderType = "masked_transformer"
)

// Config is config.json. Sizes are numbers of features unless said otherwise.
type Config struct {
	ModelType  string  `json:"model_type"`
	Profile    Profile `json:"profile"` // ours
	TorchDtype string  `json:"torch_dtype"`

	// The language model (Qwen2).
	VocabSize             int     `json:"vocab_size"` // rows of the embedding, padded
	HiddenSize            int     `json:"hidden_size"`
	IntermediateSize      int     `json:"intermediate_size"`
	NumHiddenLayers       int     `json:"num_hidden_layers"`
	NumAttentionHeads     int     `json:"num_attention_heads"`
	NumKeyValueHeads      int     `json:"num_key_value_heads"`
	HiddenAct             string  `json:"hidden_act"`
	MaxPositionEmbeddings int     `json:"max_position_embeddings"` // tokens
	RMSNormEps            float64 `json:"rms_norm_eps"`
	RopeTheta             float64 `json:"rope_theta"`
	TieWordEmbeddings     bool    `json:"tie_word_embeddings"`
	InitializerRange      float64 `json:"initializer_range"` // standard deviation of untrained weights
	BOSTokenID            IDs     `json:"bos_token_id"`
	EOSTokenID            IDs     `json:"eos_token_id"`

	// From pictures to tokens.
	MMHiddenSize        int    `json:"mm_hidden_size"` // of the vision tower
	MMProjectorType     string `json:"mm_projector_type"`
	MMSpatialPoolMode   string `json:"mm_spatial_pool_mode"` // bilinear, average, max
	MMSpatialPoolStride int    `json:"mm_spatial_pool_stride"`
	MMNewlinePosition   string `json:"mm_newline_position"`
	AddTimeInstruction  bool   `json:"add_time_instruction"` // the sentence with the frame times

	// The aligner.
	ImgNumPatches        int `json:"img_num_patches"`         // pooled patches a frame: 196
	ImgFeatureDim        int `json:"img_feature_dim"`         // into the Q-Former: its hidden_size
	ImgEncoderFeatureDim int `json:"img_encoder_feature_dim"` // of video tokens: the LLM's hidden_size
	PcdFeatureDim        int `json:"pcd_feature_dim"`         // of voxel features
	PcdNPoints           int `json:"pcd_n_points"`
	ImgViewBasePE        int `json:"img_view_base_pe"` // frequencies of the ray encoding: 127
	PcdViewBasePE        int `json:"pcd_view_base_pe"`

	VisionConfig  Vision  `json:"vision_config"`
	QFormerConfig QFormer `json:"qformer_config"`

	// Ours; absent in a published config.
	STLLM3D            bool         `json:"stllm_3d"`   // spatial tokens straight into the LLM, without the aligner (v2 of the paper)
	NumFrames          int          `json:"num_frames"` // frames of a window: 32
	VoxelSize          float64      `json:"voxel_size"` // metres: 0.06
	PointEncoderConfig PointEncoder `json:"point_encoder_config"`

	// RobotConfig holds the departures of the robot profile; nil: rays as published, without the roundings.
	RobotConfig *RobotOptions `json:"robot_config,omitempty"`
}

// Vision is the SigLIP tower. Of NumHiddenLayers the last is deleted when the published code loads it.
type Vision struct {
	ModelType         string  `json:"model_type"`
	ImageSize         int     `json:"image_size"` // pixels
	PatchSize         int     `json:"patch_size"` // pixels
	NumChannels       int     `json:"num_channels"`
	HiddenSize        int     `json:"hidden_size"`
	IntermediateSize  int     `json:"intermediate_size"`
	NumHiddenLayers   int     `json:"num_hidden_layers"`
	NumAttentionHeads int     `json:"num_attention_heads"`
	HiddenAct         string  `json:"hidden_act"`
	LayerNormEps      float64 `json:"layer_norm_eps"`
}

// Grid is the number of patches along one side.
func (v Vision) Grid() int { return v.ImageSize / v.PatchSize }

// Layers is the number of layers that are stored and run.
func (v Vision) Layers() int { return v.NumHiddenLayers - 1 }

// QFormer is InstructBLIP's Q-Former. EncoderHiddenSize is that of what it cross-attends to: voxel features.
type QFormer struct {
	ModelType               string  `json:"model_type"`
	NumQueryTokens          int     `json:"num_query_tokens"`
	HiddenSize              int     `json:"hidden_size"`
	IntermediateSize        int     `json:"intermediate_size"`
	NumHiddenLayers         int     `json:"num_hidden_layers"`
	NumAttentionHeads       int     `json:"num_attention_heads"`
	EncoderHiddenSize       int     `json:"encoder_hidden_size"`
	CrossAttentionFrequency int     `json:"cross_attention_frequency"` // in layers 0, f, 2f, …
	HiddenAct               string  `json:"hidden_act"`
	LayerNormEps            float64 `json:"layer_norm_eps"`
	VocabSize               int     `json:"vocab_size"`              // stored, not used
	MaxPositionEmbeddings   int     `json:"max_position_embeddings"` // stored, not used
}

// PointEncoder is the shape of either point encoder; the fields of the other are left alone.
type PointEncoder struct {
	Type PointEncoderType `json:"type"`

	// MinkUNet: channels by stage.
	Stem    int   `json:"stem"`
	Encoder []int `json:"encoder"`
	Decoder []int `json:"decoder"`

	// MaskedTransformer.
	Points     int     `json:"points"` // taken from the map
	Tokens     int     `json:"tokens"` // after the first set abstraction
	Kept       int     `json:"kept"`   // after the second
	HiddenSize int     `json:"hidden_size"`
	Heads      int     `json:"num_attention_heads"`
	FFN        int     `json:"intermediate_size"`
	Layers     int     `json:"num_hidden_layers"`
	Samples    int     `json:"samples"`  // points a ball
	Samples2   int     `json:"samples2"` // tokens a ball
	Radius     float64 `json:"radius"`   // metres
	Radius2    float64 `json:"radius2"`  // metres
}

// PooledGrid is the number of pooled patches along one side. The bilinear mode rounds up, the others down.
func (c *Config) PooledGrid() int {
	n, s := c.VisionConfig.Grid(), c.MMSpatialPoolStride
	if c.MMSpatialPoolMode == "bilinear" {
		return (n + s - 1) / s
	}
	return n / s
}

// HeadDim is the size of one attention head of the language model.
func (c *Config) HeadDim() int { return c.HiddenSize / c.NumAttentionHeads }

// RayColumns is the width of a ray encoding with n frequencies: the direction, its sines and its cosines.
func RayColumns(n int) int { return 3 + 2*3*n }

// IDs is one token id or a list of them; null and absence are none.
type IDs []int32

// UnmarshalJSON takes 5, [5, 6] and null.
func (i *IDs) UnmarshalJSON(data []byte) error {
	var one *int32
	if err := json.Unmarshal(data, &one); err == nil {
		if *i = nil; one != nil {
			*i = IDs{*one}
		}
		return nil
	}
	var many []int32
	if err := json.Unmarshal(data, &many); err != nil {
		return errors.New("expected a token id or a list of them")
	}
	*i = many
	return nil
}

// MarshalJSON writes a single id as a number.
func (i IDs) MarshalJSON() ([]byte, error) {
	if len(i) == 1 {
		return json.Marshal(i[0])
	}
	return json.Marshal([]int32(i))
}

// Generation is generation_config.json.
type Generation struct {
	BOSTokenID        IDs     `json:"bos_token_id"`
	EOSTokenID        IDs     `json:"eos_token_id"`
	PadTokenID        IDs     `json:"pad_token_id"`
	DoSample          bool    `json:"do_sample"`
	Temperature       float64 `json:"temperature"`
	TopP              float64 `json:"top_p"`
	TopK              int     `json:"top_k"`
	NumBeams          int     `json:"num_beams"`
	LengthPenalty     float64 `json:"length_penalty"`
	RepetitionPenalty float64 `json:"repetition_penalty"`
	MaxNewTokens      int     `json:"max_new_tokens"`
}

// maxFile bounds both files.
const maxFile = 4 << 20

// Load reads and checks config.json of a model folder.
func Load(dir string) (*Config, error) {
	path := filepath.Join(dir, "config.json")
	data, err := smallfile.Read(path, maxFile)
	if err != nil {
		return nil, fmt.Errorf("read config: %w", err)
	}
	c, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Parse reads and checks the content of config.json; absent fields get the published model's values.
func Parse(data []byte) (*Config, error) {
	c := Default()
	// Sizes of the language model have no default: a file without them is no model config.
	c.VocabSize, c.HiddenSize, c.IntermediateSize, c.NumHiddenLayers, c.NumAttentionHeads, c.NumKeyValueHeads = 0, 0, 0, 0, 0, 0
	// These follow other fields where they are absent.
	c.MMHiddenSize, c.ImgNumPatches, c.ImgFeatureDim, c.ImgEncoderFeatureDim, c.QFormerConfig.EncoderHiddenSize = 0, 0, 0, 0, 0
	if err := json.Unmarshal(data, c); err != nil {
		return nil, told(err)
	}
	if err := checkKind(data); err != nil {
		return nil, err
	}
	orElse(&c.NumKeyValueHeads, c.NumAttentionHeads)
	orElse(&c.MMHiddenSize, c.VisionConfig.HiddenSize)
	orElse(&c.ImgEncoderFeatureDim, c.HiddenSize)
	orElse(&c.ImgFeatureDim, c.QFormerConfig.HiddenSize)
	orElse(&c.QFormerConfig.EncoderHiddenSize, c.PcdFeatureDim)
	if c.VisionConfig.PatchSize > 0 && c.MMSpatialPoolStride > 0 {
		orElse(&c.ImgNumPatches, c.PooledGrid()*c.PooledGrid())
	}
	return c, c.Validate()
}

func orElse(field *int, value int) {
	if *field == 0 {
		*field = value
	}
}

// LoadGeneration reads generation_config.json; a folder without it gives greedy decoding with 256 tokens.
func LoadGeneration(dir string) (*Generation, error) {
	g := &Generation{Temperature: 1, TopP: 1, NumBeams: 1, LengthPenalty: 1, RepetitionPenalty: 1, MaxNewTokens: 256}
	path := filepath.Join(dir, "generation_config.json")
	data, err := smallfile.Read(path, maxFile)
	if errors.Is(err, os.ErrNotExist) {
		return g, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read generation config: %w", err)
	}
	if err := json.Unmarshal(data, g); err != nil {
		return nil, fmt.Errorf("%s: %w", path, told(err))
	}
	for _, f := range []struct {
		name     string
		value    float64
		low, top float64
	}{
		{"temperature", g.Temperature, 0, 100}, {"top_p", g.TopP, 0, 1}, {"top_k", float64(g.TopK), 0, 1 << 20},
		{"num_beams", float64(g.NumBeams), 1, 64}, {"repetition_penalty", g.RepetitionPenalty, 0.01, 100},
		{"max_new_tokens", float64(g.MaxNewTokens), 1, 1 << 20},
	} {
		if !(f.value >= f.low && f.value <= f.top) {
			return nil, fmt.Errorf("%s: %s is %v, expected %v to %v", path, f.name, f.value, f.low, f.top)
		}
	}
	return g, nil
}
