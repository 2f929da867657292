package config

import (
	"errors"
	"fmt"
	"slices"
)

// limit bounds every size: large enough for any model, small enough that products of a few stay within 64 bits.
const limit = 1 << 24

// Validate reports every field that is wrong or contradicts another, by name.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("config: "+format, args...)) }
	if c.Profile != Published && c.Profile != Robot {
		bad("profile is %q, expected published or robot", c.Profile)
	}
	v, q := c.VisionConfig, c.QFormerConfig
	for _, f := range []struct {
		name  string
		value int
	}{
		{"vocab_size", c.VocabSize}, {"hidden_size", c.HiddenSize}, {"intermediate_size", c.IntermediateSize},
		{"num_hidden_layers", c.NumHiddenLayers}, {"num_attention_heads", c.NumAttentionHeads},
		{"num_key_value_heads", c.NumKeyValueHeads}, {"max_position_embeddings", c.MaxPositionEmbeddings},
		{"mm_spatial_pool_stride", c.MMSpatialPoolStride}, {"pcd_feature_dim", c.PcdFeatureDim},
		{"img_view_base_pe", c.ImgViewBasePE}, {"pcd_view_base_pe", c.PcdViewBasePE}, {"num_frames", c.NumFrames},
		{"vision_config.image_size", v.ImageSize}, {"vision_config.patch_size", v.PatchSize},
		{"vision_config.hidden_size", v.HiddenSize}, {"vision_config.intermediate_size", v.IntermediateSize},
		{"vision_config.num_hidden_layers", v.NumHiddenLayers}, {"vision_config.num_attention_heads", v.NumAttentionHeads},
		{"qformer_config.num_query_tokens", q.NumQueryTokens}, {"qformer_config.hidden_size", q.HiddenSize},
		{"qformer_config.intermediate_size", q.IntermediateSize}, {"qformer_config.num_hidden_layers", q.NumHiddenLayers},
		{"qformer_config.num_attention_heads", q.NumAttentionHeads}, {"qformer_config.encoder_hidden_size", q.EncoderHiddenSize},
		{"qformer_config.cross_attention_frequency", q.CrossAttentionFrequency},
		{"qformer_config.vocab_size", q.VocabSize}, {"qformer_config.max_position_embeddings", q.MaxPositionEmbeddings},
	} {
		if f.value < 1 || f.value > limit {
			bad("%s is %d, expected 1 to %d", f.name, f.value, limit)
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...) // what follows divides by these
	}
	for _, f := range []struct {
		name  string
		value string
		want  []string
	}{
		{"hidden_act", c.HiddenAct, []string{"silu"}}, {"mm_projector_type", c.MMProjectorType, []string{"mlp2x_gelu"}},
		{"mm_spatial_pool_mode", c.MMSpatialPoolMode, []string{"bilinear", "average", "max"}},
		{"mm_newline_position", c.MMNewlinePosition, []string{"grid"}},
		{"vision_config.hidden_act", v.HiddenAct, []string{"gelu_pytorch_tanh"}},
		{"qformer_config.hidden_act", q.HiddenAct, []string{"gelu"}},
		{"torch_dtype", c.TorchDtype, []string{"bfloat16", "float16", "float32"}},
	} {
		if !slices.Contains(f.want, f.value) {
			bad("%s is %q, expected one of %q", f.name, f.value, f.want)
		}
	}
	for _, f := range []struct {
		name          string
		value, of     int
		ofName, extra string
	}{
		{"hidden_size", c.HiddenSize, 2 * c.NumAttentionHeads, "twice num_attention_heads", ""},
		{"num_attention_heads", c.NumAttentionHeads, c.NumKeyValueHeads, "num_key_value_heads", ""},
		{"vision_config.hidden_size", v.HiddenSize, v.NumAttentionHeads, "vision_config.num_attention_heads", ""},
		{"qformer_config.hidden_size", q.HiddenSize, q.NumAttentionHeads, "qformer_config.num_attention_heads", ""},
	} {
		if f.value%f.of != 0 {
			bad("%s is %d, expected a multiple of %s (%d)", f.name, f.value, f.ofName, f.of)
		}
	}
	c.validateLinks(bad)
	c.validateNumbers(bad)
	if p := c.PointEncoderConfig; p.Type == MaskedTransformer && p.HiddenSize != c.PcdFeatureDim {
		bad("point_encoder_config.hidden_size is %d, but pcd_feature_dim is %d", p.HiddenSize, c.PcdFeatureDim)
	}
	if err := c.PointEncoderConfig.validate(); err != nil {
		errs = append(errs, err)
	}
	if o := c.RobotConfig; o != nil {
		if err := o.validate(); err != nil {
			errs = append(errs, err)
		}
		if c.Profile != Robot {
			bad("robot_config is set, but profile is %q", c.Profile)
		}
		if o.PatchMemory && c.PcdFeatureDim != c.HiddenSize {
			bad("robot_config.patch_memory needs features of one width: pcd_feature_dim is %d, hidden_size %d", c.PcdFeatureDim, c.HiddenSize)
		}
		if o.VoxelFeatures == StatFeatures && c.PointEncoderConfig.Type != MinkUNet {
			bad("robot_config.voxel_features stats is for point_encoder_config.type minkunet, not %q", c.PointEncoderConfig.Type)
		}
	}
	return errors.Join(errs...)
}

