package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/twmb/franz-go/pkg/kerr"
)

// The topologies under test, written as a user would write them.

// probe is told of every record that reaches a topology's first operator, and measures from the first to the n-th.
type probe struct {
	n, at  int64
	broker int
	meter  meter
	result sample
	done   chan struct{}
	first  chan struct{}
}

func newProbe(j job) *probe {
	return &probe{n: int64(j.N), broker: j.Broker, done: make(chan struct{}), first: make(chan struct{})}
}

// record is called by the one worker of the application, for each record.
func (p *probe) record() {
	p.at++
	switch p.at {
	case 1:
		p.meter = startMeter(p.broker)
		close(p.first)
	case p.n:
		p.result = p.meter.done(int(p.n))
		close(p.done)
	}
}

func source(j job) streams.Topic[int64, []byte] {
	return streams.Topic[int64, []byte]{Name: j.Topic, Key: serde.Int64, Value: serde.Bytes}
}

// statelessTopology decodes, filters, maps and encodes.
func statelessTopology(j job, p *probe) (*streams.Topology, error) {
	var b streams.Builder
	b.Stream(source(j)).
		Filter(func(int64, []byte) bool { p.record(); return true }).
		MapValues(func(_ int64, v []byte) ([]byte, error) { return v, nil }).
		To(streams.Topic[int64, []byte]{Name: j.Out, Key: serde.Int64, Value: serde.Bytes})
	return b.Build()
}

// countTopology counts by key and writes the counts.
func countTopology(j job, p *probe) (*streams.Topology, error) {
	var b streams.Builder
	b.Stream(source(j)).
		Filter(func(int64, []byte) bool { p.record(); return true }).
		GroupByKey().
		Count(streams.Store[int64, int64]{Name: "counts"}).
		ToStream().
		To(streams.Topic[int64, int64]{Name: j.Out, Key: serde.Int64, Value: serde.Int64})
	return b.Build()
}

// runTopology runs an application of the kind over N records of Topic.
func runTopology(ctx context.Context, j job) (sample, error) {
	if err := createTopics(ctx, j.Addr, partitions, j.Out); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return sample{}, err
	}
	p := newProbe(j)
	build := statelessTopology
	if j.Kind == "count" {
		build = countTopology
	}
	t, err := build(j, p)
	if err != nil {
		return sample{}, err
	}
	dir := j.Dir // P8 and P9 name one, to come back to it
	if dir == "" {
		if dir, err = os.MkdirTemp("", "leat-bench-app-"); err != nil {
			return sample{}, err
		}
		defer os.RemoveAll(dir)
	}
	if err := runUntil(ctx, t, appConfig(j, dir), p.done); err != nil {
		return sample{}, err
	}
	return p.result, nil
}

func appConfig(j job, dir string) streams.Config {
	c := streams.Config{AppID: j.ID, Brokers: []string{j.Addr}, StateDir: dir, Workers: 1, CommitInterval: j.Every, MemoryBytes: 1 << 30, LeaveOnStop: true}
	if !j.EOS {
		c.Guarantee = streams.AtLeastOnce
	}
	return c
}

// runUntil runs an application until done is closed, then stops it cleanly.
func runUntil(ctx context.Context, t *streams.Topology, c streams.Config, done <-chan struct{}) error {
	app, err := streams.New(t, c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	select {
	case <-done:
		cancel()
		return <-ended
	case err := <-ended:
		return errors.Join(errors.New("the application ended before the input did"), err)
	}
}

// restart starts a counting application over the state directory j.Dir, and reports how long it took from the start of the
// process until it was ready or, with Restart, until its first record, and how many changelog records it replayed.
func restart(ctx context.Context, j job) (sample, error) {
	started, err := processStart()
	if err != nil {
		return sample{}, err
	}
	p := newProbe(j)
	t, err := countTopology(j, p)
	if err != nil {
		return sample{}, err
	}
	app, err := streams.New(t, appConfig(j, j.Dir))
	if err != nil {
		return sample{}, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- app.Run(ctx) }()
	wait := app.Ready()
	if j.Restart {
		wait = p.first
	}
	select {
	case <-wait:
	case err := <-ended:
		return sample{}, errors.Join(errors.New("the application ended early"), err)
	}
	took := time.Since(started)
	replayed := float64(app.RestoredRecords())
	cancel()
	return sample{Rate: replayed / took.Seconds(), P50: float64(took.Microseconds()), Extra: replayed}, <-ended
}
