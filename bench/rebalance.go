package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

// P22: what a rebalance costs those that move, and those that do not.

const (
	rebalancePartitions = 4
	rebalanceRate       = 10_000 // records per second
	rebalanceWatch      = 2 * time.Second
	rebalanceWait       = time.Minute
)

// P22
func rebalancing(ctx context.Context, s settings) error {
	f, err := newFixture(ctx, s)
	if err != nil {
		return err
	}
	defer f.b.stop()
	one := f.side("rebalance", "rebalance", job{Topic: "rebalance-in", Keys: min(s.keys, 100_000), RatePer: rebalanceRate, Every: commitEvery, EOS: true, Parts: rebalancePartitions})
	got, err := interleave(ctx, s.rounds, one)
	if err != nil {
		return err
	}
	of := func(n int) func(sample) float64 { return func(s sample) float64 { return s.Pauses[n] } }
	line := func(figure, what, goal string, leaves, joins int) {
		fmt.Printf("%-18s %.0f ms without a record of %s (target %s) when an instance leaves, %.0f ms when it comes back  spread %s | %s ms  without a rebalance %.0f ms\n",
			figure, median(got[0], of(leaves)), what, goal, median(got[0], of(joins)), spreadOf(got[0], of(leaves)), spreadOf(got[0], of(joins)), median(got[0], of(pausedBefore)))
	}
	line("P22.moved", "a task that moves to its standby", "< 1000", movedLeaving, movedJoining)
	line("P22.unaffected", "a task that stays", "none", stayedLeaving, stayedJoining)
	return nil
}

// What sample.Pauses has of a round, each the longest of any partition, in milliseconds.
const (
	pausedBefore = iota
	movedLeaving
	stayedLeaving
	movedJoining
	stayedJoining
)

// gaps are the longest times between two records of each partition.
type gaps struct {
	mu    sync.Mutex
	parts [rebalancePartitions]struct {
		last    time.Time
		longest time.Duration
	}
}

// seen notes a record. Any goroutine may call it.
func (g *gaps) seen(partition int32) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.note(int(partition), time.Now())
}

func (g *gaps) note(i int, now time.Time) {
	p := &g.parts[i]
	p.longest = max(p.longest, now.Sub(p.last))
	p.last = now
}

// begin forgets what was.
func (g *gaps) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.parts {
		g.parts[i].last, g.parts[i].longest = time.Now(), 0
	}
}

// end returns the longest gap, in milliseconds, of the partitions among those given, and of the others. One that is still open
// counts.
func (g *gaps) end(among []int) (these, others float64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for i := range g.parts {
		g.note(i, time.Now())
		ms := float64(g.parts[i].longest.Microseconds()) / 1e3
		if slices.Contains(among, i) {
			these = max(these, ms)
		} else {
			others = max(others, ms)
		}
	}
	return these, others
}

// rebalance runs two instances that count a steady stream, each with copies of the other's tasks, has one leave and come back,
// and measures for how long records of each partition were not processed.
func rebalance(ctx context.Context, j job) (s sample, err error) {
	if err := createTopics(ctx, j.Addr, j.parts(), j.ID+"-in", j.Out); err != nil {
		return s, err
	}
	j.Topic = j.ID + "-in"
	dir, remove, err := stateDir(j)
	if err != nil {
		return s, err
	}
	defer remove()
	ctx, cancel := context.WithCancel(ctx)
	fed := make(chan struct{})
	go func() {
		defer close(fed)
		feed := j
		feed.N = math.MaxInt
		feedLoop(ctx, feed) // until it is canceled, which is its error
	}()
	defer func() { cancel(); <-fed }()
	var g gaps
	start := func(name string) (*application, error) { return launchSeen(ctx, j, &g, filepath.Join(dir, name)) }
	stays, err := start("stays")
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, stays.close()) }()
	leaves, err := start("leaves")
	if err != nil {
		return s, err
	}
	if err := shared(ctx, stays, leaves); err != nil {
		return s, errors.Join(err, leaves.close())
	}
	g.begin()
	if err := pause(ctx, rebalanceWatch); err != nil {
		return s, errors.Join(err, leaves.close())
	}
	_, s.Pauses[pausedBefore] = g.end(nil)

	moved := running(leaves)
	g.begin()
	if err := leaves.close(); err != nil {
		return s, err
	}
	if err := watch(ctx, func() bool { return len(running(stays)) == rebalancePartitions }); err != nil {
		return s, err
	}
	s.Pauses[movedLeaving], s.Pauses[stayedLeaving] = g.end(moved)

	g.begin()
	if leaves, err = start("leaves"); err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, leaves.close()) }()
	if err := shared(ctx, stays, leaves); err != nil {
		return s, err
	}
	s.Pauses[movedJoining], s.Pauses[stayedJoining] = g.end(running(leaves))
	return s, nil
}

// launchSeen starts an instance whose records g sees.
func launchSeen(ctx context.Context, j job, g *gaps, dir string) (*application, error) {
	var b streams.Builder
	b.Stream(source(j)).
		ProcessValues("seen", func(t *streams.Task, emit streams.Emit[int64, []byte]) (streams.Processor[int64, []byte], error) {
			return func(_ context.Context, r streams.Record[int64, []byte]) error {
				at, _ := t.Origin()
				g.seen(at.Partition)
				return emit(r)
			}, nil
		}).
		GroupByKey().
		Count(counts(j)).
		ToStream().
		To(streams.Topic[int64, int64]{Name: j.Out, Key: serde.Int64, Value: serde.Int64})
	t, err := b.Build()
	if err != nil {
		return nil, err
	}
	c := appConfig(j, dir)
	c.Standbys = 1
	return launchApp(ctx, t, c)
}

// running are the partitions of the tasks that an instance runs.
func running(a *application) (all []int) {
	for _, t := range a.app.Tasks() {
		if t.Role != streams.TaskRunning {
			continue
		}
		_, p, _ := strings.Cut(t.ID, "_")
		if n, err := strconv.Atoi(p); err == nil {
			all = append(all, n)
		}
	}
	return all
}

// shared waits until both instances run half of the tasks and have copies of the other half, and then a little.
func shared(ctx context.Context, both ...*application) error {
	return watch(ctx, func() bool {
		for _, a := range both {
			copies := 0
			for _, t := range a.app.Tasks() {
				if t.Role == streams.TaskStandby && t.Remaining >= 0 && t.Remaining < rebalanceRate {
					copies++
				}
			}
			if len(running(a)) != rebalancePartitions/2 || copies != rebalancePartitions/2 {
				return false
			}
		}
		return true
	})
}

// watch waits until is, and then a little, so that what comes late is in the figure.
func watch(ctx context.Context, is func() bool) error {
	late, cancel := context.WithTimeoutCause(ctx, rebalanceWait, errors.New("the group does not settle"))
	defer cancel()
	for !is() {
		if pause(late, 10*time.Millisecond) != nil {
			return context.Cause(late)
		}
	}
	return pause(ctx, rebalanceWatch)
}
