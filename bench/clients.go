package main

import (
	"context"
	"encoding/binary"
	"math/rand"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/internal/txnclient"
)

// The plain clients: the same franz-go program against whichever broker.

const partitions = 4

// parts is the number of partitions of the job's topic.
func (j job) parts() int32 {
	if j.Parts > 0 {
		return int32(j.Parts)
	}
	return partitions
}

func createTopics(ctx context.Context, addr string, parts int32, names ...string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	res, err := kadm.NewClient(cl).CreateTopics(ctx, parts, 1, nil, names...)
	if err != nil {
		return err
	}
	return res.Error()
}

// deleteTopics deletes a run's topics, so that the next ones find the room.
func deleteTopics(ctx context.Context, addr, prefix string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		return err
	}
	defer cl.Close()
	admin := kadm.NewClient(cl)
	all, err := admin.ListTopics(ctx)
	if err != nil {
		return err
	}
	var names []string
	for _, name := range all.Names() {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	res, err := admin.DeleteTopics(ctx, names...)
	if err != nil {
		return err
	}
	return res.Error()
}

// randomValues returns distinct values of size bytes, half of each random, so that compression finds what it finds in life.
func randomValues(size int) [][]byte {
	r := rand.New(rand.NewSource(1))
	all := make([][]byte, 1<<13)
	for i := range all {
		all[i] = make([]byte, size)
		r.Read(all[i][:size/2])
	}
	return all
}

// loadTopic fills j.Topic with N records of 8-byte keys and 92-byte values, uniform or Zipf over Keys keys. With Event, their
// times go on from Begin by a second for so many records.
func loadTopic(ctx context.Context, j job) (sample, error) {
	if err := createTopics(ctx, j.Addr, j.parts(), j.Topic); err != nil {
		return sample{}, err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(j.Addr), kgo.DefaultProduceTopic(j.Topic), kgo.MaxBufferedRecords(200_000))
	if err != nil {
		return sample{}, err
	}
	defer cl.Close()
	r := rand.New(rand.NewSource(1 + j.Seed))
	z := rand.NewZipf(r, 1.1, 1, uint64(j.Keys-1))
	at := newEventTime(j)
	m := startMeter(j.Broker)
	err = fill(ctx, cl, j.N, func(i int) (*kgo.Record, error) {
		v := make([]byte, 100)
		r.Read(v[8:50])
		k := uint64(i) // each key once where N = Keys
		switch {
		case j.Zipf:
			k = z.Uint64()
		case j.N != j.Keys:
			k = uint64(r.Intn(j.Keys))
		}
		binary.BigEndian.PutUint64(v, k)
		return &kgo.Record{Key: v[:8], Value: v[8:], Timestamp: at.of(i)}, nil
	})
	if err != nil {
		return sample{}, err
	}
	return m.done(j.N), nil
}

// fill produces n records, and returns when all are acknowledged.
func fill(ctx context.Context, cl *kgo.Client, n int, record func(i int) (*kgo.Record, error)) error {
	var failed atomic.Pointer[error]
	acknowledged := func(_ *kgo.Record, err error) {
		if err != nil {
			failed.Store(&err)
		}
	}
	for i := range n {
		r, err := record(i)
		if err != nil {
			return err
		}
		cl.Produce(ctx, r, acknowledged)
	}
	if err := cl.Flush(ctx); err != nil {
		return err
	}
	if e := failed.Load(); e != nil {
		return *e
	}
	return nil
}

// eventTime gives records their times; the zero value leaves that to the client.
type eventTime struct {
	start time.Time
	every time.Duration
}

// newEventTime gives times from the job's Begin on.
func newEventTime(j job) eventTime {
	if j.Event == 0 {
		return eventTime{}
	}
	return eventTime{j.Begin, time.Second / time.Duration(j.Event)}
}

func (e eventTime) of(i int) time.Time {
	if e.every == 0 {
		return time.Time{}
	}
	return e.start.Add(time.Duration(i) * e.every)
}

