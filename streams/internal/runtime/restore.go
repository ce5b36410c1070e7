package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/session"
)

// restorer brings the stores of tasks to where their changelog ends. It reads with a client of its own, beside the tasks
// that run.
type restorer struct {
	cfg    *Config
	topics *topics
	admin  *kadm.Client
	cl     *kgo.Client
	wg     sync.WaitGroup // begin, and the writers
	done   chan struct{}  // run has ended
	chunks [restoreWriters]chan chunk
	free   chan []state.Restored
	ctx    context.Context
	cancel context.CancelFunc

	replayed *atomic.Int64 // records written into stores

	mu struct {
		sync.Mutex
		active map[tp]*replay
	}
}

// replay is one store being restored.
type replay struct {
	job     *restoreJob
	store   *taskStore
	at      tp
	end     int64
	started time.Time

	writing sync.Mutex // held while the shard is written
	count   int64      // records written; the writer's

	mu sync.Mutex // guards the following fields

	next  int64 // below it everything was read
	buf   []state.Restored
	bytes int
	last  bool      // the last chunk is with its writer
	moved time.Time // when records last came
}

// chunk is a part of a replay on its way into the shard. One writer has all chunks of a replay, so they stay in order.
type chunk struct {
	rp   *replay
	recs []state.Restored
	next int64 // where they bring the shard to
	last bool
}

const (
	restoreWriters = 2
	chunkRecords   = 512 << 10 // large chunks are written as sorted tables, and the larger the fewer of them overlap
	chunkBytes     = 64 << 20
)

// restoreJob is one task being restored. The worker that owns the task makes it, and waits for done before it touches the
// task again.
type restoreJob struct {
	task   *task
	ctx    context.Context
	cancel context.CancelCauseFunc
	notify func(*restoreJob) // called once, when done is closed

	left atomic.Int32 // stores that are not there yet
	once sync.Once
	done chan struct{}
	err  error // valid after done

	// Results, valid after done without err.
	bounds *bounds
}

func (j *restoreJob) finish(err error) {
	j.once.Do(func() {
		j.err = err
		close(j.done)
		j.notify(j)
	})
}

func newRestorer(cfg *Config, topics *topics, replayed *atomic.Int64) (*restorer, error) {
	opts := []kgo.Opt{
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()),
		kgo.FetchMaxBytes(64 << 20), kgo.FetchMaxPartitionBytes(8 << 20), kgo.FetchMaxWait(250 * time.Millisecond),
		kgo.MetadataMinAge(250 * time.Millisecond), kgo.WithLogger(session.NewLogger(cfg.Logger.With("client", "restore"))),
	}
	cl, err := kgo.NewClient(append(opts, cfg.Client...)...)
	if err != nil {
		return nil, fmt.Errorf("configure the restore client: %w", err)
	}
	r := &restorer{cfg: cfg, topics: topics, admin: topics.admin, cl: cl, replayed: replayed, done: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	r.mu.active = map[tp]*replay{}
	r.free = make(chan []state.Restored, 2*restoreWriters)
	for i := range r.chunks {
		r.chunks[i] = make(chan chunk, 1)
		r.wg.Go(func() { r.writer(r.chunks[i]) })
	}
	go r.run()
	return r, nil
}

// close ends it. Every job must be done or canceled before.
func (r *restorer) close() {
	r.cancel()
	<-r.done
	for _, c := range r.chunks {
		close(c)
	}
	r.wg.Wait()
	r.cl.Close()
}

// restore begins jobs, which the group gave together.
func (r *restorer) restore(jobs []*restoreJob) {
	r.wg.Go(func() { r.begin(jobs) })
}

