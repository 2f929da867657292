package robot

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/stllm/stllm/msgs"
	"github.com/stllm/stllm/node/params"
	"github.com/stllm/stllm/node/stllm"
	"github.com/stllm/stllm/node/window"
)

// What ends a question before its answer. The causes of its context.
var (
	errShutdown  = errors.New("the node is shutting down")
	errDeadline  = errors.New("the question's deadline has passed")
	errCancelled = errors.New("the asker took the question back")
)

// grace is how long a model may take to give up an answer before the asker is told without it.
const grace = 2 * time.Second

// Chunk is a piece of an answer while it is made.
type Chunk = msgs.AnswerChunk

// Options of one question, besides what the message has.
type Options struct {
	Plan       bool // the text is a goal; the answer is a plan
	NoDeadline bool // not even the default one; for replay, which must not depend on speed
	Told       bool // who asks tells people what came of it: the log has it among its details only
	Ablate     stllm.Ablation
	// Emit is called for every piece, whatever the stream rate, by one goroutine at a time, and must return soon. It is not
	// called after Ask has returned.
	Emit func(Chunk)
}

// Outcome is an answer with what it was made from.
type Outcome struct {
	Answer *msgs.Answer   // never nil; ErrorCode says whether there is a text
	Stamp  int64          // ns, the moment that the question was about
	Frames []window.Frame // that the model saw
	Seen   []window.Frame // all of the window at that moment
	Map    *Map           // nil when there was none
}

// question is a question on its way to an answer. It belongs to the state goroutine but while it is running, when it
// belongs to the answer worker.
type question struct {
	msg     msgs.Question
	options Options
	task    stllm.Task
	ctx     context.Context
	cancel  context.CancelCauseFunc
	stop    context.CancelFunc // of the deadline's timer, nil without one
	unwake  func() bool
	asked   time.Time
	ended   time.Time // when ctx was seen to have ended while running
	stamp   int64
	needs   struct{ frames, maps uint64 } // that have to be encoded before
	ready   bool                          // outcome holds the snapshot and request what the model gets
	stage   stllm.Stage
	request stllm.Request
	model   stllm.Model
	outcome Outcome
	waited  time.Duration
	stream  *stream
	reply   chan *Outcome // nil for questions from topics
	replied bool
	result  stllm.Answer
	err     error
}

// Ask answers a question. It always returns an outcome: what goes wrong is an answer with an error code. The end of ctx
// takes the question back.
func (r *Robot) Ask(ctx context.Context, m msgs.Question, options Options) *Outcome {
	q := &question{msg: m, options: options, reply: make(chan *Outcome, 1), asked: time.Now(), stream: &stream{}}
	q.ctx, q.cancel = context.WithCancelCause(context.WithoutCancel(ctx))
	unlink := context.AfterFunc(ctx, func() { q.cancel(errCancelled) })
	defer unlink()
	refused := func(err error) *Outcome {
		a := r.emptyAnswer(q)
		a.ErrorCode, a.ErrorMessage, a.FinishReason = msgs.AnswerErrorShuttingDown, "The node is shutting down.", string(stllm.FinishError)
		if !errors.Is(err, errShutdown) {
			a.ErrorCode, a.ErrorMessage, a.FinishReason = msgs.AnswerErrorCancelled, "The question was taken back.", string(stllm.FinishCancelled)
		}
		return &Outcome{Answer: a}
	}
	if err := request(q.ctx, r, r.chAsk, q); err != nil {
		return refused(err)
	}
	o, err := wait(context.Background(), r, q.reply) // the state goroutine answers every question that it has taken
	if err != nil {
		return refused(err)
	}
	return o
}

// topicQuestion is a question from a topic: its answer goes to topics, too.
func (r *Robot) topicQuestion(in input) {
	q := &question{asked: time.Now(), stream: &stream{}}
	switch m := in.msg.(type) {
	case *msgs.Question:
		q.msg = *m
	case *msgs.String:
		q.msg.Text = m.Data
	}
	q.ctx, q.cancel = context.WithCancelCause(context.Background())
	r.ask(q)
}

