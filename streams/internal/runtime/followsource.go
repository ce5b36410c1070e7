package runtime

import (
	"context"
	"encoding/binary"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// What copies know of their owners: how far these have come in source topics that serve as changelogs, and which windows
// they have let go of.

const (
	// ownersEvery is how often at most the owners' positions are asked for.
	ownersEvery = 100 * time.Millisecond
	// heldMost bounds the records of one partition that wait for the owner to process them.
	heldMost = 20_000
)

// hold keeps records of a source topic until its owner has processed them: the copy has the rows that the owner has, and is
// never ahead, which would have to be wiped when the task came here.
func (f *follower) hold(s *followedStore, recs []*kgo.Record) {
	s.held = append(s.held, recs...)
	if len(s.held) > heldMost && !s.paused {
		at := s.at()
		s.paused = true
		f.cl.PauseFetchPartitions(map[string][]int32{at.topic: {at.p}})
	}
}

// askOwners asks how far the owners are in the source topics of which records are held, and takes what they have processed.
func (f *follower) askOwners(ctx context.Context) {
	topics := f.waiting()
	if len(topics) == 0 || time.Since(f.asked) < ownersEvery {
		f.release(ctx)
		return
	}
	f.asked = time.Now()
	ask, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	at, err := f.rt.processed(ask, topics...)
	if err != nil {
		if ctx.Err() == nil {
			f.rt.cfg.Logger.Warn("copies wait for the group's offsets", "err", err)
		}
		return
	}
	f.learn(at)
	f.release(ctx)
}

// waiting are the source topics in which copies wait for their owners.
func (f *follower) waiting() []string {
	var topics []string
	for at, s := range f.logs {
		if s.fromSource && (len(s.held) > 0 || s.next < s.stable) {
			topics = append(topics, at.topic)
		}
	}
	slices.Sort(topics)
	return slices.Compact(topics)
}

// learn notes how far the owners are. A member that has just been given a task may have said less than the one before.
func (f *follower) learn(at map[tp]int64) {
	for of, next := range at {
		if s := f.logs[of]; s != nil && s.fromSource && s.lost.IsZero() {
			s.stable = max(s.stable, next)
		}
	}
}

// release writes the held records that the owners have processed.
func (f *follower) release(ctx context.Context) {
	for at, s := range f.logs {
		if !s.fromSource || len(s.held) == 0 {
			continue
		}
		n, _ := slices.BinarySearchFunc(s.held, s.stable, func(r *kgo.Record, next int64) int { return int(min(max(r.Offset-next, -1), 1)) })
		if n > 0 {
			if err := f.write(ctx, s, s.held[:n]); err != nil {
				if ctx.Err() == nil {
					f.rt.cfg.Logger.Warn("copy of state does not advance", "changelog", at.String(), "err", err)
				}
				continue // they stay, and are tried again
			}
			if s.held = slices.Delete(s.held, 0, n); len(s.held) == 0 {
				s.held = nil
			}
		}
		if s.paused && len(s.held) < heldMost/2 {
			s.paused = false
			f.cl.ResumeFetchPartitions(map[string][]int32{at.topic: {at.p}})
		}
		f.note(s.of)
	}
	f.rt.pulse()
}

// expiredHeader is on a changelog record of a window or session store whose owner has let go of windows: those that start (of
// sessions, end) up to it, in milliseconds, 8 bytes, big-endian. Copies let go of the same ones. Readers that do not know it
// lose nothing.
const expiredHeader = "leat.expired"

// expires is the header that the next record of the changelog has, if the store has let go of more since the last one.
func (s *taskStore) expires() (kgo.RecordHeader, bool) {
	e, ok := s.store.(interface{ Expired() int64 })
	if !ok {
		return kgo.RecordHeader{}, false
	}
	to := e.Expired()
	if to <= s.told {
		return kgo.RecordHeader{}, false
	}
	s.told = to
	return kgo.RecordHeader{Key: expiredHeader, Value: binary.BigEndian.AppendUint64(nil, uint64(to))}, true
}

// expiredBy is what a changelog record says of expired windows; -1: nothing.
func expiredBy(r *kgo.Record) int64 {
	for _, h := range r.Headers {
		if h.Key == expiredHeader && len(h.Value) == 8 {
			return int64(binary.BigEndian.Uint64(h.Value))
		}
	}
	return -1
}
