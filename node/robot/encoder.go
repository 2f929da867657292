package robot

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/stllm/stllm/calibration"
	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/window"
)

// camera is what one content of camera_info means. It does not change.
type camera struct {
	key        []byte
	intrinsics *calibration.Intrinsics
	err        error
}

// maxInfos bounds the stamps of camera_info that are remembered, to give each image its own.
const maxInfos = 64

// cameras remembers camera_info messages: the latest, and the recent ones by stamp for cameras that zoom.
type cameras struct {
	latest *camera
	stamps []int64
	byTime []*camera
	count  uint64
}

// add takes a message in and returns its meaning where that is new.
func (c *cameras) add(m *msgs.CameraInfo) (changed *camera) {
	c.count++
	key := infoKey(m)
	if c.latest == nil || !bytes.Equal(c.latest.key, key) {
		in, err := calibration.FromCameraInfo(m)
		c.latest = &camera{key, in, err}
		changed = c.latest
	}
	if len(c.stamps) == maxInfos {
		c.stamps, c.byTime = append(c.stamps[:0], c.stamps[1:]...), append(c.byTime[:0], c.byTime[1:]...)
	}
	c.stamps, c.byTime = append(c.stamps, m.Header.Stamp.UnixNano()), append(c.byTime, c.latest)
	return changed
}

// at returns the camera_info of an image's own stamp, or the latest one; nil before the first.
func (c *cameras) at(stamp int64) *camera {
	for i := len(c.stamps) - 1; i >= 0; i-- {
		if c.stamps[i] == stamp {
			return c.byTime[i]
		}
	}
	return c.latest
}

// forgetStamps is for a jump of time; intrinsics stay.
func (c *cameras) forgetStamps() { c.stamps, c.byTime = nil, nil }

// infoKey is the content of a camera_info without its header.
func infoKey(m *msgs.CameraInfo) []byte {
	var b bytes.Buffer
	put := func(v uint64) { b.Write(binary.LittleEndian.AppendUint64(nil, v)) }
	put(uint64(m.Height)<<32 | uint64(m.Width))
	put(uint64(m.BinningX)<<32 | uint64(m.BinningY))
	put(uint64(m.Roi.XOffset)<<32 | uint64(m.Roi.YOffset))
	put(uint64(m.Roi.Height)<<32 | uint64(m.Roi.Width))
	put(uint64(len(m.D)))
	for _, list := range [][]float64{m.D, m.K[:], m.R[:], m.P[:]} {
		for _, v := range list {
			put(math.Float64bits(v))
		}
	}
	b.WriteString(m.DistortionModel)
	return b.Bytes()
}

// decodeFrames is the first worker of frames; the second one, encodeFrames, takes over what it has decoded.
func (r *Robot) decodeFrames() {
	decoded := make(chan *frameJob)
	r.goDo(func() { r.encodeFrames(decoded) })
	defer close(decoded)
	lenses := rectifiers{}
	for job := range r.frameJobs {
		r.decodeFrame(job, lenses)
		job.msg = nil
		decoded <- job
	}
}

func (r *Robot) encodeFrames(decoded <-chan *frameJob) {
	for job := range decoded {
		if job.cause == "" {
			start := time.Now()
			features, err := job.model.EncodeFrame(r.ctx, job.img)
			job.took = time.Since(start)
			switch {
			case err != nil:
				job.cause, job.detail = CauseEncoderError, err.Error()
			case features == nil:
				job.cause, job.detail = CauseEncoderError, "the model gave no features"
			default:
				job.frame.Features = features
			}
		}
		r.frameDone <- job // has room for all that are with the workers
	}
}

func (r *Robot) decodeFrame(job *frameJob, lenses rectifiers) {
	img, err := decodeImage(job.msg)
	if err != nil {
		job.cause, job.detail = CauseDecodeError, err.Error()
		return
	}
	if img.Width == 0 || img.Height == 0 {
		job.cause, job.detail = CauseZeroSize, fmt.Sprintf("the picture is %d×%d pixels", img.Width, img.Height)
		return
	}
	lens, err := lenses.get(job.camera, img.Width, img.Height)
	if err != nil {
		job.cause, job.detail = CauseInfoMismatch, err.Error()
		return
	}
	if job.img, err = lens.Rectify(img); err != nil {
		job.cause, job.detail = CauseInfoMismatch, err.Error()
		return
	}
	img = job.img
	job.frame = window.Frame{Seq: job.seq, Stamp: job.stamp, FrameID: job.frameID, Pose: job.pose, K: lens.K(), Width: img.Width, Height: img.Height}
	job.measure(lens)
	if w := r.cfg.ThumbWidth; w > 0 {
		if w >= img.Width {
			job.frame.Thumb = img
			return
		}
		if job.frame.Thumb, err = img.Resize(w, max(1, (img.Height*w+img.Width/2)/img.Width)); err != nil {
			job.cause, job.detail = CauseDecodeError, err.Error()
		}
	}
}

func decodeImage(m msgs.Message) (*imaging.RGB, error) {
	switch m := m.(type) {
	case *msgs.Image:
		return imaging.Decode(m)
	case *msgs.CompressedImage:
		return imaging.DecodeCompressed(m)
	}
	return nil, fmt.Errorf("the message is %T, expected an image", m)
}

// rectifiers keeps the maps of the few cameras and sizes that are in use.
type rectifiers map[lensKey]*calibration.Rectifier

type lensKey struct {
	camera        *camera
	width, height int
}

// maxLenses bounds them; a camera that zooms makes new ones all the time.
const maxLenses = 4

func (l rectifiers) get(c *camera, width, height int) (*calibration.Rectifier, error) {
	key := lensKey{c, width, height}
	if lens, ok := l[key]; ok {
		return lens, nil
	}
	lens, err := calibration.NewRectifier(c.intrinsics, width, height)
	if err != nil {
		return nil, err
	}
	if len(l) >= maxLenses {
		clear(l)
	}
	l[key] = lens
	return lens, nil
}
