package service

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

// Limiter gives permits evenly in time. It is safe for use by several goroutines.
type Limiter struct {
	every time.Duration
	mu    sync.Mutex
	next  time.Time
}

// NewLimiter allows so many requests a minute; 0 or less: any number.
func NewLimiter(perMinute int) *Limiter {
	l := &Limiter{}
	if perMinute > 0 {
		l.every = time.Minute / time.Duration(perMinute)
	}
	return l
}

// Wait returns when the next request may go, or with the context's error.
func (l *Limiter) Wait(ctx context.Context) error {
	if l.every == 0 {
		return ctx.Err()
	}
	l.mu.Lock()
	at := l.next
	if now := time.Now(); at.Before(now) {
		at = now
	}
	l.next = at.Add(l.every)
	l.mu.Unlock()
	return sleep(ctx, time.Until(at))
}

// maxPause is where a pause stops doubling.
const maxPause = time.Minute

// Backoff is the pause before the next try, doubled after each.
type Backoff time.Duration

// Wait pauses after a try that failed with err (nil: the reply was of no use), for as long as a server that refused asks for
// at least.
func (b *Backoff) Wait(ctx context.Context, err error) error {
	pause := time.Duration(*b)
	*b = Backoff(min(2*pause, maxPause))
	wait := pause + rand.N(pause/4+1) // workers that failed together do not come back together
	var status *StatusError
	if errors.As(err, &status) {
		wait = max(wait, status.RetryAfter)
	}
	return sleep(ctx, wait)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
