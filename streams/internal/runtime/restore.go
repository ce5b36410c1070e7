package runtime

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/session"
)

// restorer brings the stores of tasks to where their changelog ends, beside the tasks that run.
type restorer struct {
	cfg    *Config
	topics *topics
	slots  chan struct{}  // holds one for each replay at work, which bounds their memory
	wg     sync.WaitGroup // everything that was begun
	ctx    context.Context
	cancel context.CancelFunc

	replayed *atomic.Int64 // records written into stores
}

// restoreParallel is the number of stores that are replayed at the same time; the others wait for their turn.
const restoreParallel = 4

// restoreJob is one task being restored. The worker that owns the task makes it, and waits for done before it touches the
// task again.
type restoreJob struct {
	task   *task
	ctx    context.Context
	cancel context.CancelFunc
	notify func(*restoreJob) // called once, when done is closed

	begun atomic.Bool // somebody brings the stores, or has given up to
	done  chan struct{}
	err   error // valid after done

	// Results, valid after done without err.
	bounds *bounds
}

// finish is called once, when nobody touches the task's stores any more on the job's behalf.
func (j *restoreJob) finish(err error) {
	j.err = err
	close(j.done)
	j.notify(j)
}

func newRestorer(cfg *Config, topics *topics, replayed *atomic.Int64) *restorer {
	r := &restorer{cfg: cfg, topics: topics, slots: make(chan struct{}, restoreParallel), replayed: replayed}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r
}

// close ends it. Every job must be done or canceled before.
func (r *restorer) close() {
	r.cancel()
	r.wg.Wait()
}

// restore begins jobs, which the group gave together.
func (r *restorer) restore(jobs []*restoreJob) {
	r.wg.Go(func() { r.begin(jobs) })
}

func (r *restorer) begin(jobs []*restoreJob) {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	for _, j := range jobs {
		defer context.AfterFunc(j.ctx, func() {
			if j.begun.CompareAndSwap(false, true) {
				j.finish(j.ctx.Err()) // its task is given up, and does not wait for what the others ask
			}
			for _, other := range jobs {
				if other.ctx.Err() == nil {
					return
				}
			}
			cancel()
		})()
	}
	var inputs, changelogs []string
	for _, j := range jobs {
		for _, p := range j.task.parts {
			inputs = append(inputs, p.topic)
		}
		for _, s := range j.task.stores {
			if s.changelog != "" && !s.fromSource {
				changelogs = append(changelogs, s.changelog)
			}
		}
	}
	unique := func(s []string) []string { slices.Sort(s); return slices.Compact(s) }
	inputs, changelogs = unique(inputs), unique(changelogs)
	var b *bounds
	all, began := append(slices.Clone(inputs), changelogs...), time.Now()
	err := session.Retry(ctx, r.cfg.Logger, "the topics of the restored tasks", func() error {
		if err := r.topics.load(ctx, all...); err != nil {
			return err
		}
		return r.topics.whole(all, began)
	})
	if err == nil {
		b, err = askBounds(ctx, r.cfg, r.topics, inputs, changelogs)
	}
	for _, j := range jobs {
		if !j.begun.CompareAndSwap(false, true) {
			continue
		}
		if err != nil {
			j.finish(err)
			continue
		}
		r.wg.Go(func() { j.finish(r.bring(j, b)) })
	}
}

