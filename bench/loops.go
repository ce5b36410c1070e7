package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/twmb/franz-go/pkg/kgo"
)

// The hand-written loops: consume, transform, produce, commit, with nothing for rebalances, aborts or types. They are what
// a framework on the same client could reach at best.

// handLoop is a group consumer and producer that commits every interval.
type handLoop struct {
	cl     *kgo.Client
	ses    *kgo.GroupTransactSession // nil: at least once
	pool   sync.Pool
	failed error // set by promises, read after a flush
	mu     sync.Mutex
	out    int
}

func newHandLoop(j job) (*handLoop, error) {
	h := &handLoop{pool: sync.Pool{New: func() any { return new(kgo.Record) }}}
	opts := []kgo.Opt{kgo.SeedBrokers(j.Addr), kgo.ConsumerGroup(j.ID), kgo.ConsumeTopics(j.Topic), kgo.MaxBufferedRecords(200_000),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}
	var err error
	if !j.EOS {
		h.cl, err = kgo.NewClient(append(opts, kgo.DisableAutoCommit())...)
		return h, err
	}
	h.ses, err = kgo.NewGroupTransactSession(append(opts, kgo.TransactionalID(j.ID), kgo.RequireStableFetchOffsets(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	if err == nil {
		h.cl = h.ses.Client()
	}
	return h, err
}

func (h *handLoop) produce(ctx context.Context, topic string, k, v []byte) {
	r := h.pool.Get().(*kgo.Record)
	r.Topic, r.Key, r.Value = topic, k, v
	h.out++
	h.cl.Produce(ctx, r, h.produced)
}

func (h *handLoop) produced(r *kgo.Record, err error) {
	if err != nil {
		h.mu.Lock()
		h.failed = errors.Join(h.failed, err)
		h.mu.Unlock()
	}
	*r = kgo.Record{}
	h.pool.Put(r)
}

func (h *handLoop) commit(ctx context.Context) error {
	if h.ses != nil {
		ok, err := h.ses.End(ctx, kgo.TryCommit)
		if err == nil && !ok {
			err = errors.New("the transaction was aborted")
		}
		return err
	}
	if err := h.cl.Flush(ctx); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(h.failed, h.cl.CommitUncommittedOffsets(ctx))
}

// run handles N records. The clock starts with the first record and stops with the last, before its commit, as it does
// for a topology.
func (h *handLoop) run(ctx context.Context, j job, handle func(*kgo.Record), before, after func() error) (sample, error) {
	var m meter
	var s sample
	for got := 0; got < j.N; {
		if h.ses != nil {
			if err := h.ses.Begin(); err != nil {
				return s, err
			}
		}
		for end := time.Now().Add(j.Every); got < j.N && time.Now().Before(end); {
			fs := h.cl.PollRecords(ctx, 5000)
			if err := fs.Err(); err != nil {
				return s, err
			}
			if got == 0 && fs.NumRecords() > 0 {
				m = startMeter(j.Broker)
			}
			fs.EachRecord(handle)
			got += fs.NumRecords()
		}
		if got >= j.N {
			s = m.done(j.N)
		}
		if err := errors.Join(before(), h.commit(ctx), after()); err != nil {
			return s, err
		}
	}
	return s, nil
}

func nothing() error { return nil }

// passLoop copies Topic to Out.
func passLoop(ctx context.Context, j job) (sample, error) {
	if err := createTopics(ctx, j.Addr, partitions, j.Out); err != nil {
		return sample{}, err
	}
	h, err := newHandLoop(j)
	if err != nil {
		return sample{}, err
	}
	defer h.cl.Close()
	return h.run(ctx, j, func(r *kgo.Record) { h.produce(ctx, j.Out, r.Key, r.Value) }, nothing, nothing)
}

// newStoreLoop is a loop with an output topic, a changelog and a Pebble database, whose directory remove deletes.
func newStoreLoop(ctx context.Context, j job) (h *handLoop, db *pebble.DB, remove func(), err error) {
	if err := createTopics(ctx, j.Addr, partitions, j.Out, j.Out+"-changelog"); err != nil {
		return nil, nil, nil, err
	}
	dir, err := os.MkdirTemp("", "leat-bench-hand-")
	if err != nil {
		return nil, nil, nil, err
	}
	remove = func() { os.RemoveAll(dir) }
	if db, err = pebble.Open(dir, handPebble()); err != nil {
		remove()
		return nil, nil, nil, err
	}
	if h, err = newHandLoop(j); err != nil {
		err = errors.Join(err, db.Close())
		remove()
		return nil, nil, nil, err
	}
	return h, db, remove, nil
}

// countLoop counts by key with everything that is known to help: a write-back cache in slabs, one reused iterator with L6
// filters, dirty keys sorted before the batch, and the batch applied in the background while the next interval runs.
func countLoop(ctx context.Context, j job) (sample, error) {
	h, db, remove, err := newStoreLoop(ctx, j)
	if err != nil {
		return sample{}, err
	}
	defer remove()
	c, err := newHandCount(db)
	if err != nil {
		return sample{}, err
	}
	s, err := h.run(ctx, j, c.add,
		func() error {
			c.flush(func(k, v []byte) {
				h.produce(ctx, j.Out+"-changelog", k, v)
				h.produce(ctx, j.Out, k, v)
			})
			return nil
		}, c.apply)
	h.cl.Close()
	if err == nil {
		err = c.close(j.N)
	}
	s.Extra = float64(h.out) / float64(j.N)
	return s, errors.Join(err, db.Close())
}

func handPebble() *pebble.Options {
	o := &pebble.Options{DisableWAL: true, Logger: silent{}, FormatMajorVersion: pebble.FormatNewest, MemTableSize: 64 << 20,
		CacheSize: 256 << 20, MemTableStopWritesThreshold: 4}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	return o
}

// silent is a Pebble logger that drops everything.
type silent struct{}

func (silent) Infof(string, ...any)           {}
func (silent) Errorf(string, ...any)          {}
func (silent) Fatalf(format string, a ...any) { panic(fmt.Sprintf(format, a...)) }

type handEntry struct {
	n     uint64
	dirty bool
}

type handCount struct {
	db      *pebble.DB
	iter    *pebble.Iterator
	batch   *pebble.Batch
	cache   map[uint64]*handEntry
	slab    []handEntry
	dirty   []uint64
	applied chan error
	pending bool
}

func newHandCount(db *pebble.DB) (*handCount, error) {
	it, err := db.NewIter(&pebble.IterOptions{UseL6Filters: true})
	return &handCount{db: db, iter: it, batch: db.NewBatch(), cache: map[uint64]*handEntry{}, applied: make(chan error, 1)}, err
}

func (c *handCount) add(r *kgo.Record) {
	k := binary.BigEndian.Uint64(r.Key)
	e := c.cache[k]
	if e == nil {
		if len(c.slab) == cap(c.slab) {
			c.slab = make([]handEntry, 0, 8192)
		}
		c.slab = append(c.slab, handEntry{})
		e = &c.slab[len(c.slab)-1]
		if c.iter.SeekPrefixGE(r.Key) {
			e.n = binary.BigEndian.Uint64(c.iter.Value())
		}
		c.cache[k] = e
	}
	e.n++
	if !e.dirty {
		e.dirty = true
		c.dirty = append(c.dirty, k)
	}
}

func (c *handCount) flush(out func(k, v []byte)) {
	slices.Sort(c.dirty)
	buf := make([]byte, 0, 16*len(c.dirty))
	for _, k := range c.dirty {
		e := c.cache[k]
		e.dirty = false
		o := len(buf)
		buf = binary.BigEndian.AppendUint64(buf, k)
		buf = binary.BigEndian.AppendUint64(buf, e.n)
		c.batch.Set(buf[o:o+8], buf[o+8:o+16], nil)
		out(buf[o:o+8], buf[o+8:o+16])
	}
	c.dirty = c.dirty[:0]
}

// apply hands the interval's batch to a goroutine; it is at most one interval behind.
func (c *handCount) apply() error {
	if err := c.wait(); err != nil {
		return err
	}
	b := c.batch
	c.batch, c.pending = c.db.NewBatch(), true
	go func() { c.applied <- errors.Join(b.Commit(pebble.NoSync), b.Close()) }()
	return nil
}

func (c *handCount) wait() error {
	if !c.pending {
		return nil
	}
	c.pending = false
	return <-c.applied
}

// close checks that every one of n records was counted once.
func (c *handCount) close(n int) error {
	return errors.Join(c.wait(), c.batch.Close(), c.iter.Close(), checkCounts(c.db, n))
}

// checkCounts checks that the counts in db are those of n records.
func checkCounts(db *pebble.DB, n int) error {
	var sum uint64
	it, err := db.NewIter(nil)
	if err != nil {
		return err
	}
	for it.First(); it.Valid(); it.Next() {
		sum += binary.BigEndian.Uint64(it.Value())
	}
	if sum != uint64(n) {
		err = fmt.Errorf("counted %d of %d records", sum, n)
	}
	return errors.Join(err, it.Close())
}
