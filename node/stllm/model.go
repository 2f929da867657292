// Package stllm is the Spatio-Temporal LLM (arXiv 2507.05258): it turns posed frames, a map and a question into an answer.
//
// The work is split by what can be reused: a frame is encoded once when it arrives, a map once per content, and a question
// pays only for the aligner, the prefill and the decoding.
package stllm

import (
	"context"
	"time"

	"github.com/stllm/stllm/node/geometry"
	"github.com/stllm/stllm/node/imaging"
	"github.com/stllm/stllm/node/scene"
)

// Model answers questions about posed frames and a map. Its methods may be called from several goroutines; an
// implementation serialises what it must. It is an interface so that the robot can be tested with a slow fake.
type Model interface {
	// ID names the weights and their state, for example "nano-untrained"; it goes into every answer.
	ID() string
	// Frames is the number of frames that the model wants to see in a window (32 as published).
	Frames() int
	// EncodeFrame runs image preprocessing, the vision tower and the projector on a rectified picture.
	EncodeFrame(ctx context.Context, img *imaging.RGB) (FrameFeatures, error)
	// EncodeMap runs the voxeliser and the point encoder on a cloud given in the fixed frame.
	EncodeMap(ctx context.Context, cloud *scene.Cloud) (MapFeatures, error)
	// Answer runs the aligner and the decoder. emit, which may be nil, is called with every piece of text and at every
	// change of stage, from the calling goroutine. The answer is returned also when ctx ends: with what was said so
	// far, FinishCancelled or FinishDeadline, and a nil error.
	Answer(ctx context.Context, req Request, emit func(Progress)) (Answer, error)
	// Close frees sessions and device memory.
	Close() error
}

// DepthUser is a model that may put what it sees where a depth camera has measured it.
type DepthUser interface {
	// DepthUse tells what it wants; the zero value is nothing.
	DepthUse() DepthUse
}

// DepthUse is what a model wants to be told of measured depth: one number for each of Grid × Grid equal patches of a picture,
// no nearer than Near and no further than Far, metres along the patch's ray. A Grid of 0: no depth is used.
type DepthUse struct {
	Grid      int
	Near, Far float64
}

// DepthOf is the DepthUse of any model.
func DepthOf(m Model) DepthUse {
	if u, ok := m.(DepthUser); ok {
		return u.DepthUse()
	}
	return DepthUse{}
}

// FrameFeatures are the features of one frame: opaque to everyone but the model that made them. Bytes is what they weigh.
type FrameFeatures interface{ Bytes() int }

// MapFeatures are the features of one map: opaque to everyone but the model that made them. Voxels is their number.
type MapFeatures interface {
	Bytes() int
	Voxels() int
}

// Task is the kind of a question: one of the REA question types, or empty for free text.
type Task string

// The tasks of REA (paper section 3; names as in the released items).
const (
	TaskFree       Task = ""
	TaskDirection  Task = "relative_direction"
	TaskDistance   Task = "relative_distance"
	TaskFindItem   Task = "find_my_item"
	TaskAffordance Task = "furniture_affordance"
	TaskPlanning   Task = "action_planning"
)

// Frame is one frame of the window as the model sees it.
type Frame struct {
	Stamp    int64              // ns, the transport's clock
	Pose     geometry.Transform // optical frame (REP-103: z forward, x right, y down) to the fixed frame, metres
	K        [9]float64         // intrinsics of the rectified picture, pixels, row-major
	Width    int                // of the picture that K belongs to, pixels
	Height   int
	Features FrameFeatures
	// Depth is measured, see [DepthUse]: metres along the optical axis for each patch of the picture, row by row, 0 where nothing
	// was; nil: no depth belongs to this frame.
	Depth []float32
}

// Request is a snapshot: everything that an answer depends on. The same request with greedy decoding gives the same answer.
type Request struct {
	Question string
	Task     Task
	Frames   []Frame     // in order of time
	Seconds  float64     // length of the video that the frames were taken from; 0: from the first frame to the last
	Map      MapFeatures // never nil: a question without a map is refused before it gets here
	Decoding Decoding
	Evidence bool     // return attention weights over frames and map regions (costs time only when set)
	Choices  []string // when not empty, the answer is one of these (constrained decoding)
	Plan     bool     // constrain the answer to the plan grammar
	// MaxQuestionTokens is how long the question may be; 0: as long as the model's sequence has room for.
	MaxQuestionTokens int
	Ablate            Ablation // leave modalities out, for evaluation
}

// Ablation switches inputs off, to measure what they are worth.
// NoAligner leaves the spatial tokens out of the prompt: video and text alone, as LLaVA has it.
type Ablation struct{ NoVideo, NoPoints, NoAligner bool }

// Decoding holds the parameters of text generation, with Hugging Face names.
type Decoding struct {
	MaxNewTokens      int     // default 256
	DoSample          bool    // false: greedy (or beams)
	NumBeams          int     // 0 or 1: no beam search
	Temperature       float64 // default 1
	TopP              float64 // default 1
	TopK              int     // 0: all
	RepetitionPenalty float64 // default 1
	LengthPenalty     float64 // beams only; default 1
	Seed              uint64
}

// Stage names a step of an answer, for progress and for timing.
type Stage string

// The stages of an answer in order.
const (
	StageQueued  Stage = "queued"
	StageMap     Stage = "map"     // waiting for the map's features
	StageFrames  Stage = "frames"  // waiting for frame features
	StageAlign   Stage = "align"   // ray encodings and Q-Former
	StagePrefill Stage = "prefill" // prompt through the language model
	StageDecode  Stage = "decode"
)

// Progress is one step of an answer in the making. Delta holds whole UTF-8 runes.
type Progress struct {
	Stage  Stage
	Tokens int    // generated so far
	Delta  string // text since the last progress
}

// Finish says why an answer ended.
type Finish string

// The finish reasons.
const (
	FinishStop      Finish = "stop"      // an end token
	FinishLength    Finish = "length"    // MaxNewTokens
	FinishCancelled Finish = "cancelled" // the asker took the question back
	FinishDeadline  Finish = "deadline"  // the question's time was up
	FinishError     Finish = "error"     // see the error code
)

// Answer is what the model said and what it cost.
type Answer struct {
	Text         string
	Finish       Finish
	PromptTokens int // length of the spliced sequence
	CachedTokens int // of these, how many an earlier answer has left (the system turn) and were not run again
	NewTokens    int
	Timings      []Timing // in order of the stages
	Evidence     *Evidence
}

// Timing is the monotonic time that one stage took.
type Timing struct {
	Stage    Stage
	Duration time.Duration
}

// Evidence says where the spatial tokens looked: attention of the prefix queries, summed over heads and layers, normalised
// to 1 over frames and over map regions apart. Where the question's words become spatial tokens too (sequence_tokens of the robot
// profile), regions are where single words looked when they looked at the map last, weighed by the share of the word's attention.
type Evidence struct {
	Frames  []FrameEvidence
	Regions []RegionEvidence
}

// FrameEvidence is the weight of one frame; Index counts in Request.Frames.
type FrameEvidence struct {
	Index  int
	Weight float64
}

// RegionEvidence is a place of the map: a ball in the fixed frame, metres.
type RegionEvidence struct {
	X, Y, Z, Radius, Weight float64
}

// QuestionError is an answerer's refusal of a question itself (too long, empty, not valid UTF-8).
type QuestionError struct {
	TooLong bool
	Reason  string
}

func (e *QuestionError) Error() string { return "question: " + e.Reason }
