package runtime

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
)

// globals keeps the global tables of this instance: each a task of the engine over all partitions of its topic, outside of
// the group and of any transaction. Runtime.Run's goroutine loads them before there are workers; after that follow's has
// them alone. Tasks of workers read what is applied to the database.
type globals struct {
	rt     *Runtime
	tables []*globalTable
}

// globalTable is one of them.
type globalTable struct {
	topic   string
	id      [16]byte
	task    *engine.Task
	store   state.Store
	next    []int64   // by partition: below it everything was enqueued
	moved   bool      // next is ahead of the store's position
	since   time.Time // while it is loaded: how old what it has is; zero: it has all that there was
	pending int       // records since the last commit
	changed []int     // slots of the rows that the flush has written
}

// globalCommit is how many records may be processed between two commits while a table is loaded.
const globalCommit = 100_000

// newGlobals returns nil if the plan has no global tables.
func newGlobals(rt *Runtime) *globals {
	for _, sub := range rt.cfg.Plan.Subs {
		if sub.Global {
			return &globals{rt: rt}
		}
	}
	return nil
}

// open opens the tables and reads their topics to the end.
func (g *globals) open(ctx context.Context) error {
	cfg := &g.rt.cfg
	for _, sub := range cfg.Plan.Subs {
		if !sub.Global {
			continue
		}
		env := &engine.Env{AppID: cfg.AppID, DB: cfg.DB, Now: time.Now, Context: ctx, OnError: cfg.OnError, Wrap: cfg.Wrap, Logger: cfg.Logger,
			Globals: &g.rt.changes, Tracer: cfg.Tracer, Sleep: func(d time.Duration) error { return sleep(ctx, d) }}
		task, err := engine.NewTask(cfg.Plan, sub, 0, env)
		if err != nil {
			return err
		}
		t := &globalTable{topic: sub.Sources[0].Topics[0].In(cfg.AppID), task: task, store: task.Stores()[0]}
		g.tables = append(g.tables, t)
		if err := task.Start(); err != nil {
			return err
		}
		if err := g.load(ctx, t); err != nil {
			return fmt.Errorf("load the global table %q from %s: %w", t.store.Name(), t.topic, err)
		}
		g.rt.showGlobal(t.store.Shard())
	}
	return nil
}

// close ends the tables.
func (g *globals) close() error {
	if g == nil {
		return nil
	}
	var errs []error
	for _, t := range g.tables {
		errs = append(errs, t.task.Close(), t.store.Close())
	}
	return errors.Join(errs...)
}

// load reads a topic from where the table stands to its end.
func (g *globals) load(ctx context.Context, t *globalTable) error {
	began, topics := time.Now(), g.rt.topics
	b := &bounds{start: map[tp]int64{}, end: map[tp]int64{}}
	admin := topics.admin
	if err := listOffsets(ctx, &g.rt.cfg, b.start, admin.ListStartOffsets, t.topic); err != nil {
		return err
	}
	if err := listOffsets(ctx, &g.rt.cfg, b.end, admin.ListCommittedOffsets, t.topic); err != nil {
		return err
	}
	info, _ := topics.get(t.topic)
	t.id = info.id
	if err := g.stand(t, info, b); err != nil {
		return err
	}
	n, err := g.readAll(ctx, t, b)
	if err == nil {
		t.since = time.Time{}
		err = g.commit(t)
	}
	if err != nil {
		return err
	}
	g.rt.cfg.Logger.Info("global table loaded", "store", t.store.Name(), "topic", t.topic, "records", n, "took", time.Since(began).Round(time.Millisecond))
	return nil
}

// stand finds where the table stands, and empties it if it cannot be brought forward from there.
func (g *globals) stand(t *globalTable, info topicInfo, b *bounds) error {
	pos, has := t.store.Shard().Position()
	if err := g.rt.cfg.DB.Err(); err != nil {
		return err
	}
	at := offsetsOf(pos)
	if t.since = time.Now(); has {
		t.since = pos.At
	}
	t.next = make([]int64, info.partitions)
	for p := range info.partitions {
		start, end := b.start[tp{t.topic, p}], b.end[tp{t.topic, p}]
		part := state.Position{TopicID: pos.TopicID, At: pos.At}
		known := has && int(p) < len(at)
		if known {
			part.Offset = at[p]
		}
		from, why := beginAt(part, known, info.id, start, end, time.Now(), info.tombstonesKept)
		if why != "" {
			g.rt.cfg.Logger.Warn("global table is loaded anew: "+why, "store", t.store.Name(), "partition", tp{t.topic, p}.String())
			return g.empty(t, b)
		}
		t.next[p] = max(from, 0)
	}
	return nil
}