// tasks are the values of Question.task.
var tasks = map[string]bool{
	string(stllm.TaskFree): true, string(stllm.TaskDirection): true, string(stllm.TaskDistance): true,
	string(stllm.TaskFindItem): true, string(stllm.TaskAffordance): true, string(stllm.TaskPlanning): true,
}

const (
	maxChoices = 1000
	maxID      = 256 // bytes
)

// ask takes a question into the queue or refuses it.
func (r *Robot) ask(q *question) {
	r.s.stats.asked++
	p := &r.s.params
	clock := r.cfg.Transport.Clock()
	if q.msg.ID == "" {
		r.s.nextID++
		q.msg.ID = "q" + strconv.FormatUint(r.s.nextID, 10)
	}
	now := clock.Now()
	if q.stamp = q.msg.Header.Stamp.UnixNano(); q.stamp <= 0 || q.stamp > now {
		q.stamp = now
	}
	q.task = stllm.Task(q.msg.Task)
	if q.options.Plan {
		q.task = stllm.TaskPlanning
	}
	code, sentence := r.check(q)
	if code != msgs.AnswerErrorNone {
		r.refuse(q, code, sentence)
		return
	}
	if len(r.s.queue) >= int(p.QuestionQueue) {
		r.refuse(q, msgs.AnswerErrorQueueFull, fmt.Sprintf("%d questions are waiting already; ask again later, or raise question_queue.", len(r.s.queue)))
		return
	}
	deadline := params.Seconds(p.QuestionDeadline)
	if q.msg.Deadline > 0 {
		deadline = params.Seconds(q.msg.Deadline)
	}
	if deadline > 0 && !q.options.NoDeadline {
		q.ctx, q.stop = context.WithDeadlineCause(q.ctx, q.asked.Add(deadline), errDeadline)
	}
	q.unwake = r.wakeAtEnd(q.ctx)
	q.needs.frames = r.s.submitted
	if m := &r.s.maps; m.current == nil || r.cfg.Lossless {
		if m.working_ != nil {
			q.needs.maps = m.working_.seq
		}
		if m.next != nil {
			q.needs.maps = m.next.seq
		}
	}
	r.s.queue = append(r.s.queue, q)
	r.emit(q, stllm.Progress{Stage: stllm.StageQueued})
}

// check finds what is wrong with a question as such, or with the robot as a whole.
func (r *Robot) check(q *question) (code uint16, sentence string) {
	p, text := &r.s.params, q.msg.Text
	switch {
	case len(text) > int(p.MaxQuestionBytes):
		sentence = fmt.Sprintf("The question has %d bytes, max_question_bytes is %d.", len(text), p.MaxQuestionBytes)
		q.msg.Text = "" // not repeated in the answer
		return msgs.AnswerErrorQuestionTooLong, sentence
	case !utf8.ValidString(text):
		q.msg.Text = ""
		return msgs.AnswerErrorQuestionInvalid, "The question is not valid UTF-8."
	case blank(text):
		return msgs.AnswerErrorQuestionEmpty, "The question has no text."
	case len(q.msg.ID) > maxID || !utf8.ValidString(q.msg.ID):
		q.msg.ID = ""
		return msgs.AnswerErrorQuestionInvalid, fmt.Sprintf("The question's id is not UTF-8 of at most %d bytes.", maxID)
	case !tasks[string(q.task)]:
		unknown := q.task
		q.task = stllm.TaskFree
		return msgs.AnswerErrorQuestionInvalid, fmt.Sprintf("The task %.64q is not known; leave it empty, or use relative_direction, relative_distance, find_my_item, furniture_affordance or action_planning.", string(unknown))
	case math.IsNaN(q.msg.Deadline) || q.msg.Deadline < 0 || q.msg.Deadline > 86400:
		return msgs.AnswerErrorQuestionInvalid, fmt.Sprintf("The deadline is %v s, expected 0 to 86400.", q.msg.Deadline)
	case len(q.msg.Choices) > maxChoices:
		return msgs.AnswerErrorQuestionInvalid, fmt.Sprintf("There are %d choices, expected at most %d.", len(q.msg.Choices), maxChoices)
	}
	for i, c := range q.msg.Choices {
		if blank(c) || !utf8.ValidString(c) || len(c) > int(p.MaxQuestionBytes) {
			return msgs.AnswerErrorQuestionInvalid, fmt.Sprintf("Choice %d is empty, too long or not UTF-8.", i+1)
		}
	}
	switch {
	case !r.s.active:
		return msgs.AnswerErrorModelNotReady, inactiveSentence
	case r.s.modelErr != nil:
		return msgs.AnswerErrorModelNotReady, "The model could not be loaded: " + r.s.modelErr.Error()
	case r.s.model == nil:
		return msgs.AnswerErrorModelNotReady, "The model is still being loaded; ask again in a moment."
	}
	return msgs.AnswerErrorNone, ""
}

