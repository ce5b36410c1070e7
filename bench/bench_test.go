package main

import (
	"encoding/binary"
	"encoding/json"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParseGoBench(t *testing.T) {
	got := parseGoBench(`goos: linux
BenchmarkFusedOperators/operators=1-2         	12345678	        91.30 ns/op	       0 B/op	       0 allocs/op
BenchmarkFusedOperators/operators=11          	 5000000	       196 ns/op	       8 B/op	       2 allocs/op
BenchmarkEncode/serde-16 	 1000	 310.5 ns/op	 700.12 MB/s	 16 B/op	 1 allocs/op
BenchmarkPlain 	 1000	 5 ns/op
BenchmarkBroken-2 --- FAIL
PASS
`)
	want := []goBench{{"FusedOperators/operators=1", 91.3, 0}, {"FusedOperators/operators=11", 196, 2}, {"Encode/serde", 310.5, 1}, {"Plain", 5, -1}}
	if len(got) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("got %+v, want %+v", got[i], want[i])
		}
	}
	if _, _, err := named(got, "Encode"); err == nil {
		t.Error("a benchmark that is not there has figures")
	}
	ns, allocs, err := named(append(got, goBench{"Encode/serde", 300, 3}), "Encode/serde")
	if err != nil || len(ns) != 2 || allocs != 3 {
		t.Errorf("got %v, %d allocations, %v", ns, allocs, err)
	}
}

func TestStatusMB(t *testing.T) {
	const status = "Name:\tbench\nVmHWM:\t  900 kB\nVmRSS:\t 1000 kB\nThreads:\t3\n"
	if got := statusMB(status, "VmRSS:"); got != 1.024 {
		t.Errorf("got %v MB, want 1.024", got)
	}
	for _, bad := range []string{"", "VmRSS:", "VmRSS:\tmuch\n"} {
		if got := statusMB(bad, "VmRSS:"); got != 0 {
			t.Errorf("%q: got %v", bad, got)
		}
	}
}

func TestQuantiles(t *testing.T) {
	var a arrivals
	if a.quantile(0.99) != 0 {
		t.Error("nothing has a quantile")
	}
	for i := range 1000 {
		a.us = append(a.us, float64(1000-i))
	}
	a.sort()
	if p50, p99, all := a.quantile(0.50), a.quantile(0.99), a.quantile(1); p50 != 501 || p99 != 991 || all != 1000 {
		t.Errorf("got %v, %v, %v", p50, p99, all)
	}
}

func TestPlanIsDueWithoutDrift(t *testing.T) {
	p := newPlan(job{N: 120_000, RatePer: 10_000, Warm: 2 * time.Second})
	if p.warm != 20_000 {
		t.Errorf("%d records to warm up, want 20,000", p.warm)
	}
	if got := p.due(100_000).Sub(p.start); got != 10*time.Second {
		t.Errorf("record 100,000 is due after %s", got)
	}
	if p := newPlan(job{N: 1000, RatePer: 100}); p.warm != 100 {
		t.Errorf("%d records to warm up, want a tenth", p.warm)
	}
}

func TestEventTime(t *testing.T) {
	if !newEventTime(job{}).of(7).IsZero() {
		t.Error("records without an event rate have a time")
	}
	e := newEventTime(job{Event: 100_000, Begin: epoch()})
	if e.start.Truncate(windowSize) != e.start {
		t.Errorf("%s is in the middle of a window", e.start)
	}
	if got := e.of(1_000_000).Sub(e.start); got != 10*time.Second {
		t.Errorf("a million records take %s", got)
	}
}

func TestShareOfGarbageCollection(t *testing.T) {
	before := gcTimes{gc: 1, idle: 10, total: 20}
	if got := (gcTimes{gc: 2, idle: 16, total: 36}).share(before); got != 0.1 { // 1 of 10 seconds that were used
		t.Errorf("got %v", got)
	}
	if got := before.share(before); got != 0 {
		t.Errorf("no time at all: got %v", got)
	}
}

func TestSampleSurvivesTheProcess(t *testing.T) {
	want := sample{Rate: 1, ClientNs: 2, BrokerNs: 3, P50: 4, P99: 5, Resident: 6, Extra: 7}
	b, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var got sample
	if err := json.Unmarshal(b, &got); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestHalves(t *testing.T) {
	got, err := halves(0, []byte("abcd"), []byte("efghij"))
	if err != nil || string(got) != "abefg" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestEveryKindOfTopologyBuilds(t *testing.T) {
	for _, kind := range []string{"stateless", "count", "forward", "windowed", "dated", "table-join", "stream-join"} {
		j := job{Kind: kind, Topic: "in", Other: "other", Out: "out"}
		if _, err := build(j, newProbe(j)); err != nil {
			t.Errorf("%s: %v", kind, err)
		}
	}
	if _, err := build(job{Kind: "no such"}, nil); err == nil {
		t.Error("a topology of no kind was built")
	}
}

func TestDatedTellsTheMomentOfTheLastRecord(t *testing.T) {
	v := binary.LittleEndian.AppendUint64(nil, 42)
	sum, err := dated(1, append(v, "rest"...), make([]byte, 16))
	if err != nil {
		t.Fatal(err)
	}
	sum, err = dated(1, append(binary.LittleEndian.AppendUint64(nil, 43), "rest"...), sum)
	if err != nil || binary.LittleEndian.Uint64(sum) != 43 || binary.LittleEndian.Uint64(sum[8:]) != 2 {
		t.Errorf("got %v, %v", sum, err)
	}
}

func TestProgressEndsWhenNothingIsOnTheWay(t *testing.T) {
	p := &progress{n: 2, done: make(chan struct{})}
	ended := func() bool {
		select {
		case <-p.done:
			return true
		default:
			return false
		}
	}
	p.Event()
	p.Sent()
	p.Event()
	p.Sent()
	p.Arrived()
	if ended() {
		t.Fatal("a record is on its way")
	}
	p.Late()
	p.Arrived()
	if !ended() || p.result.Extra != 1 {
		t.Errorf("ended %v with %+v", ended(), p.result)
	}
	p.Sent()
	p.Arrived() // what comes later changes nothing
}

func TestQueriesAreChosenByName(t *testing.T) {
	all, err := chosenQueries("")
	if err != nil || len(all) < 9 {
		t.Errorf("%d queries, %v", len(all), err)
	}
	some, err := chosenQueries("q7,q0")
	if err != nil || len(some) != 2 || some[0].Name != "q7" || some[1].Name != "q0" {
		t.Errorf("%v, %v", some, err)
	}
	if _, err := chosenQueries("q0,q99"); err == nil {
		t.Error("a query of no name was chosen")
	}
}

func TestEveryTargetIsListedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, target := range targets() {
		if seen[target.name] || target.what == "" || target.run == nil {
			t.Errorf("target %q: twice, or without a word, or without a program", target.name)
		}
		seen[target.name] = true
	}
}