func (r *restorer) begin(jobs []*restoreJob) {
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	for _, j := range jobs { // all gone: nobody needs the answers
		defer context.AfterFunc(j.ctx, func() {
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
		b, err = askBounds(ctx, r.cfg, r.admin, inputs, changelogs)
	}
	for _, j := range jobs {
		if err != nil {
			j.finish(err)
			continue
		}
		r.start(j, b)
	}
}

// start decides for each store where to begin.
func (r *restorer) start(j *restoreJob, b *bounds) {
	j.bounds = b
	var replays []*replay
	for _, s := range j.task.stores {
		rp, err := r.prepare(j, s, b)
		if err != nil {
			j.finish(fmt.Errorf("restore store %q of task %s: %w", s.store.Name(), j.task.id, err))
			return
		}
		if rp != nil {
			replays = append(replays, rp)
		}
	}
	if len(replays) == 0 {
		j.finish(nil)
		return
	}
	j.left.Store(int32(len(replays)))
	add := map[string]map[int32]kgo.Offset{}
	r.mu.Lock()
	for _, rp := range replays {
		r.mu.active[rp.at] = rp
		if add[rp.at.topic] == nil {
			add[rp.at.topic] = map[int32]kgo.Offset{}
		}
		add[rp.at.topic][rp.at.p] = kgo.NewOffset().At(rp.next)
	}
	r.mu.Unlock()
	r.cl.AddConsumePartitions(add)
	// From here on the stores belong to run. The job may be canceled at any time: drop takes them back.
	context.AfterFunc(j.ctx, func() { r.drop(j) })
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
		if want := j.task.inputs(b); has && string(pos.Inputs) != string(want) {
			log.Warn("store is emptied: it has no changelog, and does not stand where the group's offsets do")
			return nil, sh.Wipe()
		}
		return nil, nil
	}
	at := tp{s.changelog, j.task.id.Partition}
	info, _ := r.topics.get(s.changelog)
	start, end := b.start[at], b.end[at]
	if s.fromSource {
		end = b.committed[at].Offset // 0 if there is none: nothing to restore
	}
	from, why := beginAt(pos, has, info.id, start, end, time.Now(), info.tombstonesKept)
	if why != "" {
		log.Warn("store is rebuilt from its changelog: "+why, "changelog", at.String(), "position", pos.Offset, "log_start", start, "log_end", end)
		if err := sh.Wipe(); err != nil {
			return nil, err
		}
	}
	s.topicID, s.next = info.id, max(from, 0)
	if from >= end {
		return nil, nil
	}
	log.Info("restoring", "changelog", at.String(), "from", from, "to", end)
	now := time.Now()
	return &replay{job: j, store: s, at: at, end: end, next: from, moved: now, started: now}, nil
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

// drop takes the stores of a canceled job back.
func (r *restorer) drop(j *restoreJob) {
	gone := map[string][]int32{}
	r.mu.Lock()
	var replays []*replay
	for at, rp := range r.mu.active {
		if rp.job == j {
			delete(r.mu.active, at)
			gone[at.topic] = append(gone[at.topic], at.p)
			replays = append(replays, rp)
		}
	}
	r.mu.Unlock()
	for _, rp := range replays { // wait until the shard is not being written; it will not be again
		rp.writing.Lock()
		rp.writing.Unlock() //nolint:staticcheck // an empty critical section is the point
	}
	if len(gone) > 0 {
		r.cl.RemoveConsumePartitions(gone)
	}
	j.finish(context.Cause(j.ctx))
}

// run reads while somebody asks for it.
func (r *restorer) run() {
	defer close(r.done)
	for r.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(r.ctx, 500*time.Millisecond)
		fetches := r.cl.PollRecords(ctx, 100_000)
		cancel()
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			at := tp{p.Topic, p.Partition}
			r.mu.Lock()
			rp := r.mu.active[at]
			r.mu.Unlock()
			if rp == nil {
				return
			}
			if err := p.Err; err != nil && !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled) {
				r.failed(rp, err)
				return
			}
			if len(p.Records) > 0 {
				r.take(rp, p.Records)
			}
		})
		r.nudge()
	}
}

// take writes records of one changelog.
func (r *restorer) take(rp *replay, recs []*kgo.Record) {
	rp.mu.Lock()
	defer rp.mu.Unlock()
	if rp.job.ctx.Err() != nil || rp.last {
		return
	}
	rp.moved = time.Now()
	for _, rec := range recs {
		if rec.Offset >= rp.end && rp.store.fromSource {
			break // what comes now has not been processed
		}
		rp.next = rec.Offset + 1
		if rec.Attrs.IsControl() || rec.Key == nil {
			continue
		}
		rp.buf = append(rp.buf, state.Restored{Key: rec.Key, Value: rec.Value, Time: rec.Timestamp.UnixMilli()})
		rp.bytes += len(rec.Key) + len(rec.Value)
	}
	if last := recs[len(recs)-1]; rp.store.fromSource && last.Offset+1 >= rp.end {
		rp.next = rp.end
	}
	if there := rp.next >= rp.end; there || len(rp.buf) >= chunkRecords || rp.bytes >= chunkBytes {
		r.hand(rp, there)
	}
}

