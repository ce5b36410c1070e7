package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
)

// sample is what one side of one round measured.
type sample struct {
	Rate     float64                    // work per second: records, keys, commits
	ClientNs float64                    // CPU nanoseconds of the client process per unit of work
	BrokerNs float64                    // CPU nanoseconds of the broker process per unit of work
	P50, P99 float64                    // latencies in microseconds, where the work has any
	Resident float64                    // megabytes of the client process, at the end of the work
	Extra    float64                    // a figure of the target's own
	Of       string                     // what Extra is of, where that is to be said
	Pauses   [stayedJoining + 1]float64 // of P22
}

// side is one of the programs compared in a figure.
type side struct {
	name string
	run  func(ctx context.Context, round int) (sample, error)
}

// interleave runs all sides in every round, in turn, so that what disturbs the machine disturbs all of them.
func interleave(ctx context.Context, rounds int, sides ...side) ([][]sample, error) {
	got := make([][]sample, len(sides))
	for r := range rounds {
		for i := range sides {
			i := (i + r) % len(sides) // nobody is always first
			s, err := sides[i].run(ctx, r)
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", sides[i].name, r+1, err)
			}
			got[i] = append(got[i], s)
		}
	}
	return got, nil
}

func median(ss []sample, of func(sample) float64) float64 {
	v := values(ss, of)
	return v[len(v)/2]
}

func values(ss []sample, of func(sample) float64) []float64 {
	v := make([]float64, len(ss))
	for i, s := range ss {
		v[i] = of(s)
	}
	slices.Sort(v)
	return v
}

func rate(s sample) float64     { return s.Rate }
func clientNs(s sample) float64 { return s.ClientNs }
func brokerNs(s sample) float64 { return s.BrokerNs }
func p50(s sample) float64      { return s.P50 }
func p99(s sample) float64      { return s.P99 }
func resident(s sample) float64 { return s.Resident }
func extra(s sample) float64    { return s.Extra }

// compare runs ours beside the anchor and prints the line of one figure.
func compare(ctx context.Context, figure, goal string, rounds int, ours, anchor side) error {
	got, err := interleave(ctx, rounds, ours, anchor)
	if err != nil {
		return err
	}
	printRatio(figure, goal, ours.name, anchor.name, got[0], got[1])
	return nil
}

func printRatio(figure, goal, oursName, anchorName string, ours, anchor []sample) {
	o, a := median(ours, rate), median(anchor, rate)
	fmt.Printf("%-18s %5.2f (target %s)  %s %s/s  %s %s/s  spread %s | %s  CPU client %.0f | %.0f ns, broker %.0f | %.0f ns\n",
		figure, o/a, goal, oursName, thousands(o), anchorName, thousands(a), spread(ours), spread(anchor),
		median(ours, clientNs), median(anchor, clientNs), median(ours, brokerNs), median(anchor, brokerNs))
}

func spread(ss []sample) string {
	v := values(ss, rate)
	return thousands(v[0]) + ".." + thousands(v[len(v)-1])
}

// spreadOf is the spread of a figure with decimals.
func spreadOf(ss []sample, of func(sample) float64) string {
	v := values(ss, of)
	return fmt.Sprintf("%.2f..%.2f", v[0], v[len(v)-1])
}

func thousands(f float64) string {
	switch {
	case f >= 10e6:
		return fmt.Sprintf("%.1fM", f/1e6)
	case f >= 10e3:
		return fmt.Sprintf("%.0fk", f/1e3)
	default:
		return fmt.Sprintf("%.0f", f)
	}
}

// describeMachine prints what the figures that follow were measured on.
func describeMachine() {
	model := "unknown processor"
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for sc := bufio.NewScanner(f); sc.Scan(); {
			if _, v, ok := strings.Cut(sc.Text(), ":"); ok && strings.HasPrefix(sc.Text(), "model name") {
				model = strings.TrimSpace(v)
				break
			}
		}
	}
	fmt.Printf("# %s, %d cores, %s, %s\n", model, runtime.NumCPU(), runtime.GOOS, runtime.Version())
}
