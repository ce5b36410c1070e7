package main

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
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

// build makes the topology of the job's kind.
func build(j job, p *probe) (*streams.Topology, error) {
	kinds := map[string]func(job, *probe) (*streams.Topology, error){
		"stateless": statelessTopology, "count": countTopology, "forward": countTopology, "windowed": windowedTopology,
		"dated": datedTopology, "table-join": tableJoinTopology, "stream-join": streamJoinTopology,
	}
	f, ok := kinds[j.Kind]
	if !ok {
		return nil, fmt.Errorf("no topology %q", j.Kind)
	}
	return f(j, p)
}

// counts is the store of countTopology.
func counts(j job) streams.Store[int64, int64] {
	return streams.Store[int64, int64]{Name: "counts", NoBuffer: j.Kind == "forward"}
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

// countTopology counts by key and writes the counts: the last of each commit, or, of kind "forward", every one.
func countTopology(j job, p *probe) (*streams.Topology, error) {
	var b streams.Builder
	b.Stream(source(j)).
		Filter(func(int64, []byte) bool { p.record(); return true }).
		GroupByKey().
		Count(counts(j)).
		ToStream().
		To(streams.Topic[int64, int64]{Name: j.Out, Key: serde.Int64, Value: serde.Int64})
	return b.Build()
}

// windowSize is that of the windowed count and of the stream join.
const windowSize = 10 * time.Second

// windowedTopology counts by key in tumbling windows, which are kept for an hour.
func windowedTopology(j job, p *probe) (*streams.Topology, error) {
	var b streams.Builder
	b.Stream(source(j)).
		Filter(func(int64, []byte) bool { p.record(); return true }).
		GroupByKey().
		WindowedBy(streams.Tumbling(windowSize)).
		Count(streams.WindowStore[int64, int64]{Name: "counts", Retention: time.Hour}).
		To(streams.Topic[streams.Windowed[int64], int64]{Name: j.Out, Key: serde.Windowed(serde.Int64, windowSize), Value: serde.Int64})
	return b.Build()
}

// datedTopology counts by key, and puts before the count the moment at which the last record of the key was due.
func datedTopology(j job, p *probe) (*streams.Topology, error) {
	var b streams.Builder
	b.Stream(source(j)).
		Filter(func(int64, []byte) bool { p.record(); return true }).
		GroupByKey().
		Aggregate(streams.Store[int64, []byte]{Name: "dated", Key: serde.Int64, Value: serde.Bytes}, func() []byte { return make([]byte, 16) }, dated).
		ToStream().
		To(streams.Topic[int64, []byte]{Name: j.Out, Key: serde.Int64, Value: serde.Bytes})
	return b.Build()
}

// dated counts v, which begins with the moment at which it was due.
func dated(_ int64, v, sum []byte) ([]byte, error) {
	next := append(make([]byte, 0, 16), v[:8]...)
	return binary.LittleEndian.AppendUint64(next, binary.LittleEndian.Uint64(sum[8:])+1), nil
}

// tableJoinTopology joins a stream with a table, Topic with Other: half a value of each.
func tableJoinTopology(j job, p *probe) (*streams.Topology, error) {
	var b streams.Builder
	rows := streams.Topic[int64, []byte]{Name: j.Other, Key: serde.Int64, Value: serde.Bytes}
	table := b.Table(rows, streams.Store[int64, []byte]{Name: "rows"})
	b.Stream(source(j)).
		Filter(func(int64, []byte) bool { p.record(); return true }).
		JoinTable(table, halves).
		To(streams.Topic[int64, []byte]{Name: j.Out, Key: serde.Int64, Value: serde.Bytes})
	return b.Build()
}

// streamJoinTopology joins two streams, Topic and Other, whose records of a key lie no further apart than windowSize. The
// records of both count.
func streamJoinTopology(j job, p *probe) (*streams.Topology, error) {
	var b streams.Builder
	seen := func(int64, []byte) bool { p.record(); return true }
	other := b.Stream(streams.Topic[int64, []byte]{Name: j.Other, Key: serde.Int64, Value: serde.Bytes}).Filter(seen)
	b.Stream(source(j)).Filter(seen).
		Join("pairs", other, streams.Within(windowSize), halves).
		To(streams.Topic[int64, []byte]{Name: j.Out, Key: serde.Int64, Value: serde.Bytes})
	return b.Build()
}

// halves is the first half of a and of b.
func halves(_ int64, a, b []byte) ([]byte, error) {
	return append(append(make([]byte, 0, (len(a)+len(b))/2), a[:len(a)/2]...), b[:len(b)/2]...), nil
}
