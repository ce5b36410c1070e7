package runtime

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/state"
)

// How copies read their changelogs. The client moves on with every batch that it hands out, whatever becomes of the batch; a
// later one that is written records a position behind both. So a store of which a batch is not written whole is lost: it is
// not read until followRetry later, and then from where its data stand, as when it was opened.

func (s *followedStore) at() tp { return tp{s.changelog, s.of.id.Partition} }

// locate finds out from where stores have to be read, and wipes what cannot be brought forward.
func (f *follower) locate(ctx context.Context, all []*followedStore) (map[string]map[int32]kgo.Offset, error) {
	var logs, sources []string
	for _, s := range all {
		if s.fromSource {
			sources = append(sources, s.changelog)
		} else {
			logs = append(logs, s.changelog)
		}
	}
	if err := f.rt.topics.load(ctx, append(slices.Clone(sources), logs...)...); err != nil {
		return nil, err
	}
	b, err := askBounds(ctx, &f.rt.cfg, f.rt.topics, sources, logs)
	if err != nil {
		return nil, err
	}
	begin := map[string]map[int32]kgo.Offset{}
	for _, s := range all {
		at := s.at()
		end := b.end[at]
		if s.fromSource {
			end = b.processed(at)
		}
		s.stable = end
		if s.anew {
			if err := s.store.Shard().Wipe(); err != nil {
				return nil, err
			}
			s.anew = false
		}
		if err := f.rt.restorer.position(s.taskStore, s.of.id, b.start[at], end); err != nil {
			return nil, err
		}
		if begin[at.topic] == nil {
			begin[at.topic] = map[int32]kgo.Offset{}
		}
		begin[at.topic][at.p] = kgo.NewOffset().At(s.next)
	}
	return begin, nil
}

// take writes what came.
func (f *follower) take(ctx context.Context, fetches kgo.Fetches) {
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		s := f.logs[tp{p.Topic, p.Partition}]
		if s == nil || !s.lost.IsZero() {
			return // dropped meanwhile
		}
		if err := f.takePartition(ctx, s, p.FetchPartition); err != nil {
			if ctx.Err() != nil {
				return // everything is closed; what is there stands where it says
			}
			f.lose(s, err)
		}
		f.note(s.of)
	})
	f.rt.pulse()
}

// takePartition writes records, and those before an error, too.
func (f *follower) takePartition(ctx context.Context, s *followedStore, p kgo.FetchPartition) error {
	if !s.fromSource && p.Err == nil {
		s.stable = p.LastStableOffset
	}
	if s.fromSource {
		f.hold(s, p.Records)
	} else if err := f.write(ctx, s, p.Records); err != nil {
		return err
	}
	var cut *kgo.ErrDataLoss
	switch {
	case p.Err == nil:
		return nil
	case errors.Is(p.Err, context.Canceled), errors.Is(p.Err, context.DeadlineExceeded):
		return nil // of the poll
	case errors.Is(p.Err, kerr.OffsetOutOfRange), errors.As(p.Err, &cut):
		f.rt.cfg.Logger.Warn("copy of state is made anew: the log was cut", "changelog", s.at().String(), "position", s.next)
		s.anew = true
	}
	return p.Err
}

// lose has a store read again later, from where its data stand.
func (f *follower) lose(s *followedStore, err error) {
	at := s.at()
	f.rt.cfg.Logger.LogAttrs(context.Background(), slog.LevelWarn, "copy of state does not advance, trying again",
		slog.String("changelog", at.String()), slog.Int64("position", s.next), slog.Any("err", err))
	f.cl.RemoveConsumePartitions(map[string][]int32{at.topic: {at.p}})
	f.unpause(s)
	s.held, s.lost = nil, time.Now()
}

// unpause is for a store that the client does not read any more: it would remember.
func (f *follower) unpause(s *followedStore) {
	if at := s.at(); s.paused {
		s.paused = false
		f.cl.ResumeFetchPartitions(map[string][]int32{at.topic: {at.p}})
	}
}

// resume has the stores read that were lost a while ago.
func (f *follower) resume(ctx context.Context) {
	for _, s := range f.logs {
		if s.lost.IsZero() || time.Since(s.lost) < followRetry {
			continue
		}
		ask, cancel := context.WithTimeout(ctx, 5*time.Second)
		begin, err := f.locate(ask, []*followedStore{s})
		cancel()
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			s.lost = time.Now()
			f.rt.cfg.Logger.Warn("copy of state does not advance, trying again", "changelog", s.at().String(), "err", err)
			continue
		}
		s.lost = time.Time{}
		f.cl.AddConsumePartitions(begin)
		f.note(s.of)
	}
}

// write writes records and what they say of expired windows. What the store cannot read is for the error policy, as in a
// restore.
func (f *follower) write(ctx context.Context, s *followedStore, recs []*kgo.Record) error {
	if len(recs) == 0 {
		return nil
	}
	rp := &replay{store: s.taskStore, task: s.of.id.String(), at: s.at()}
	rows := make([]state.Restored, 0, len(recs))
	for _, r := range recs {
		if r.Offset < s.next || r.Key == nil || r.Attrs.IsControl() {
			continue
		}
		if !s.fromSource {
			s.expired = max(s.expired, expiredBy(r))
		}
		ok, err := f.rt.restorer.admit(ctx, rp, r)
		if err != nil {
			return err
		}
		if ok {
			rows = append(rows, state.Restored{Key: r.Key, Value: r.Value, Time: r.Timestamp.UnixMilli()})
		}
	}
	sh, next := s.store.Shard(), recs[len(recs)-1].Offset+1
	if next >= s.stable { // there was nothing more when this was fetched
		s.since = time.Now()
	}
	if err := sh.Restore(rows, state.Position{TopicID: s.topicID, Offset: next, At: s.since}); err != nil {
		return err
	}
	s.next = next
	if s.expired <= 0 {
		return nil
	}
	if err := sh.Expire(s.expired); err != nil {
		return err // with the next records
	}
	s.expired = 0
	return nil
}
