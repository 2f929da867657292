package tour

import (
	"math"
	"slices"
)

// leadOut is how long the person goes on after the end of a walk, seconds. Nobody stops dead: TF on both sides of the last
// picture must lie on one smooth motion, or what is interpolated between them is not where the picture was taken.
const leadOut = 0.5

// ending is the wishes after the walk: the steps die away, the eyes go on to where they wanted to look.
func (s *script) ending() []wish {
	const dt = 1.0 / Rate
	end := s.want[len(s.want)-1]
	var vx, vy float64
	if n := len(s.want); n > 1 {
		vx, vy = end.p.x-s.want[n-2].p.x, end.p.y-s.want[n-2].p.y // metres a step
	}
	keep := math.Exp(-dt / 0.15)
	out := make([]wish, 0, int(leadOut*Rate))
	for range int(leadOut * Rate) {
		end.p.x, end.p.y = end.p.x+vx, end.p.y+vy
		vx, vy = vx*keep, vy*keep
		out = append(out, end)
	}
	return out
}

// smooth turns wishes into poses: the eyes follow with a limited rate, the head bobs while walking.
func (s *script) smooth() {
	const (
		omega   = 6.0  // 1/s, critically damped
		maxRate = 2.2  // rad/s
		maxPull = 12.0 // rad/s²: what a head does; TF at 30 Hz then interpolates to a tenth of a degree
	)
	yaw, pitch := s.want[0].yaw, s.want[0].pitch
	var vy, vp, gait float64
	sway := s.r.Float64() * 2 * math.Pi
	phase := 0.0
	for i, w := range append(slices.Clip(s.want), s.ending()...) {
		const dt = 1.0 / Rate
		dy := math.Remainder(w.yaw-yaw, 2*math.Pi)
		vy += min(maxPull, max(-maxPull, omega*omega*dy-2*omega*vy)) * dt
		vy = min(maxRate, max(-maxRate, vy))
		yaw += vy * dt
		vp += min(maxPull, max(-maxPull, omega*omega*(w.pitch-pitch)-2*omega*vp)) * dt
		pitch += vp * dt
		target := 0.0
		if w.walk {
			target = 1
		}
		gait += (target - gait) * dt * 6
		phase += dt * 2 * math.Pi * 1.8 * gait
		t := float64(i) * dt
		s.t.samples = append(s.t.samples, sample{
			x: w.p.x, y: w.p.y, z: s.height + 0.016*gait*math.Sin(phase) + 0.004*math.Sin(1.1*t+sway),
			yaw: yaw + 0.006*math.Sin(0.9*t+sway), pitch: pitch + 0.008*gait*math.Sin(phase+1) + 0.004*math.Sin(0.7*t+2*sway),
			roll: 0.012*gait*math.Sin(phase/2) + 0.006*math.Sin(0.5*t+sway),
		})
	}
}