// hand gives what is buffered to the writer. rp.mu is held; it is let go while the writer is waited for.
func (r *restorer) hand(rp *replay, last bool) {
	c := chunk{rp: rp, recs: rp.buf, next: rp.next, last: last}
	rp.buf, rp.bytes, rp.last = nil, 0, last
	if !last {
		select {
		case rp.buf = <-r.free:
		default:
		}
	}
	rp.mu.Unlock()
	defer rp.mu.Lock()
	select {
	case r.chunks[int(rp.at.p)%restoreWriters] <- c:
	case <-r.ctx.Done():
	}
}

// writer writes chunks into shards until there are no more.
func (r *restorer) writer(chunks <-chan chunk) {
	for c := range chunks {
		c.rp.writing.Lock()
		if c.rp.job.ctx.Err() == nil {
			r.write(c)
		}
		c.rp.writing.Unlock()
		clear(c.recs)
		select {
		case r.free <- c.recs[:0]:
		default:
		}
	}
}

// write puts a chunk into its shard. rp.writing is held.
func (r *restorer) write(c chunk) {
	rp, s := c.rp, c.rp.store
	s.next = c.next
	err := s.store.Shard().Restore(c.recs, state.Position{TopicID: s.topicID, Offset: c.next, At: time.Now()})
	if err != nil {
		r.end(rp, err)
		return
	}
	rp.count += int64(len(c.recs))
	r.replayed.Add(int64(len(c.recs)))
	if c.last {
		r.cfg.Logger.LogAttrs(r.ctx, slog.LevelInfo, "restored", slog.String("task", rp.job.task.id.String()), slog.String("store", s.store.Name()),
			slog.Int64("records", rp.count), slog.Duration("took", time.Since(rp.started).Round(time.Millisecond)))
		r.end(rp, nil)
	}
}

// end takes one store off the list; the last one of a job finishes it, and so does an error.
func (r *restorer) end(rp *replay, err error) {
	r.mu.Lock()
	mine := r.mu.active[rp.at] == rp
	if mine {
		delete(r.mu.active, rp.at)
	}
	r.mu.Unlock()
	if !mine {
		return
	}
	r.cl.RemoveConsumePartitions(map[string][]int32{rp.at.topic: {rp.at.p}})
	if err != nil { // drop takes the other stores back, then finishes
		rp.job.cancel(fmt.Errorf("restore store %q of task %s from %s: %w", rp.store.store.Name(), rp.job.task.id, rp.at, err))
		return
	}
	if rp.job.left.Add(-1) == 0 {
		rp.job.finish(nil)
	}
}

// failed is for an error of reading. Where the log was cut while we read, the store begins again.
func (r *restorer) failed(rp *replay, err error) {
	err = session.Wrap("read changelog", err)
	if errors.Is(err, kerr.OffsetOutOfRange) {
		r.cfg.Logger.Warn("store is rebuilt from its changelog: the log was cut while it was read", "task", rp.job.task.id.String(), "changelog", rp.at.String())
		rp.writing.Lock()
		if werr := rp.store.store.Shard().Wipe(); werr != nil {
			err = werr
		}
		rp.writing.Unlock()
	}
	r.end(rp, err)
}

// nudge looks after stores for which nothing comes. What lies between position and end may be gone by compaction, or
// belong to an open transaction; the last stable offset tells.
func (r *restorer) nudge() {
	const quiet, say = 2 * time.Second, 10 * time.Second
	var stuck []*replay
	r.mu.Lock()
	for _, rp := range r.mu.active {
		stuck = append(stuck, rp)
	}
	r.mu.Unlock()
	for _, rp := range stuck {
		rp.mu.Lock()
		still := time.Since(rp.moved)
		rp.mu.Unlock()
		if still < quiet {
			continue
		}
		ctx, cancel := context.WithTimeout(r.ctx, quiet)
		l, err := r.admin.ListCommittedOffsets(ctx, rp.at.topic)
		cancel()
		o, ok := l.Lookup(rp.at.topic, rp.at.p)
		if err != nil || !ok || o.Err != nil {
			continue
		}
		rp.mu.Lock()
		switch {
		case time.Since(rp.moved) < quiet || rp.job.ctx.Err() != nil || rp.last:
		case o.Offset >= rp.end:
			rp.next = rp.end
			r.hand(rp, true)
		case still > say:
			rp.moved = time.Now()
			r.cfg.Logger.Warn("restore waits for an open transaction on the changelog; it ends by itself within its timeout",
				"changelog", rp.at.String(), "stable_to", o.Offset, "needed", rp.end)
		}
		rp.mu.Unlock()
	}
}
