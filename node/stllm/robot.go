package stllm

import (
	"fmt"

	"github.com/stllm/stllm/node/checkpoint/config"
	"github.com/stllm/stllm/node/stllm/placecode"
)

// DepthUse tells what the config wants of a depth camera.
func (n *Network) DepthUse() DepthUse {
	o := n.cfg.RobotConfig
	if o == nil || !o.PatchMemory || o.Place() != config.DepthPlace || n.cfg.STLLM3D {
		return DepthUse{}
	}
	return DepthUse{Grid: n.cfg.VisionConfig.Grid(), Near: o.Near, Far: o.Far}
}

// robotPlaces encodes where voxels, patches and cameras are about the current camera.
func (n *Network) robotPlaces(req Request, m *mapFeatures) (alignerRays, error) {
	code, err := placecode.New(n.cfg.RobotConfig)
	if err != nil {
		return alignerRays{}, err
	}
	w := placecode.Window{Centroids: m.centroids, Caster: m.caster, Grid: n.cfg.VisionConfig.Grid()}
	if req.Ablate.NoVideo {
		w.Grid = 0
	}
	for _, f := range req.Frames {
		w.Frames = append(w.Frames, placecode.Frame{Stamp: f.Stamp, Pose: f.Pose, K: f.K, Width: f.Width, Height: f.Height, Depth: f.Depth})
	}
	out, err := code.Encode(w)
	if err != nil {
		return alignerRays{}, fmt.Errorf("places: %w", err)
	}
	return alignerRays{images: out.Cameras, points: out.Voxels, patches: out.Patches}, nil
}
