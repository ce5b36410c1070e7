package runtime

import (
	"context"
	"fmt"
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
	err := session.Retry(ctx, r.cfg.Logger, "the topics of the restored tasks", func() error {
		return r.topics.load(ctx, append(slices.Clone(inputs), changelogs...)...)
	})
	if err == nil {
		b, err = askBounds(ctx, r.cfg, r.topics.admin, inputs, changelogs)
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
	at := tp{s.changelog, j.task.id.Partition}
	end := b.end[at]
	if s.fromSource {
		end = b.committed[at].Offset // 0 if there is none: nothing to restore
	}
	if err := r.position(s, j.task.id, b.start[at], end); err != nil {
		return nil, err
	}
	if s.next >= end {
		return nil, nil
	}
	log.Info("restoring", "changelog", at.String(), "from", s.next, "to", end)
	return &replay{store: s, task: j.task.id.String(), of: j.task.progress, at: at, next: s.next, end: end}, nil
}

// position finds out from where a store has to be brought forward through its changelog, which begins at start and ends at
// end, and wipes what cannot be.
func (r *restorer) position(s *taskStore, id engine.TaskID, start, end int64) error {
	info, _ := r.topics.get(s.changelog)
	sh := s.store.Shard()
	pos, has := sh.Position()
	from, why := beginAt(pos, has, info.id, start, end, time.Now(), info.tombstonesKept)
	if why != "" {
		r.cfg.Logger.Warn("store is rebuilt from its changelog: "+why, "task", id.String(), "store", s.store.Name(),
			"changelog", tp{s.changelog, id.Partition}.String(), "position", pos.Offset, "log_start", start, "log_end", end)
		if err := sh.Wipe(); err != nil {
			return err
		}
	}
	s.topicID, s.next = info.id, max(from, 0)
	return nil
}

// beginAt says at which changelog offset to begin. why is not empty if the data cannot be brought forward from where it
// stands, and has to be wiped.
func beginAt(pos state.Position, has bool, id [16]byte, start, end int64, now time.Time, kept time.Duration) (from int64, why string) {
	switch {
	case !has:
		return start, ""
	case id != pos.TopicID && id != [16]byte{} && pos.TopicID != [16]byte{}:
		return start, "the topic was deleted and created again"
	case pos.Offset < start:
		return start, "the records after its position are gone from the log"
	case pos.Offset > end:
		return start, "its position lies above the end of the log"
	case pos.Offset < end && kept > 0 && now.Sub(pos.At) > kept-kept/10:
		return start, "it was away longer than the log keeps deletes"
	}
	return pos.Offset, ""
}