// validateLinks checks fields that say the same thing twice.
func (c *Config) validateLinks(bad func(string, ...any)) {
	v, q := c.VisionConfig, c.QFormerConfig
	if v.NumChannels != 3 {
		bad("vision_config.num_channels is %d, expected 3", v.NumChannels)
	}
	if v.Grid() < 1 {
		bad("vision_config.image_size %d is smaller than patch_size %d", v.ImageSize, v.PatchSize)
	}
	if v.NumHiddenLayers < 2 {
		bad("vision_config.num_hidden_layers is 1, but the last layer is never run")
	}
	g := c.PooledGrid()
	for _, f := range []struct {
		name       string
		value      int
		other      string
		otherValue int
	}{
		{"mm_hidden_size", c.MMHiddenSize, "vision_config.hidden_size", v.HiddenSize},
		{"img_encoder_feature_dim", c.ImgEncoderFeatureDim, "hidden_size", c.HiddenSize},
		{"img_feature_dim", c.ImgFeatureDim, "qformer_config.hidden_size", q.HiddenSize},
		{"qformer_config.encoder_hidden_size", q.EncoderHiddenSize, "pcd_feature_dim", c.PcdFeatureDim},
		{"img_num_patches", c.ImgNumPatches, "the pooled patches of a frame with mm_spatial_pool_mode " + c.MMSpatialPoolMode, g * g},
	} {
		if f.value != f.otherValue {
			bad("%s is %d, but %s is %d", f.name, f.value, f.other, f.otherValue)
		}
	}
}

func (c *Config) validateNumbers(bad func(string, ...any)) {
	for _, f := range []struct {
		name       string
		value      float64
		low, upper float64
	}{
		{"rms_norm_eps", c.RMSNormEps, 1e-15, 1}, {"rope_theta", c.RopeTheta, 1, 1e12}, {"voxel_size", c.VoxelSize, 1e-4, 10},
		{"initializer_range", c.InitializerRange, 0, 10}, {"vision_config.layer_norm_eps", c.VisionConfig.LayerNormEps, 1e-15, 1},
		{"qformer_config.layer_norm_eps", c.QFormerConfig.LayerNormEps, 1e-15, 1},
	} {
		if !(f.value >= f.low && f.value <= f.upper) {
			bad("%s is %v, expected %v to %v", f.name, f.value, f.low, f.upper)
		}
	}
	for _, id := range slices.Concat(c.BOSTokenID, c.EOSTokenID) {
		if id < 0 || int(id) >= c.VocabSize {
			bad("bos_token_id or eos_token_id %d is not below vocab_size %d", id, c.VocabSize)
		}
	}
}

func (p PointEncoder) validate() error {
	positive := func(name string, values ...int) error {
		for _, v := range values {
			if v < 1 || v > limit {
				return fmt.Errorf("config: point_encoder_config.%s is %d, expected 1 to %d", name, v, limit)
			}
		}
		return nil
	}
	switch p.Type {
	case MinkUNet:
		if n := len(p.Encoder); n == 0 || n > 8 || n != len(p.Decoder) {
			return fmt.Errorf("config: point_encoder_config.encoder and decoder have %d and %d stages, expected as many, 1 to 8", len(p.Encoder), len(p.Decoder))
		}
		return errors.Join(positive("stem", p.Stem), positive("encoder", p.Encoder...), positive("decoder", p.Decoder...))
	case MaskedTransformer:
		if err := errors.Join(positive("points", p.Points), positive("tokens", p.Tokens), positive("kept", p.Kept),
			positive("hidden_size", p.HiddenSize), positive("num_attention_heads", p.Heads), positive("intermediate_size", p.FFN),
			positive("num_hidden_layers", p.Layers), positive("samples", p.Samples), positive("samples2", p.Samples2)); err != nil {
			return err
		}
		switch {
		case p.HiddenSize%p.Heads != 0:
			return fmt.Errorf("config: point_encoder_config.hidden_size %d is not a multiple of num_attention_heads %d", p.HiddenSize, p.Heads)
		case p.Kept > p.Tokens || p.Tokens > p.Points:
			return fmt.Errorf("config: point_encoder_config: kept %d, tokens %d, points %d, expected them to grow", p.Kept, p.Tokens, p.Points)
		case !(p.Radius > 0) || !(p.Radius2 > 0):
			return fmt.Errorf("config: point_encoder_config.radius %v, radius2 %v, expected metres above 0", p.Radius, p.Radius2)
		}
		return nil
	}
	return fmt.Errorf("config: point_encoder_config.type is %q, expected minkunet or masked_transformer", p.Type)
}