func blank(s string) bool {
	for _, c := range s {
		if c > ' ' && c != 0x7f && c != 0xa0 && c != 0x3000 {
			return false
		}
	}
	return true
}

// advanceQuestions takes snapshots for questions whose data is there, and starts the oldest one.
func (r *Robot) advanceQuestions() {
	left := r.s.queue[:0]
	for _, q := range r.s.queue {
		if q.ctx.Err() != nil {
			r.refuseEnded(q)
			continue
		}
		if !q.ready {
			switch {
			case r.s.encoded < q.needs.frames:
				r.stage(q, stllm.StageFrames)
			case r.s.maps.done < q.needs.maps:
				r.stage(q, stllm.StageMap)
			default:
				if code, sentence := r.snapshot(q); code != msgs.AnswerErrorNone {
					r.refuse(q, code, sentence)
					continue
				}
			}
		}
		left = append(left, q)
	}
	clear(r.s.queue[len(left):])
	r.s.queue = left
	if q := r.s.running; q != nil && !q.replied && q.ctx.Err() != nil {
		if q.ended.IsZero() {
			q.ended = time.Now()
		} else if time.Since(q.ended) >= grace { // the model does not give up
			q.replied = true
			// The worker still owns the rest of q.
			r.refuseEnded(&question{msg: q.msg, options: q.options, task: q.task, ctx: q.ctx, cancel: q.cancel, stop: q.stop, asked: q.asked,
				stamp: q.stamp, outcome: q.outcome, stream: q.stream, reply: q.reply})
		}
	}
	if len(r.s.queue) > 0 && r.s.running == nil && r.s.queue[0].ready {
		q := r.s.queue[0]
		r.s.queue[0] = nil
		r.s.queue = r.s.queue[1:]
		r.s.running = q
		q.waited = time.Since(q.asked)
		r.askJobs <- q // has room: one at a time
	}
}

func (r *Robot) stage(q *question, s stllm.Stage) {
	if q.stage != s {
		r.emit(q, stllm.Progress{Stage: s})
	}
}

// refuseEnded answers a question whose context has ended.
func (r *Robot) refuseEnded(q *question) {
	code, sentence := endCode(context.Cause(q.ctx), time.Since(q.asked))
	r.refuse(q, code, sentence)
}

func endCode(cause error, after time.Duration) (uint16, string) {
	switch {
	case errors.Is(cause, errShutdown):
		return msgs.AnswerErrorShuttingDown, "The node is shutting down."
	case errors.Is(cause, errInactive):
		return msgs.AnswerErrorModelNotReady, inactiveSentence
	case errors.Is(cause, errDeadline):
		return msgs.AnswerErrorDeadlineExceeded, fmt.Sprintf("The deadline passed after %.1f s; give the question more time, or ask when fewer are waiting.", after.Seconds())
	}
	return msgs.AnswerErrorCancelled, "The question was taken back."
}
