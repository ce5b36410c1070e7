package main

import (
	"context"
	"encoding/binary"
	"errors"
	"math/rand"
	"slices"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// latencyLoop sends RatePer records per second to Topic, N in all, and measures each from the moment it was due (no coordinated
// omission) to its arrival at a consumer: of Topic, or of Out, where an application has put what it makes of it, committed
// records only. What is due in the time Warm does not count; without it, the first tenth does not.
func latencyLoop(ctx context.Context, j job) (sample, error) {
	from := j.Out
	if from == "" {
		from = j.Topic
		if err := createTopics(ctx, j.Addr, 1, j.Topic); err != nil {
			return sample{}, err
		}
	}
	pc, err := kgo.NewClient(kgo.SeedBrokers(j.Addr), kgo.ProducerLinger(0), kgo.DefaultProduceTopic(j.Topic))
	if err != nil {
		return sample{}, err
	}
	defer pc.Close()
	opts := []kgo.Opt{kgo.SeedBrokers(j.Addr), kgo.ConsumeTopics(from), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())}
	if j.EOS {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	cc, err := kgo.NewClient(opts...)
	if err != nil {
		return sample{}, err
	}
	defer cc.Close()
	var failed atomic.Pointer[error]
	r := rand.New(rand.NewSource(1))
	send := func(due time.Time) {
		v := make([]byte, 8+max(8, j.Size))
		binary.LittleEndian.PutUint64(v[8:], uint64(due.UnixNano()))
		rec := &kgo.Record{Value: v[8:]}
		if j.Keys > 0 {
			binary.BigEndian.PutUint64(v, uint64(r.Intn(j.Keys)))
			rec.Key = v[:8]
		}
		pc.Produce(ctx, rec, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Store(&err)
			}
		})
	}
	send(time.Now())
	if err := pc.Flush(ctx); err != nil {
		return sample{}, err
	}
	m, plan := startMeter(j.Broker), newPlan(j)
	done := make(chan arrivals, 1)
	go func() { done <- plan.receive(ctx, cc) }() // ends with the last record, or when cc is closed
	plan.send(send)
	if err := pc.Flush(ctx); err != nil {
		return sample{}, err
	}
	if e := failed.Load(); e != nil {
		return sample{}, *e
	}
	a := <-done
	s := m.done(j.N)
	s.P50, s.P99 = a.quantile(0.50), a.quantile(0.99)
	s.Extra = float64(len(a.us))
	return s, a.err
}

// plan says when records are due.
type plan struct {
	start time.Time
	every time.Duration
	n     int // records 1 to n-1 are due; record 0 was sent before
	warm  int // records up to this one do not count
}

func newPlan(j job) plan {
	p := plan{start: time.Now(), every: time.Second / time.Duration(j.RatePer), n: j.N, warm: j.N / 10}
	if j.Warm > 0 {
		p.warm = int(j.Warm / p.every)
	}
	return p
}

func (p plan) due(i int) time.Time { return p.start.Add(time.Duration(i) * p.every) }

// send calls one for every record when it is due, or as soon as it can after that.
func (p plan) send(one func(due time.Time)) {
	pace := time.NewTimer(0)
	defer pace.Stop()
	for i := 1; i < p.n; i++ {
		due := p.due(i)
		if d := time.Until(due); d > 200*time.Microsecond {
			pace.Reset(d)
			<-pace.C
		}
		one(due)
	}
}

// arrivals are the latencies of the records that count, in microseconds, in order.
type arrivals struct {
	us  []float64
	err error
}

// receive takes records, each of which begins with the moment it was due, up to the last one of the plan. An application may
// have put several of a key together: what comes then has the latest moment.
func (p plan) receive(ctx context.Context, cl *kgo.Client) (a arrivals) {
	first, last := p.due(p.warm).UnixNano(), p.due(p.n-1).UnixNano()
	for at := int64(0); at < last; {
		fs := cl.PollFetches(ctx)
		if a.err = fs.Err(); a.err != nil {
			return a
		}
		now := time.Now().UnixNano()
		for r := range fs.RecordsAll() {
			if len(r.Value) < 8 {
				a.err = errors.New("a record without the moment at which it was due")
				return a
			}
			due := int64(binary.LittleEndian.Uint64(r.Value))
			at = max(at, due)
			if due > first {
				a.us = append(a.us, float64(now-due)/1e3)
			}
		}
	}
	a.sort()
	return a
}

func (a *arrivals) sort() { slices.Sort(a.us) }

// quantile is that part's largest latency; 0 if nothing arrived.
func (a arrivals) quantile(q float64) float64 {
	if len(a.us) == 0 {
		return 0
	}
	return a.us[min(len(a.us)-1, int(float64(len(a.us))*q))]
}
