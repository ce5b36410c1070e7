package cluster

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// trace is what happened in a run, in order. Any goroutine may add to it.
type trace struct {
	mu struct {
		sync.Mutex
		began time.Time
		lines []string
		more  int // lines that found no room
	}
}

const maxTrace = 500

func (tr *trace) begin() {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	tr.mu.began = time.Now()
}

// note adds an event, with the virtual time since the run began.
func (tr *trace) note(format string, args ...any) {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if len(tr.mu.lines) == maxTrace {
		tr.mu.more++
		return
	}
	at := time.Since(tr.mu.began).Seconds()
	tr.mu.lines = append(tr.mu.lines, fmt.Sprintf("%9.3fs  %s", at, fmt.Sprintf(format, args...)))
}

// String gives the lines.
func (tr *trace) String() string {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	text := strings.Join(tr.mu.lines, "\n")
	if tr.mu.more > 0 {
		text += fmt.Sprintf("\n           and %d more", tr.mu.more)
	}
	return text
}

// logger notes what a part of the cluster says in its log, if it matters, until it is dead.
func (tr *trace) logger(who string, dead *atomic.Bool) *slog.Logger {
	return slog.New(&handler{to: tr, who: who, dead: dead})
}

type handler struct {
	to   *trace
	who  string
	dead *atomic.Bool
	with string
}

// Enabled implements slog.Handler.
func (h *handler) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

// Handle implements slog.Handler.
func (h *handler) Handle(_ context.Context, r slog.Record) error {
	if h.dead.Load() {
		return nil
	}
	var b strings.Builder
	r.Attrs(func(a slog.Attr) bool { fmt.Fprintf(&b, " %s", a); return true })
	h.to.note("%s: %s%s%s", h.who, r.Message, b.String(), h.with)
	return nil
}

// WithAttrs implements slog.Handler.
func (h *handler) WithAttrs(as []slog.Attr) slog.Handler {
	c := *h
	for _, a := range as {
		c.with += fmt.Sprintf(" %s", a)
	}
	return &c
}

// WithGroup implements slog.Handler; groups are left out.
func (h *handler) WithGroup(string) slog.Handler { return h }
