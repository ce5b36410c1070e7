package main

import (
	"context"
	"encoding/binary"
	"errors"

	"github.com/cockroachdb/pebble/v2"
	"github.com/twmb/franz-go/pkg/kgo"
)

// P6: counts of which every single one goes on.

// P6
func forwarding(ctx context.Context, s settings) error {
	f, err := newFixture(ctx, s, job{Topic: "uniform", N: s.records, Keys: s.keys}, job{Topic: "zipf", N: s.records, Keys: s.keys, Zipf: true})
	if err != nil {
		return err
	}
	defer f.b.stop()
	for _, topic := range []string{"uniform", "zipf"} {
		j := job{Kind: "forward", Topic: topic, Every: commitEvery, EOS: true}
		if err := compare(ctx, "P6."+topic, ">= 0.90", s.rounds, f.side("no buffer", "topology", j), f.side("raw Pebble", "rmw", j)); err != nil {
			return err
		}
	}
	return nil
}

// forwardLoop counts by key in Pebble, without a cache of its own: for every record the count is read from an indexed batch and
// what is below it, written there, and produced to the changelog and to the output. The batch is applied after each commit.
func forwardLoop(ctx context.Context, j job) (sample, error) {
	h, db, remove, err := newStoreLoop(ctx, j)
	if err != nil {
		return sample{}, err
	}
	defer remove()
	c := &forwardCount{batch: db.NewIndexedBatch()}
	s, err := h.run(ctx, j, func(r *kgo.Record) {
		k, v := c.add(r.Key)
		h.produce(ctx, j.Out+"-changelog", k, v)
		h.produce(ctx, j.Out, k, v)
	}, func() error { return c.failed }, func() error {
		err := errors.Join(c.batch.Commit(pebble.NoSync), c.batch.Close())
		c.batch = db.NewIndexedBatch()
		return err
	})
	h.cl.Close()
	err = errors.Join(err, c.batch.Close())
	if err == nil {
		err = checkCounts(db, j.N)
	}
	return s, errors.Join(err, db.Close())
}

// forwardCount is the count of one commit.
type forwardCount struct {
	batch  *pebble.Batch
	slab   []byte
	failed error
}

// add counts a key, and returns it with its count, both valid for as long as they are needed.
func (c *forwardCount) add(key []byte) (k, v []byte) {
	var n uint64
	old, closer, err := c.batch.Get(key)
	switch {
	case err == nil:
		n = binary.BigEndian.Uint64(old)
		err = closer.Close()
	case errors.Is(err, pebble.ErrNotFound):
		err = nil
	}
	if len(c.slab)+16 > cap(c.slab) {
		c.slab = make([]byte, 0, 1<<16)
	}
	o := len(c.slab)
	c.slab = append(c.slab, key...)
	c.slab = binary.BigEndian.AppendUint64(c.slab, n+1)
	k, v = c.slab[o:o+8:o+8], c.slab[o+8:o+16:o+16]
	if err == nil {
		err = c.batch.Set(k, v, nil)
	}
	c.failed = errors.Join(c.failed, err)
	return k, v
}
