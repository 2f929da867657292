package config

// Default is the published model: SigLIP so400m, MinkUNet18A, a Q-Former of 6 layers and Qwen2-7B.
func Default() *Config {
	return &Config{
		ModelType: "pcd_aligner", Profile: Published, TorchDtype: "bfloat16",
		VocabSize: 152064, HiddenSize: 3584, IntermediateSize: 18944, NumHiddenLayers: 28, NumAttentionHeads: 28, NumKeyValueHeads: 4,
		HiddenAct: "silu", MaxPositionEmbeddings: 32768, RMSNormEps: 1e-6, RopeTheta: 1e6, InitializerRange: 0.02,
		BOSTokenID: IDs{151643}, EOSTokenID: IDs{151645},
		MMHiddenSize: 1152, MMProjectorType: "mlp2x_gelu", MMSpatialPoolMode: "bilinear", MMSpatialPoolStride: 2, MMNewlinePosition: "grid",
		ImgNumPatches: 196, ImgFeatureDim: 768, ImgEncoderFeatureDim: 3584, PcdFeatureDim: 768, PcdNPoints: 1024,
		ImgViewBasePE: 127, PcdViewBasePE: 127,
		VisionConfig: Vision{ModelType: "siglip_vision_model", ImageSize: 384, PatchSize: 14, NumChannels: 3, HiddenSize: 1152,
			IntermediateSize: 4304, NumHiddenLayers: 27, NumAttentionHeads: 16, HiddenAct: "gelu_pytorch_tanh", LayerNormEps: 1e-6},
		QFormerConfig: QFormer{ModelType: "instructblip_qformer", NumQueryTokens: 32, HiddenSize: 768, IntermediateSize: 3072,
			NumHiddenLayers: 6, NumAttentionHeads: 12, EncoderHiddenSize: 768, CrossAttentionFrequency: 2, HiddenAct: "gelu",
			LayerNormEps: 1e-12, VocabSize: 30522, MaxPositionEmbeddings: 512},
		NumFrames: 32, VoxelSize: 0.06, PointEncoderConfig: mink18A(),
	}
}

// PublishedTiny is the published graph, quirks and all, at the size of golden/core's model (0.3 M parameters): for trials of
// everything that a published checkpoint can do. vocab is the tokenizer's size, eos its end-of-turn token.
func PublishedTiny(vocab int, eos int32) *Config {
	c := Default()
	c.VocabSize, c.HiddenSize, c.IntermediateSize, c.NumHiddenLayers, c.NumAttentionHeads, c.NumKeyValueHeads = vocab, 64, 160, 3, 8, 2
	c.MaxPositionEmbeddings, c.InitializerRange = 2048, 0.1
	c.BOSTokenID, c.EOSTokenID = nil, IDs{eos}
	c.VisionConfig = Vision{ModelType: "siglip_vision_model", ImageSize: 70, PatchSize: 14, NumChannels: 3, HiddenSize: 48,
		IntermediateSize: 88, NumHiddenLayers: 4, NumAttentionHeads: 4, HiddenAct: "gelu_pytorch_tanh", LayerNormEps: 1e-6}
	c.QFormerConfig.HiddenSize, c.QFormerConfig.IntermediateSize, c.QFormerConfig.NumAttentionHeads, c.QFormerConfig.EncoderHiddenSize = 40, 72, 4, 32
	c.QFormerConfig.VocabSize, c.QFormerConfig.MaxPositionEmbeddings = 32, 32
	c.MMHiddenSize, c.ImgNumPatches, c.ImgFeatureDim, c.ImgEncoderFeatureDim, c.PcdFeatureDim = 48, 9, 40, 64, 32
	c.NumFrames, c.VoxelSize = 4, 0.2
	c.PointEncoderConfig.Stem, c.PointEncoderConfig.Encoder, c.PointEncoderConfig.Decoder = 8, []int{16, 24}, []int{24, 16}
	return c
}

func mink18A() PointEncoder {
	return PointEncoder{Type: MinkUNet, Stem: 32, Encoder: []int{32, 64, 128, 256}, Decoder: []int{128, 128, 96, 96},
		Points: 40000, Tokens: 2048, Kept: 1024, HiddenSize: 256, Heads: 4, FFN: 128, Layers: 3, Samples: 64, Samples2: 32,
		Radius: 0.2, Radius2: 0.4}
}

// Nano is the whole graph at a size that a laptop's CPU runs and trains: 96-pixel pictures of 8×8 patches, one token a frame
// in the sequence, all patches in the cross-attention memory, 12 frames. vocab is the tokenizer's size, eos its end-of-turn
// token.
func Nano(vocab int, eos int32) *Config {
	c := Default()
	c.Profile, c.TorchDtype = Robot, "float32"
	c.VocabSize, c.HiddenSize, c.IntermediateSize, c.NumHiddenLayers, c.NumAttentionHeads, c.NumKeyValueHeads = vocab, 128, 384, 4, 4, 2
	c.MaxPositionEmbeddings, c.RopeTheta, c.InitializerRange = 2048, 1e4, 0.03
	c.BOSTokenID, c.EOSTokenID = nil, IDs{eos}
	c.AddTimeInstruction = false
	c.VisionConfig = Vision{ModelType: "siglip_vision_model", ImageSize: 96, PatchSize: 12, NumChannels: 3, HiddenSize: 128,
		IntermediateSize: 384, NumHiddenLayers: 5, NumAttentionHeads: 4, HiddenAct: "gelu_pytorch_tanh", LayerNormEps: 1e-6}
	c.QFormerConfig = QFormer{ModelType: "instructblip_qformer", NumQueryTokens: 16, HiddenSize: 192, IntermediateSize: 512,
		NumHiddenLayers: 6, NumAttentionHeads: 3, EncoderHiddenSize: 128, CrossAttentionFrequency: 2, HiddenAct: "gelu",
		LayerNormEps: 1e-12, VocabSize: 32, MaxPositionEmbeddings: 32}
	c.MMSpatialPoolMode, c.MMSpatialPoolStride = "average", 8
	c.MMHiddenSize, c.ImgNumPatches, c.ImgFeatureDim, c.ImgEncoderFeatureDim, c.PcdFeatureDim = 128, 1, 192, 128, 128
	c.NumFrames, c.VoxelSize = 12, 0.2
	c.PointEncoderConfig.Stem = 24
	c.PointEncoderConfig.Encoder, c.PointEncoderConfig.Decoder = []int{48, 72}, []int{48, 40}
	c.RobotConfig = &RobotOptions{
		DirectionOctaves: Octaves{0, 6}, PositionOctaves: Octaves{-1, 6}, TimeOctaves: Octaves{-4, 4}, VoxelFeatures: StatFeatures,
		StartFrame: true, TextContext: 3, SequenceTokens: true, PatchMemory: true, EmptyMemory: true, SystemPrompt: "Answer from the map and the video.", Near: 0.3, Far: 8, Miss: 2.5,
	}
	return c
}