// empty drops the table's rows, to begin at the start of its topic.
func (g *globals) empty(t *globalTable, b *bounds) error {
	if err := t.store.Shard().Wipe(); err != nil {
		return err
	}
	g.rt.changes.Of(t.store.Name()).AllChanged()
	t.since = time.Now()
	for p := range t.next {
		t.next[p] = b.start[tp{t.topic, int32(p)}]
	}
	return nil
}

// offsetsOf reads the offsets by partition that a table's position has.
func offsetsOf(pos state.Position) (at []int64) {
	for in := pos.Inputs; len(in) > 0; {
		v, n := binary.Varint(in)
		if n <= 0 {
			return nil
		}
		at, in = append(at, v), in[n:]
	}
	return at
}

func (t *globalTable) position() state.Position {
	pos := state.Position{TopicID: t.id, At: t.since}
	if t.since.IsZero() {
		pos.At = time.Now()
	}
	for _, next := range t.next {
		pos.Inputs = binary.AppendVarint(pos.Inputs, next)
	}
	return pos
}

// globalChunk is what was read of one partition.
type globalChunk struct {
	p    int32
	recs []*kgo.Record
	next int64
}

// readAll reads every partition to its end, restoreParallel of them side by side, and processes what comes.
func (g *globals) readAll(ctx context.Context, t *globalTable, b *bounds) (n int, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	chunks := make(chan globalChunk)
	var readers sync.WaitGroup
	for p, next := range t.next {
		at := tp{t.topic, int32(p)}
		if next >= b.end[at] {
			continue
		}
		rp := &replay{store: &taskStore{topicID: t.id}, task: "global", at: at, next: next, end: b.end[at]}
		readers.Go(func() {
			if err := g.readOne(ctx, rp, chunks); err != nil {
				cancel(err)
			}
		})
	}
	go func() { readers.Wait(); close(chunks) }()
	for c := range chunks {
		if err == nil {
			n += len(c.recs)
			g.rt.replayed.Add(int64(len(c.recs)))
			if err = g.process(t, c); err == nil && (t.pending >= globalCommit || g.rt.cfg.DB.Full()) {
				err = g.commit(t)
			}
			if err != nil {
				cancel(err)
			}
		}
	}
	return n, context.Cause(ctx)
}

// readOne hands over the records of one partition up to its end.
func (g *globals) readOne(ctx context.Context, rp *replay, chunks chan<- globalChunk) error {
	r := g.rt.restorer
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	for rp.next < rp.end {
		recs, next, err := r.fetch(ctx, rp)
		if err != nil {
			return err
		}
		rp.next = next
		select {
		case chunks <- globalChunk{rp.at.p, recs, next}:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// process takes the records of one partition into the table.
func (g *globals) process(t *globalTable, c globalChunk) error {
	for int(c.p) >= len(t.next) {
		t.next = append(t.next, 0)
	}
	t.next[c.p], t.moved = c.next, true
	t.task.Enqueue(t.topic, c.p, c.recs)
	for {
		n, err := t.task.Process(processStep)
		if err != nil {
			return fmt.Errorf("global table %q: %w", t.store.Name(), err)
		}
		if n == 0 {
			return nil
		}
		t.pending += n
	}
}

// commit makes what was processed visible, and durable together with the position.
func (g *globals) commit(t *globalTable) error {
	if !t.moved {
		return nil
	}
	slots := g.rt.changes.Of(t.store.Name())
	t.changed = t.changed[:0]
	err := t.task.Flush(func(_ state.Store, key, _ []byte, _ int64) error {
		t.changed = append(t.changed, slots.Slot(key))
		return nil
	})
	if err != nil {
		return err
	}
	b := g.rt.cfg.DB.NewBatch()
	t.task.Seal(b, func(string) state.Position { return t.position() })
	b.Apply()
	t.moved, t.pending = false, 0
	if err := g.rt.cfg.DB.Drain(); err != nil {
		return err
	}
	for _, slot := range t.changed { // only now do readers find the new rows
		slots.Changed(slot)
	}
	g.rt.pulse()
	return nil
}
