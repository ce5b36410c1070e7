package session

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Poll returns at most n records as soon as there are any, or none when ctx is done. From its return until AllowRebalance
// no partition changes hands. Control records are among them: they move the position and carry nothing.
//
// An error that is not Recoverable ends the application; after the other ones the session is opened again.
func (s *Session) Poll(ctx context.Context, n int) (kgo.Fetches, error) {
	if err := s.brokenErr(); err != nil {
		return nil, err
	}
	fetches := s.cl.PollRecords(ctx, n)
	if len(fetches) == 0 { // a rebalance was faster at what it was woken for, and kgo then does not count it as a poll
		s.hold()
	}
	s.held = true // also where ctx was done: kgo counts that as a poll
	return s.checked(fetches)
}

// hold holds rebalances back, after one that was let through.
func (s *Session) hold() {
	s.cl.PollRecords(s.expired, 1)
	s.held = true
}

// TryPoll is Poll without waiting for records; it still waits for a rebalance that was let through.
func (s *Session) TryPoll(n int) (kgo.Fetches, error) {
	if !s.held {
		s.hold()
	}
	if err := s.brokenErr(); err != nil {
		return nil, err
	}
	return s.checked(s.cl.PollRecords(nil, n)) //nolint:staticcheck // kgo: a nil context takes what is buffered
}

func (s *Session) checked(fetches kgo.Fetches) (kgo.Fetches, error) {
	var bad error
	fetches.EachError(func(topic string, partition int32, err error) {
		var lost *kgo.ErrDataLoss
		switch {
		case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		case errors.As(err, &lost):
			s.cfg.Logger.Error("records are gone from the input: reading goes on where the log now begins", "topic", topic, "partition", partition, "err", err)
		case bad == nil:
			op := fmt.Sprintf("read %s/%d", topic, partition)
			if topic == "" { // of no partition: kgo has not come so far
				op = "read as a member of group " + s.cfg.Group
			}
			bad = Wrap(op, err)
		}
	})
	if bad == nil {
		bad = s.brokenErr()
	}
	return fetches, bad
}

// AllowRebalance lets a waiting rebalance go on. Everything processed must be committed, and nothing be processed until
// the next Poll or TryPoll, which waits until the rebalance has told what it takes and gives.
func (s *Session) AllowRebalance() {
	s.held = false
	s.wanted.Store(false)
	s.cl.AllowRebalance()
}

// RebalanceWanted reports whether a rebalance waits for AllowRebalance: time to commit.
func (s *Session) RebalanceWanted() bool { return s.wanted.Load() }

// Changes returns what the group decided since the last call, in order. Called right after a Poll, it is complete.
func (s *Session) Changes() []Change {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.mu.changes
	s.mu.changes = nil
	return c
}

// Pause stops reading p, and drops what was read ahead of it; Resume goes on at the position.
func (s *Session) Pause(p Partitions) { s.cl.PauseFetchPartitions(p) }

// Resume goes on reading p.
func (s *Session) Resume(p Partitions) { s.cl.ResumeFetchPartitions(p) }

// The callbacks run in kgo's goroutine, in the window between AllowRebalance and the next poll. They note and do nothing.

func (s *Session) onAssigned(_ context.Context, cl *kgo.Client, p map[string][]int32) {
	if s.cfg.PauseAssigned && len(p) > 0 {
		cl.PauseFetchPartitions(p)
	}
	member, generation := cl.GroupMetadata()
	s.cfg.Logger.Debug("assigned", "group", s.cfg.Group, "member", member, "generation", generation, "partitions", p)
	defer s.changed()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.member != "" && s.mu.member != member && s.mu.broken == nil {
		// The coordinator had forgotten us, and somebody else may have had our partitions: the positions we hold are void.
		s.mu.broken = &Error{Op: "stay in group " + s.cfg.Group, Err: errForgotten}
	}
	s.mu.member = member
	if len(p) > 0 {
		s.mu.changes = append(s.mu.changes, Change{Assigned: p})
	}
}

func (s *Session) onRevoked(_ context.Context, cl *kgo.Client, p map[string][]int32) {
	if len(p) == 0 {
		return
	}
	s.cfg.Logger.Debug("revoked", "group", s.cfg.Group, "partitions", p)
	defer s.changed()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mu.changes = append(s.mu.changes, Change{Revoked: p})
}

// onLost waits for lostHook, which kgo calls next and which knows why.
func (s *Session) onLost(context.Context, *kgo.Client, map[string][]int32) {}

// lostHook hears why the membership is over.
type lostHook struct{ s *Session }

// OnGroupManageError implements kgo.HookGroupManageError. It comes in the window in which partitions change hands, too.
func (h lostHook) OnGroupManageError(err error) {
	s := h.s
	defer s.changed()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.broken == nil {
		s.mu.broken = Wrap("stay in group "+s.cfg.Group, err)
	}
}

func (s *Session) onBlocked(context.Context, *kgo.Client) {
	s.wanted.Store(true)
	s.changed()
}

func (s *Session) changed() {
	if f := s.cfg.OnChange; f != nil {
		f()
	}
}

var errForgotten = errors.New("the coordinator no longer knows this member")

func (s *Session) brokenErr() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mu.broken
}
