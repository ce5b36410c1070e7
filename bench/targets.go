package main

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"
)

// fixture is one broker with a loaded input topic, shared by all rounds of a target: every round reads the same records
// with a group, an application and output topics of its own.
type fixture struct {
	b    *brokerProcess
	s    settings
	runs int
}

func newFixture(ctx context.Context, s settings, load ...job) (*fixture, error) {
	b, err := startBroker(ctx, s.broker)
	if err != nil {
		return nil, err
	}
	for _, j := range load {
		j.Addr = b.addr
		if _, err := work(ctx, "load", j); err != nil {
			b.stop()
			return nil, err
		}
	}
	return &fixture{b: b, s: s}, nil
}

// side makes a side that runs the role with j, under names that no other run has.
func (f *fixture) side(name, role string, j job) side {
	return side{name, func(ctx context.Context, round int) (sample, error) {
		f.runs++
		j := j
		j.Addr, j.Broker = f.b.addr, f.b.pid
		j.ID = fmt.Sprintf("bench-%d-%d", time.Now().UnixMilli(), f.runs)
		j.Out = j.ID + "-out"
		if j.N == 0 {
			j.N = f.s.records
		}
		j.Profile = f.profile(name, j)
		return work(ctx, role, j)
	}}
}

// profile is the file for the CPU profile of a side, if there are to be any.
func (f *fixture) profile(name string, j job) string {
	if f.s.profiles == "" {
		return ""
	}
	return filepath.Join(f.s.profiles, fmt.Sprintf("%s-%s-%d.pprof", strings.ReplaceAll(name, " ", "-"), j.Kind, f.runs))
}

const commitEvery = 100 * time.Millisecond

// P1
func stateless(ctx context.Context, s settings) error {
	f, err := newFixture(ctx, s, job{Topic: "in", N: s.records, Keys: s.keys})
	if err != nil {
		return err
	}
	defer f.b.stop()
	j := job{Kind: "stateless", Topic: "in", Every: commitEvery, EOS: true}
	return compare(ctx, "P1", ">= 0.85", s.rounds, f.side("topology", "topology", j), f.side("hand loop", "pass", j))
}

// P3
func guarantees(ctx context.Context, s settings) error {
	f, err := newFixture(ctx, s, job{Topic: "in", N: s.records, Keys: s.keys})
	if err != nil {
		return err
	}
	defer f.b.stop()
	for _, c := range []struct {
		figure, goal, kind string
		every              time.Duration
	}{
		{"P3.stateless-100ms", ">= 0.97", "stateless", 100 * time.Millisecond},
		{"P3.count-100ms", ">= 0.97", "count", 100 * time.Millisecond},
		{"P3.stateless-10ms", ">= 0.90", "stateless", 10 * time.Millisecond},
		{"P3.count-10ms", ">= 0.90", "count", 10 * time.Millisecond},
	} {
		j := job{Kind: c.kind, Topic: "in", Every: c.every}
		once := j
		once.EOS = true
		err := compare(ctx, c.figure, c.goal, s.rounds, f.side("exactly once", "topology", once), f.side("at least once", "topology", j))
		if err != nil {
			return err
		}
	}
	return nil
}

// P4
func counting(ctx context.Context, s settings) error {
	f, err := newFixture(ctx, s, job{Topic: "uniform", N: s.records, Keys: s.keys}, job{Topic: "zipf", N: s.records, Keys: s.keys, Zipf: true})
	if err != nil {
		return err
	}
	defer f.b.stop()
	for _, topic := range []string{"uniform", "zipf"} {
		j := job{Kind: "count", Topic: topic, Every: commitEvery, EOS: true}
		if err := compare(ctx, "P4."+topic, ">= 0.80", s.rounds, f.side("topology", "topology", j), f.side("hand loop", "count", j)); err != nil {
			return err
		}
	}
	return nil
}

// plain makes a side that starts a broker of the kind for the run alone, prepares it, and works on it.
func plain(name, kind, role string, j job, prepare string) side {
	return side{name, func(ctx context.Context, round int) (sample, error) {
		b, err := startBroker(ctx, kind)
		if err != nil {
			return sample{}, err
		}
		defer b.stop()
		j := j
		j.Addr, j.Broker, j.Topic, j.ID = b.addr, b.pid, fmt.Sprintf("bench-%d", round), fmt.Sprintf("bench-%d", round)
		if prepare != "" {
			if _, err := work(ctx, prepare, j); err != nil {
				return sample{}, err
			}
		}
		return work(ctx, role, j)
	}}
}

// P11
func brokers(ctx context.Context, s settings) error {
	for _, c := range []struct {
		figure, goal, role, prepare string
		size, n                     int
	}{
		{"P11.produce-100", ">= 1.00", "produce", "", 100, 2_000_000},
		{"P11.produce-1k", ">= 1.00", "produce", "", 1000, 1_000_000},
		{"P11.consume-100", ">= 1.20", "consume", "produce", 100, 2_000_000},
		{"P11.consume-1k", ">= 1.70", "consume", "produce", 1000, 1_000_000},
	} {
		j := job{N: c.n, Size: c.size}
		if err := compare(ctx, c.figure, c.goal, s.rounds, plain("leat", "leat", c.role, j, c.prepare), plain("kfake", "kfake-disk", c.role, j, c.prepare)); err != nil {
			return err
		}
	}
	return nil
}

// P13
func synced(ctx context.Context, s settings) error {
	for _, c := range []struct {
		figure, goal string
		size, n      int
	}{{"P13.100", ">= 0.80", 100, 2_000_000}, {"P13.1k", ">= 0.65", 1000, 1_000_000}} {
		j := job{N: c.n, Size: c.size}
		if err := compare(ctx, c.figure, c.goal, s.rounds, plain("synced", "leat-sync", "produce", j, ""), plain("unsynced", "leat", "produce", j, "")); err != nil {
			return err
		}
	}
	return nil
}

// P14
func latency(ctx context.Context, s settings) error {
	j := job{N: 50_000, Size: 100, RatePer: 10_000}
	got, err := interleave(ctx, s.rounds, plain("leat", "leat", "latency", j, ""), plain("kfake", "kfake", "latency", j, ""),
		plain("leat synced", "leat-sync", "latency", j, ""), plain("kfake synced", "kfake-sync", "latency", j, ""))
	if err != nil {
		return err
	}
	o, a := median(got[0], p50), median(got[1], p50)
	fmt.Printf("%-18s %5.2f (target <= 1.20)  p50 leat %.0f us, kfake in memory %.0f us  p99 %.0f | %.0f us  CPU broker %.0f | %.0f ns\n",
		"P14.unsynced", o/a, o, a, median(got[0], p99), median(got[1], p99), median(got[0], brokerNs), median(got[1], brokerNs))
	bare, err := bareSync()
	if err != nil {
		return err
	}
	goal := 3*bare + 400
	o, a = median(got[2], p50), median(got[3], p50)
	fmt.Printf("%-18s %5.2f (target <= 1.00)  p50 leat %.0f us, goal %.0f us = 3 x a bare fdatasync of %.0f us + 400 us; kfake synced %.0f us  p99 %.0f | %.0f us\n",
		"P14.synced", o/goal, o, goal, bare, a, median(got[2], p99), median(got[3], p99))
	return nil
}

// P15
func commits(ctx context.Context, s settings) error {
	j := job{N: 1000, PerTxn: 100}
	return compare(ctx, "P15", ">= 4.0", s.rounds, plain("leat synced", "leat-sync", "commit", j, ""), plain("kfake synced", "kfake-sync", "commit", j, ""))
}