// bring brings the stores of one task to where they belong. When it returns, nobody touches them any more.
func (r *restorer) bring(j *restoreJob, b *bounds) error {
	j.bounds = b
	j.task.learn(b)
	var replays []*replay
	for _, s := range j.task.stores {
		rp, err := r.prepare(j, s, b)
		if err != nil {
			return fmt.Errorf("restore store %q of task %s: %w", s.store.Name(), j.task.id, err)
		}
		if rp != nil {
			replays = append(replays, rp)
		}
	}
	var remaining int64
	for _, rp := range replays {
		remaining += rp.end - rp.next
	}
	j.task.progress.restoring(remaining)
	ctx, cancel := context.WithCancelCause(j.ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for _, rp := range replays {
		wg.Go(func() {
			if err := r.replay(ctx, rp); err != nil {
				cancel(fmt.Errorf("restore store %q of task %s from %s: %w", rp.store.store.Name(), rp.task, rp.at, err))
			}
		})
	}
	wg.Wait()
	j.task.ended.Store(time.Now().UnixNano())
	return context.Cause(ctx)
}

// prepare returns the replay that the store needs, or nil. It wipes what cannot be brought forward.
func (r *restorer) prepare(j *restoreJob, s *taskStore, b *bounds) (*replay, error) {
	log := r.cfg.Logger.With("task", j.task.id.String(), "store", s.store.Name())
	sh := s.store.Shard()
	pos, has := sh.Position()
	if err := r.cfg.DB.Err(); err != nil {
		return nil, err
	}
	if s.changelog == "" {
		if has && !j.task.stands(pos.Inputs) {
			log.Warn("store is emptied: it has no changelog, and does not stand where the group's offsets do")
			return nil, sh.Wipe()
		}
		return nil, nil
	}
	asked := time.Now()
	at := tp{s.changelog, j.task.id.Partition}
	end := b.end[at]
	if s.fromSource {
		end = b.processed(at)
	}
	if err := r.position(s, j.task.id, b.start[at], end); err != nil {
		return nil, err
	}
	if has && s.fromSource && s.next == pos.Offset {
		r.missed(log, s, pos, end, b.end[at])
	}
	if s.next >= end {
		return nil, nil
	}
	log.Info("restoring", "changelog", at.String(), "from", s.next, "to", end)
	return &replay{store: s, task: j.task.id.String(), of: j.task.progress, at: at, next: s.next, end: end, since: s.since, asked: asked}, nil
}

// missed says that a table of a source topic, which has been processed up to next and ends at end, may have rows that were deleted
// while its application was away: the deletes are gone from the log. Nothing tells these rows from others, but reading the topic from
// its start; and to take them out, and out of what was made of them, once, there would have to be records that say so.
func (r *restorer) missed(log *slog.Logger, s *taskStore, pos state.Position, next, end int64) {
	info, _ := r.topics.get(s.changelog)
	away, kept := time.Since(pos.At), info.tombstonesKept
	if next >= end || kept <= 0 || away <= kept-kept/10 || info.policy == "delete" {
		return
	}
	log.Warn("the application was away for longer than the topic of its table keeps deletes: rows that were deleted meanwhile may have stayed",
		"topic", s.changelog, "away", away.Round(time.Second), "kept", kept,
		"next", "if rows are deleted from this topic: leat app reset "+r.cfg.AppID+" computes the table, and what is made of it, again; a larger delete.retention.ms of the topic keeps it from happening")
}

// position finds out from where a store has to be brought forward through its changelog, which begins at start and ends at
// end, and wipes what cannot be.
func (r *restorer) position(s *taskStore, id engine.TaskID, start, end int64) error {
	info, _ := r.topics.get(s.changelog)
	sh := s.store.Shard()
	pos, has := sh.Position()
	now := time.Now()
	from, why := beginAt(pos, has, info.id, start, end, now, info.tombstonesKept)
	s.since = now
	if has && why == "" {
		s.since = pos.At
	} else if start > 0 && info.policy == "compact" && !s.fromSource {
		r.cfg.Logger.Error("the changelog has lost its beginning, which nobody deletes of a compacted topic: rows that were written there, and not since, are missing from the store",
			"task", id.String(), "store", s.store.Name(), "changelog", tp{s.changelog, id.Partition}.String(), "log_start", start,
			"next", "have the task run where its state is on disk, or compute the state again from the inputs: leat app reset "+r.cfg.AppID)
	}
	if why != "" {
		level := slog.LevelWarn
		if why == lostEnd || why == lostStart {
			level = slog.LevelError
		}
		r.cfg.Logger.Log(context.Background(), level, "store is rebuilt from its changelog: "+why, "task", id.String(), "store", s.store.Name(),
			"changelog", tp{s.changelog, id.Partition}.String(), "position", pos.Offset, "log_start", start, "log_end", end)
		if err := sh.Wipe(); err != nil {
			return err
		}
	}
	s.topicID, s.next = info.id, max(from, 0)
	return nil
}

const lostStart = "the records after its position are gone from the log, and what they and those before them said with them"

const lostEnd = "its position lies above the end of the log: the brokers have lost records that they had acknowledged"

// beginAt says at which changelog offset to begin. why is not empty if the data cannot be brought forward from where it
// stands, and has to be wiped.
func beginAt(pos state.Position, has bool, id [16]byte, start, end int64, now time.Time, kept time.Duration) (from int64, why string) {
	switch {
	case !has:
		return start, ""
	case id != pos.TopicID && id != [16]byte{} && pos.TopicID != [16]byte{}:
		return start, "the topic was deleted and created again"
	case pos.Offset+1 == start && start == end:
		// The log is empty, by retention say. All that is gone is the marker of the last transaction, which a position does not
		// count: had there been a record, a marker would be behind it.
		return start, ""
	case pos.Offset < start:
		return start, lostStart
	case pos.Offset > end:
		return start, lostEnd
	case pos.Offset < end && kept > 0 && now.Sub(pos.At) > kept-kept/10:
		return start, "it was away longer than the log keeps deletes"
	case pos.Offset < end && kept > 0 && pos.At.Sub(now) > kept/10:
		return start, "it is from the future, by a clock that was put back since: nobody knows how long it was away"
	}
	return pos.Offset, ""
}
