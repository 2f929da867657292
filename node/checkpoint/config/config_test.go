package config

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stllm/stllm/node/testdata"
)

func TestPresets(t *testing.T) {
	for name, c := range map[string]*Config{"published": Default(), "nano": Nano(1024, 5)} {
		if err := c.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Parse(data)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		again, _ := json.Marshal(back)
		if string(again) != string(data) {
			t.Errorf("%s: written and read gives\n%s\nfrom\n%s", name, again, data)
		}
	}
}

func TestGoldenConfig(t *testing.T) {
	dir := testdata.Golden(t, "core", "model")
	c, err := Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	if c.Profile != Published || c.VisionConfig.Layers() != c.VisionConfig.NumHiddenLayers-1 || c.PooledGrid()*c.PooledGrid() != c.ImgNumPatches {
		t.Errorf("%+v", c)
	}
	g, err := LoadGeneration(dir)
	var stored struct {
		EOS    IDs  `json:"eos_token_id"`
		Sample bool `json:"do_sample"`
		TopK   int  `json:"top_k"`
	}
	testdata.JSON(t, filepath.Join(dir, "generation_config.json"), &stored)
	if err != nil || len(g.EOSTokenID) == 0 || !slices.Equal(g.EOSTokenID, stored.EOS) || g.DoSample != stored.Sample || g.TopK != stored.TopK || g.NumBeams != 1 {
		t.Errorf("%+v, %v, the file has %+v", g, err, stored)
	}
}

// A published config.json names neither the vision tower's nor the Q-Former's sizes.
func TestDefaults(t *testing.T) {
	c, err := Parse([]byte(`{"vocab_size":152064,"hidden_size":3584,"intermediate_size":18944,"num_hidden_layers":28,"num_attention_heads":28,"num_key_value_heads":4,"eos_token_id":[151645,151643]}`))
	if err != nil {
		t.Fatal(err)
	}
	if c.VisionConfig.Layers() != 26 || c.QFormerConfig.EncoderHiddenSize != 768 || c.ImgNumPatches != 196 || c.HeadDim() != 128 || c.PooledGrid() != 14 {
		t.Errorf("%+v", c)
	}
	if RayColumns(c.ImgViewBasePE) != 765 {
		t.Errorf("%d ray columns", RayColumns(c.ImgViewBasePE))
	}
}

func TestRefuses(t *testing.T) {
	base, _ := json.Marshal(Default())
	for _, c := range []struct{ field, value, want string }{
		{"profile", `"mine"`, "profile"},
		{"hidden_size", `0`, "hidden_size"},
		{"hidden_size", `"big"`, "hidden_size"},
		{"num_attention_heads", `5`, "num_attention_heads"},
		{"num_key_value_heads", `3`, "num_key_value_heads"},
		{"mm_hidden_size", `7`, "vision_config.hidden_size is 1152"},
		{"mm_spatial_pool_mode", `"average"`, "img_num_patches is 196"},
		{"mm_spatial_pool_mode", `"median"`, "mm_spatial_pool_mode"},
		{"img_num_patches", `195`, "img_num_patches"},
		{"pcd_feature_dim", `32`, "pcd_feature_dim is 32"},
		{"rope_theta", `-1`, "rope_theta"},
		{"hidden_act", `"relu"`, "hidden_act"},
		{"eos_token_id", `999999999`, "vocab_size"},
		{"eos_token_id", `"x"`, "token id"},
		{"torch_dtype", `"int3"`, "torch_dtype"},
		{"vision_config", `{"num_attention_heads":5}`, "vision_config.num_attention_heads"},
		{"qformer_config", `{"hidden_size":-1}`, "qformer_config.hidden_size"},
		{"point_encoder_config", `{"type":"pointnet"}`, "point_encoder_config.type"},
		{"point_encoder_config", `{"encoder":[1]}`, "point_encoder_config.encoder"},
		{"num_hidden_layers", `99999999999`, "num_hidden_layers"},
		{"num_hidden_layers", `"many"`, "num_hidden_layers is of the wrong type (string), expected a whole number"},
		{"vision_config", `{"layer_norm_eps":true}`, "vision_config.layer_norm_eps is of the wrong type (bool), expected a number"},
		{"model_type", `"gpt2"`, `model_type is "gpt2"`},
		{"architectures", `["LlamaForCausalLM"]`, "architectures"},
		{"robot_config", `{"patch_memori":true}`, `unknown field "patch_memori"; it has direction_octaves`},
		{"robot_config", `{"time_octaves":{"frist":1}}`, `unknown field "frist"`},
	} {
		var m map[string]json.RawMessage
		if err := json.Unmarshal(base, &m); err != nil {
			t.Fatal(err)
		}
		m[c.field] = json.RawMessage(c.value)
		data, _ := json.Marshal(m)
		if _, err := Parse(data); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s = %s: error %v, want one with %q", c.field, c.value, err, c.want)
		}
	}
}

// A place for patches is one of three, and one that they have; none is written where none was given.
func TestPatchPlace(t *testing.T) {
	for _, c := range []struct {
		value  string
		memory bool
		want   PatchPlace
		err    string
	}{
		{"", true, MapPlace, ""},
		{"", false, MapPlace, ""},
		{"map", true, MapPlace, ""},
		{"map", false, MapPlace, ""},
		{"depth", true, DepthPlace, ""},
		{"ray", true, RayPlace, ""},
		{"depth", false, "", "needs patch_memory"},
		{"ray", false, "", "needs patch_memory"},
		{"Depth", true, "", `patch_place is "Depth", expected map, depth or ray`},
	} {
		n := Nano(1024, 5)
		n.RobotConfig.PatchPlace, n.RobotConfig.PatchMemory = PatchPlace(c.value), c.memory
		data, err := json.Marshal(n)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "patch_place") != (c.value != "") {
			t.Errorf("%q is written as %s", c.value, data)
		}
		back, err := Parse(data)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q, patch_memory %v: error %v, want one with %q", c.value, c.memory, err, c.err)
			}
			continue
		}
		if err != nil || back.RobotConfig.Place() != c.want {
			t.Errorf("%q: %v, %v", c.value, back, err)
		}
	}
}

// What the authors' code saves, and what it is made of, is taken; fields that we do not know are other people's.
func TestKinds(t *testing.T) {
	base, _ := json.Marshal(Default())
	for _, c := range []struct{ field, value string }{
		{"model_type", `"pcd_aligner"`}, {"model_type", `"llava_qwen"`}, {"model_type", `""`}, {"architectures", `["LlavaQwenPcdVidLM"]`},
		{"architectures", `[]`}, {"robot_config", `null`}, {"detector_model_name", `"Model_Vote2Cap_DETR"`},
	} {
		var m map[string]json.RawMessage
		if err := json.Unmarshal(base, &m); err != nil {
			t.Fatal(err)
		}
		m[c.field] = json.RawMessage(c.value)
		data, _ := json.Marshal(m)
		if _, err := Parse(data); err != nil {
			t.Errorf("%s = %s: %v", c.field, c.value, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	base, _ := json.Marshal(Nano(64, 1))
	f.Add(base)
	f.Add([]byte(`{"vision_config":{"patch_size":0}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		if c, err := Parse(data); err == nil && (c.HeadDim() < 1 || c.PooledGrid() < 1) {
			t.Fatalf("%+v", c)
		}
	})
}
