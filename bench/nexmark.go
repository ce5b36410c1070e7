package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/leatstream/leat/bench/nexmark"
	"github.com/leatstream/leat/serde"
	"github.com/twmb/franz-go/pkg/kgo"
)

// P21: queries of Nexmark, beside the figures that Flink 1.13 has published.

// nexmarkFormats are how events and results look on topics: the first without a suffix.
var nexmarkFormats = []struct{ name, suffix string }{{"compact", ""}, {"json", "-json"}}

// P21
func besideFlink(ctx context.Context, s settings) error {
	chosen, err := chosenQueries(s.queries)
	if err != nil {
		return err
	}
	if s.eventRate <= 0 {
		return fmt.Errorf("-event-rate is %d: at least one event a second", s.eventRate)
	}
	f, err := newFixture(ctx, s)
	if err != nil {
		return err
	}
	defer f.b.stop()
	begin := epoch()
	for _, format := range nexmarkFormats {
		load := job{Addr: f.b.addr, Topic: "events-" + format.name, Format: format.name, N: s.records, Event: s.eventRate, Begin: begin}
		if _, err := work(ctx, "nexmark-load", load); err != nil {
			return err
		}
	}
	for _, q := range chosen {
		for _, format := range nexmarkFormats {
			j := job{Kind: q.Name, Format: format.name, Topic: "events-" + format.name, Every: commitEvery, EOS: true}
			run := f.side(format.name, "nexmark", j)
			got, err := interleave(ctx, s.rounds, run)
			if err != nil {
				return fmt.Errorf("%s: %w", q.Name+format.suffix, err)
			}
			printBesideFlink(q, format.suffix, got[0])
		}
	}
	return nil
}

// chosenQueries are those that are named, with commas between; all of them if none is.
func chosenQueries(names string) ([]nexmark.Query, error) {
	all := nexmark.Queries()
	if names == "" {
		return all, nil
	}
	var chosen []nexmark.Query
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(all, func(q nexmark.Query) bool { return q.Name == name })
		if i < 0 {
			return nil, fmt.Errorf("-queries: no query %q", name)
		}
		chosen = append(chosen, all[i])
	}
	return chosen, nil
}

// flinkGoal is what the rate for each core is to be, beside Flink's; 0: nothing in particular.
func flinkGoal(query string) float64 {
	switch query {
	case "q0", "q1", "q2":
		return 3
	case "q5", "q7", "q8", "q11", "q12", "q17":
		return 2
	}
	return 0
}

func printBesideFlink(q nexmark.Query, suffix string, got []sample) {
	goal := "none"
	if g := flinkGoal(q.Name); g > 0 {
		goal = fmt.Sprintf(">= %.1f", g)
	}
	perCore := median(got, ratePerCore)
	fmt.Printf("%-18s %5.2f (target %s)  leat %s/s per core, Flink 1.13 %s/s per core  spread %.0fk..%.0fk  wall %s/s  CPU application %.0f ns, broker %.0f ns  %.0f MB  %.0f records late\n",
		"P21."+q.Name+suffix, perCore/q.Flink, goal, thousands(perCore), thousands(q.Flink), values(got, ratePerCore)[0]/1e3, values(got, ratePerCore)[len(got)-1]/1e3,
		thousands(median(got, rate)), median(got, clientNs), median(got, brokerNs), median(got, resident), median(got, extra))
}

// ratePerCore is the work per second of CPU time of the client process.
func ratePerCore(s sample) float64 { return 1e9 / s.ClientNs }

// loadNexmark fills j.Topic with N events of the format, partition after partition, without keys.
func loadNexmark(ctx context.Context, j job) (sample, error) {
	if err := createTopics(ctx, j.Addr, j.parts(), j.Topic); err != nil {
		return sample{}, err
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(j.Addr), kgo.DefaultProduceTopic(j.Topic), kgo.MaxBufferedRecords(200_000), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		return sample{}, err
	}
	defer cl.Close()
	g, events, at := nexmark.NewGenerator(uint64(j.Seed), j.Begin.UnixMilli(), j.Event), nexmark.Events(j.Format == "json"), serde.Place{Topic: j.Topic}
	m := startMeter(j.Broker)
	err = fill(ctx, cl, j.N, func(i int) (*kgo.Record, error) {
		e := g.Event(int64(i))
		v, err := events.Append(make([]byte, 0, 512), at, e)
		return &kgo.Record{Value: v, Timestamp: time.UnixMilli(e.Time())}, err
	})
	if err != nil {
		return sample{}, err
	}
	return m.done(j.N), nil
}

// runNexmark runs the query of the job's kind over N events of Topic: from the first event that is read until the last one has
// come out of the last topic between. Extra is how many records were too late for a window.
func runNexmark(ctx context.Context, j job) (s sample, err error) {
	if err := createTopics(ctx, j.Addr, j.parts(), j.Out); err != nil {
		return s, err
	}
	dir, err := os.MkdirTemp("", "leat-bench-app-")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(dir)
	p := &progress{n: j.N, broker: j.Broker, done: make(chan struct{})}
	t, err := nexmark.Build(j.Kind, nexmark.Config{In: j.Topic, Out: j.Out, JSON: j.Format == "json", Watch: p})
	if err != nil {
		return s, err
	}
	a, err := launchApp(ctx, t, appConfig(j, dir))
	if err != nil {
		return s, err
	}
	err = a.until(p.done)
	err = errors.Join(err, a.close())
	return p.result, errors.Join(err, deleteTopics(ctx, j.Addr, j.ID))
}

// progress is told by the one worker of an application how far a query is.
type progress struct {
	n, broker                   int
	events, sent, arrived, late int
	meter                       meter
	result                      sample
	done                        chan struct{}
}

func (p *progress) Event() {
	p.events++
	if p.events == 1 {
		p.meter = startMeter(p.broker)
	}
	p.settle()
}

func (p *progress) Sent() { p.sent++ }

func (p *progress) Arrived() {
	p.arrived++
	p.settle()
}

func (p *progress) Late() { p.late++ }

// settle ends the measurement, once, when nothing is on the way any more.
func (p *progress) settle() {
	if p.events < p.n || p.arrived < p.sent || p.result.Rate > 0 {
		return
	}
	p.result = p.meter.done(p.n)
	p.result.Extra = float64(p.late)
	close(p.done)
}
