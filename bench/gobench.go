package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
)

// P2 and P18: Go benchmarks of single packages.

// goBench is one line of a Go benchmark.
type goBench struct {
	name   string // with its parts, without "Benchmark" and the number of cores
	ns     float64
	allocs int // -1: the benchmark does not tell
}

var benchLine = regexp.MustCompile(`(?m)^Benchmark(\S+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op(.*)$`)
var allocsPerOp = regexp.MustCompile(`\s(\d+) allocs/op`)

// parseGoBench reads what go test -bench prints.
func parseGoBench(out string) (all []goBench) {
	for _, m := range benchLine.FindAllStringSubmatch(out, -1) {
		b := goBench{name: m[1], allocs: -1}
		b.ns, _ = strconv.ParseFloat(m[2], 64)
		if a := allocsPerOp.FindStringSubmatch(m[3]); a != nil {
			b.allocs, _ = strconv.Atoi(a[1])
		}
		all = append(all, b)
	}
	return all
}

// goBenchmarks runs the benchmarks of a package that match the pattern, as often as there are rounds.
func goBenchmarks(ctx context.Context, s settings, pattern, pkg string) (all []goBench, err error) {
	out, err := exec.CommandContext(ctx, "go", "test", "-run", "^$", "-bench", pattern, "-benchmem", "-count", strconv.Itoa(s.rounds), pkg).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("go test -bench %s %s: %w\n%s", pattern, pkg, err, out)
	}
	return parseGoBench(string(out)), nil
}

// named are the samples of one benchmark, with nanoseconds as their rate, and the most allocations that it made.
func named(all []goBench, name string) (ns []sample, allocs int, err error) {
	for _, b := range all {
		if b.name == name {
			ns, allocs = append(ns, sample{Rate: b.ns}), max(allocs, b.allocs)
		}
	}
	if len(ns) == 0 {
		err = fmt.Errorf("go test printed no benchmark %s", name)
	}
	return ns, allocs, err
}

// P2: records through chains of one and of eleven operators.
func operators(ctx context.Context, s settings) error {
	all, err := goBenchmarks(ctx, s, "FusedOperators", "./streams")
	if err != nil {
		return err
	}
	first, few, err := named(all, "FusedOperators/operators=1")
	if err != nil {
		return err
	}
	last, many, err := named(all, "FusedOperators/operators=11")
	if err != nil {
		return err
	}
	one, eleven := median(first, rate), median(last, rate)
	fmt.Printf("%-18s %.1f ns per operator, %d allocations (target <= 25 ns, 0)  one operator %.0f ns, eleven %.0f ns per record\n",
		"P2", (eleven-one)/10, max(few, many), one, eleven)
	return nil
}

// P18: an order of twelve fields and four lines, as Avro.
func serdes(ctx context.Context, s settings) error {
	all, err := goBenchmarks(ctx, s, "^Benchmark(Encode|Decode)$", "./registry/avro")
	if err != nil {
		return err
	}
	for _, c := range []struct{ figure, name string }{{"P18.encode", "Encode"}, {"P18.decode", "Decode"}} {
		ours, allocs, err := named(all, c.name+"/serde")
		if err != nil {
			return err
		}
		bare, bareAllocs, err := named(all, c.name+"/codec")
		if err != nil {
			return err
		}
		o, b := median(ours, rate), median(bare, rate)
		fmt.Printf("%-18s %5.2f (target <= 1.30)  serde %.0f ns, bare codec %.0f ns  spread %s | %s  allocations %d | %d\n",
			c.figure, o/b, o, b, spread(ours), spread(bare), allocs, bareAllocs)
	}
	return nil
}
