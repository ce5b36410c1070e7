package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"time"

	"github.com/leatstream/leat/streams"
)

// P20: queries of a store while it is being counted into.

// P20
func querying(ctx context.Context, s settings) error {
	f, err := newFixture(ctx, s, job{Topic: "uniform", N: s.records, Keys: s.keys}, job{Topic: "zipf", N: s.records, Keys: s.keys, Zipf: true})
	if err != nil {
		return err
	}
	defer f.b.stop()
	for _, topic := range []string{"uniform", "zipf"} {
		j := job{Kind: "count", Topic: topic, Every: commitEvery, EOS: true, Keys: s.keys, RatePer: 1000}
		got, err := interleave(ctx, s.rounds, f.side("queried", "query", j), f.side("left alone", "topology", j))
		if err != nil {
			return err
		}
		printRatio("P20."+topic, ">= 0.90", "queried", "left alone", got[0], got[1])
		fmt.Printf("%-18s %.3f ms p99 (target <= 1)  p50 %.3f ms  spread of p99 %s ms  from when a query was due, the goroutine's own wait for a core with it, p99 %.2f ms  %d queries a second\n",
			"P20."+topic+"-p99", median(got[0], p99)/1e3, median(got[0], p50)/1e3, spreadOf(got[0], func(s sample) float64 { return s.P99 / 1e3 }),
			median(got[0], extra)/1e3, j.RatePer)
	}
	return nil
}

// queryTopology is runTopology with a goroutine that asks for the counts of random keys, RatePer a second, from the first
// record to the last. P50 and P99 are from the call to its answer, Extra is the p99 from the moment at which it was due.
func queryTopology(ctx context.Context, j job) (sample, error) {
	p, a, remove, err := launchProbed(ctx, j)
	if err != nil {
		return sample{}, err
	}
	defer remove()
	view, err := a.app.View(counts(j))
	if err == nil {
		err = a.until(p.first)
	}
	if err != nil {
		return sample{}, errors.Join(err, a.close())
	}
	asked := make(chan answers, 1)
	go func() { asked <- ask(view, j, p.done) }()
	err = a.until(p.done)
	if err != nil {
		return sample{}, errors.Join(err, a.close())
	}
	got := <-asked
	s := p.result
	s.P50, s.P99, s.Extra = got.took.quantile(0.50), got.took.quantile(0.99), got.sinceDue.quantile(0.99)
	return s, errors.Join(got.err, a.close())
}

// answers are the latencies of queries.
type answers struct {
	took, sinceDue arrivals
	err            error
}

// ask asks for random keys until done is closed.
func ask(view *streams.View[int64, int64], j job, done <-chan struct{}) (a answers) {
	r, every := rand.New(rand.NewSource(1)), time.Second/time.Duration(j.RatePer)
	start, pace := time.Now(), time.NewTimer(0)
	defer pace.Stop()
	for i := 1; ; i++ {
		due := start.Add(time.Duration(i) * every)
		pace.Reset(time.Until(due))
		select {
		case <-pace.C:
		case <-done:
			a.took.sort()
			a.sinceDue.sort()
			return a
		}
		called := time.Now()
		if _, _, a.err = view.Get(int64(r.Intn(j.Keys))); a.err != nil {
			return a
		}
		a.took.us = append(a.took.us, float64(time.Since(called).Nanoseconds())/1e3)
		a.sinceDue.us = append(a.sinceDue.us, float64(time.Since(due).Nanoseconds())/1e3)
	}
}