// produceLoop writes N values of Size bytes, idempotent, acks=all, uncompressed.
func produceLoop(ctx context.Context, j job) (sample, error) {
	if err := createTopics(ctx, j.Addr, j.parts(), j.Topic); err != nil {
		return sample{}, err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(j.Addr), kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.MaxBufferedRecords(100_000), kgo.DefaultProduceTopic(j.Topic))
	if err != nil {
		return sample{}, err
	}
	defer cl.Close()
	if err := cl.Ping(ctx); err != nil {
		return sample{}, err
	}
	vals := randomValues(j.Size)
	m := startMeter(j.Broker)
	if err := fill(ctx, cl, j.N, func(i int) (*kgo.Record, error) { return &kgo.Record{Value: vals[i%len(vals)]}, nil }); err != nil {
		return sample{}, err
	}
	return m.done(j.N), nil
}

// consumeLoop reads N records of Topic from its start.
func consumeLoop(ctx context.Context, j job) (sample, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(j.Addr), kgo.ConsumeTopics(j.Topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return sample{}, err
	}
	defer cl.Close()
	m := startMeter(j.Broker)
	for got := 0; got < j.N; {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return sample{}, err
		}
		got += fs.NumRecords()
	}
	return m.done(j.N), nil
}

// commitLoop ends N transactions of PerTxn records each, one after the other.
func commitLoop(ctx context.Context, j job) (sample, error) {
	if err := createTopics(ctx, j.Addr, 1, j.Topic); err != nil {
		return sample{}, err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(j.Addr), kgo.TransactionalID(j.ID), kgo.ProducerLinger(0), kgo.DefaultProduceTopic(j.Topic))
	if err != nil {
		return sample{}, err
	}
	defer cl.Close()
	vals := randomValues(100)
	one := func() error {
		if err := cl.BeginTransaction(); err != nil {
			return err
		}
		for i := range j.PerTxn {
			cl.Produce(ctx, &kgo.Record{Value: vals[i%len(vals)]}, nil)
		}
		if err := cl.Flush(ctx); err != nil {
			return err
		}
		return txnclient.End(ctx, cl, kgo.TryCommit)
	}
	if err := one(); err != nil {
		return sample{}, err
	}
	var us []float64
	m := startMeter(j.Broker)
	for range j.N {
		t := time.Now()
		if err := one(); err != nil {
			return sample{}, err
		}
		us = append(us, float64(time.Since(t).Nanoseconds())/1e3)
	}
	s := m.done(j.N)
	slices.Sort(us)
	s.P50, s.P99 = us[len(us)/2], us[len(us)*99/100]
	return s, nil
}

// feedLoop sends N records with keys of Keys at RatePer per second, in bursts of a millisecond.
func feedLoop(ctx context.Context, j job) (sample, error) {
	cl, err := kgo.NewClient(kgo.SeedBrokers(j.Addr), kgo.DefaultProduceTopic(j.Topic), kgo.MaxBufferedRecords(200_000))
	if err != nil {
		return sample{}, err
	}
	defer cl.Close()
	r, pace := rand.New(rand.NewSource(time.Now().UnixNano())), time.NewTicker(time.Millisecond)
	defer pace.Stop()
	m := startMeter(j.Broker)
	for sent := 0; sent < j.N && ctx.Err() == nil; {
		<-pace.C
		due := min(j.N, int(time.Since(m.start).Seconds()*float64(j.RatePer)))
		for ; sent < due; sent++ {
			v := make([]byte, 100)
			binary.BigEndian.PutUint64(v, uint64(r.Intn(j.Keys)))
			cl.Produce(ctx, &kgo.Record{Key: v[:8], Value: v[8:]}, nil)
		}
	}
	if err := cl.Flush(ctx); err != nil {
		return sample{}, err
	}
	return m.done(j.N), nil
}
