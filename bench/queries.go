package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand"
	"time"

	"github.com/leatstream/leat/streams"
	"github.com/twmb/franz-go/pkg/kerr"
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
		fmt.Printf("%-18s %.2f ms p99 (target <= 1)  p50 %.3f ms  spread of p99 %s ms  %.0f queries a round, %d a second\n", "P20."+topic+"-p99",
			median(got[0], p99)/1e3, median(got[0], p50)/1e3, spreadOf(got[0], func(s sample) float64 { return s.P99 / 1e3 }), median(got[0], extra), j.RatePer)
	}
	return nil
}

// queryTopology is runTopology with a goroutine that asks for the counts of random keys, RatePer a second, from the first
// record to the last. P50 and P99 are from the moment a query was due to its answer; Extra is the number of queries.
func queryTopology(ctx context.Context, j job) (sample, error) {
	if err := createTopics(ctx, j.Addr, j.parts(), j.Out); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return sample{}, err
	}
	dir, remove, err := stateDir(j)
	if err != nil {
		return sample{}, err
	}
	defer remove()
	p := newProbe(j)
	a, err := launch(ctx, j, p, dir)
	if err != nil {
		return sample{}, err
	}
	view, err := a.app.View(counts(j))
	if err == nil {
		err = a.until(p.first)
	}
	if err != nil {
		return sample{}, errors.Join(err, a.close())
	}
	asked := make(chan arrivals, 1)
	go func() { asked <- ask(view, j, p.done) }()
	err = a.until(p.done)
	if err != nil {
		return sample{}, errors.Join(err, a.close())
	}
	got := <-asked
	s := p.result
	s.P50, s.P99, s.Extra = got.quantile(0.50), got.quantile(0.99), float64(len(got.us))
	return s, errors.Join(got.err, a.close())
}

// ask asks for random keys until done is closed.
func ask(view *streams.View[int64, int64], j job, done <-chan struct{}) (a arrivals) {
	r, every := rand.New(rand.NewSource(1)), time.Second/time.Duration(j.RatePer)
	start, pace := time.Now(), time.NewTimer(0)
	defer pace.Stop()
	for i := 1; ; i++ {
		due := start.Add(time.Duration(i) * every)
		pace.Reset(time.Until(due))
		select {
		case <-pace.C:
		case <-done:
			a.sort()
			return a
		}
		_, _, err := view.Get(int64(r.Intn(j.Keys)))
		if err != nil {
			a.err = errors.Join(a.err, err)
			return a
		}
		a.us = append(a.us, float64(time.Since(due).Nanoseconds())/1e3)
	}
}
