package trainer

import (
	"errors"
	"fmt"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/trainer/record"
)

// Stage names.
const (
	StagePoints = "points" // the point encoder on the classes of voxels
	StageVision = "vision" // the vision tower and the projector on the classes of patches
	StageAlign  = "align"  // the aligner alone, with a regression head that is thrown away
	StageJoint  = "joint"  // the aligner and the decoder on answers
)

// Stages lists the stages in order.
func Stages() []string { return []string{StagePoints, StageVision, StageAlign, StageJoint} }

// StageRecipe is how one stage is trained.
type StageRecipe struct {
	Steps    int      `json:"steps"`
	Micro    int      `json:"micro"` // batches summed for a step
	Schedule Schedule `json:"schedule"`
	Every    int      `json:"every"` // steps between measurements on held-out kitchens
}

// Recipe is everything that decides a training run; the same recipe gives the same weights on the same kind of processor,
// up to the order in which threads add.
type Recipe struct {
	Seed        uint64                 `json:"seed"`
	Kitchens    int                    `json:"kitchens"`   // to train on: seeds FirstSeed, FirstSeed+1, …
	FirstSeed   uint64                 `json:"first_seed"` //
	HeldOut     int                    `json:"held_out"`   // kitchens to measure on
	HeldOutSeed uint64                 `json:"held_out_seed"`
	Shape       record.Shape           `json:"shape"`
	Stages      map[string]StageRecipe `json:"stages"`
	Questions   int                    `json:"questions"` // of one window in a batch
	Voxels      int                    `json:"voxels"`    // of one map in a batch
	// NoVideo and NoPoints are the shares of batches that lack a modality.
	NoVideo  float64 `json:"no_video"`
	NoPoints float64 `json:"no_points"`
	// Freeze lists prefixes of weights that the joint stage leaves alone.
	Freeze []string `json:"freeze"`
	// Encoders is a model folder that point encoder, vision tower and projector are taken from at the start; empty: none.
	Encoders string `json:"encoders,omitempty"`
	// Model has the fields of the config that were set otherwise; here only to be told apart.
	Model map[string]string `json:"model,omitempty"`
}

// NanoRecipe is how the shipped model was trained.
func NanoRecipe(c *config.Config) Recipe {
	return Recipe{
		Seed: 1, Kitchens: 3200, FirstSeed: 1, HeldOut: 40, HeldOutSeed: 900_000,
		Shape: record.Shape{Format: record.Format, Edge: c.VisionConfig.ImageSize, Grid: c.VisionConfig.Grid(), Voxel: c.VoxelSize, Frames: c.NumFrames,
			Windows: 3, Questions: 48, PoseTrans: 0.02, PoseTurn: 1, Margin: 0.05},
		Stages: map[string]StageRecipe{
			StagePoints: {Steps: 4500, Micro: 2, Schedule: Schedule{Peak: 3e-3, WarmUp: 0.03, Decay: 0.6}, Every: 500},
			StageVision: {Steps: 20000, Micro: 1, Schedule: Schedule{Peak: 1.5e-3, WarmUp: 0.03, Decay: 0.6}, Every: 500},
			StageAlign:  {Steps: 1200, Micro: 2, Schedule: Schedule{Peak: 1e-3, WarmUp: 0.03, Decay: 0.3}, Every: 400},
			StageJoint:  {Steps: 20000, Micro: 2, Schedule: Schedule{Peak: 6e-4, WarmUp: 0.02, Decay: 0.6}, Every: 1000},
		},
		Questions: 16, Voxels: 512, NoVideo: 0.08, NoPoints: 0.04,
	}
}

// Validate names the field that does not fit.
func (r Recipe) Validate() error {
	if r.Kitchens < 1 || r.HeldOut < 1 {
		return fmt.Errorf("recipe: %d kitchens to train on and %d to measure on, expected at least one each", r.Kitchens, r.HeldOut)
	}
	if a, b := r.FirstSeed, r.HeldOutSeed; a < b+uint64(r.HeldOut) && b < a+uint64(r.Kitchens) {
		return errors.New("recipe: the held-out kitchens are among those to train on")
	}
	if r.Questions < 1 || r.Voxels < 16 {
		return fmt.Errorf("recipe: %d questions and %d voxels of a batch, expected at least 1 and 16", r.Questions, r.Voxels)
	}
	if !(r.NoVideo >= 0 && r.NoPoints >= 0 && r.NoVideo+r.NoPoints <= 1) {
		return fmt.Errorf("recipe: shares without video %v and without points %v, expected numbers that sum to at most 1", r.NoVideo, r.NoPoints)
	}
	for name, s := range r.Stages {
		if s.Steps < 0 || s.Micro < 1 || !(s.Schedule.Peak > 0) {
			return fmt.Errorf("recipe: stage %s has %d steps of %d batches at a rate of %v", name, s.Steps, s.Micro, s.Schedule.Peak)
		}
	}
	return r.Shape.Validate()
}

func (r Recipe) seeds() []uint64 { return span(r.FirstSeed, r.Kitchens) }

func (r Recipe) heldOut() []uint64 { return span(r.HeldOutSeed, r.HeldOut) }

func span(first uint64, n int) []uint64 {
	out := make([]uint64, n)
	for i := range out {
		out[i] = first + uint64(i)
	}
	return out
}
