package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
)

// P7: counts in windows.

// eventRate is how many records there are to a second of event time, where records have times of their own.
const eventRate = 100_000

// epoch is where event time begins: a whole hour, two hours ago, so that windows begin with the records and nothing is too old.
func epoch() time.Time { return time.Now().Add(-2 * time.Hour).Truncate(time.Hour) }

// P7
func windowing(ctx context.Context, s settings) error {
	f, err := newFixture(ctx, s, job{Topic: "in", N: s.records, Keys: s.keys, Event: eventRate, Begin: epoch()})
	if err != nil {
		return err
	}
	defer f.b.stop()
	plain := job{Kind: "count", Topic: "in", Every: commitEvery, EOS: true}
	windowed := plain
	windowed.Kind = "windowed"
	if err := compare(ctx, "P7", ">= 0.70", s.rounds, f.side("windowed count", "topology", windowed), f.side("plain count", "topology", plain)); err != nil {
		return err
	}
	filled := func(kind string) side {
		return side{kind, func(ctx context.Context, _ int) (sample, error) {
			return work(ctx, "expire", job{Kind: kind, Keys: s.keys, N: 5 * s.keys})
		}}
	}
	both, err := interleave(ctx, s.rounds, filled("expired"), filled(keptWindows))
	if err != nil {
		return err
	}
	got, kept := both[0], both[1]
	fmt.Printf("%-18s %.2f ms, the longest pause for the end of a window of %s keys (target <= 5), and %.2f ms where the windows are kept  spread %s | %s ms  these were %s | %s  commits of 50,000 rows take %.0f ms, the first ones after an expiry %.0f ms\n",
		"P7.expiry", median(got, extra), thousands(float64(s.keys)), median(kept, extra), spreadOf(got, extra), spreadOf(kept, extra),
		longest(got), longest(kept), median(got, p50)/1e3, median(got, p99)/1e3)
	return nil
}

// keptWindows is the kind of the job that measures the same while nothing goes out of reach: what the machine does by itself.
const keptWindows = "kept"

// longest names what the longest pause of each round was of.
func longest(ss []sample) string {
	var names []string
	for _, s := range ss {
		names = append(names, s.Of)
	}
	return strings.Join(names, ", ")
}

// expireWindows fills a window store, window by window, with N rows of Keys keys in all, and measures what the owner of the
// store waits for when a window goes out of reach: for the advance of time, for a commit that has nothing but the expiry to
// write, and for a read of the store after it. Extra is the longest of these in milliseconds; P50 is the median of the commits of
// 50,000 rows, in microseconds, and P99 that of the ones that come right after an expiry. Of the kind keptWindows the same is
// measured and nothing goes out of reach.
func expireWindows(ctx context.Context, j job) (s sample, err error) {
	dir, err := os.MkdirTemp("", "leat-bench-windows-")
	if err != nil {
		return s, err
	}
	defer os.RemoveAll(dir)
	db, err := state.Open(state.Options{Dir: dir, MemoryBytes: 1 << 30})
	if err != nil {
		return s, err
	}
	defer db.Close()
	sh, err := db.Shard("windows", 0, state.ShardOptions{Windowed: true})
	if err != nil {
		return s, err
	}
	retention := windowSize
	if j.Kind == keptWindows {
		retention *= time.Duration(j.N)
	}
	st, err := state.OpenWindow(sh, serde.Int64, serde.Int64, state.StoreOptions{Size: windowSize, Retention: retention})
	if err != nil {
		return s, err
	}
	defer st.Close()
	x := expiry{db: db, st: st, keys: j.Keys}
	m := startMeter(0)
	for w := range j.N / j.Keys {
		if err := x.window(int64(w) * windowSize.Milliseconds()); err != nil {
			return s, err
		}
	}
	s = m.done(j.N)
	s.Extra, s.Of = float64(x.pause.Microseconds())/1e3, x.of
	s.P50, s.P99 = median(x.commits, rate), median(x.first, rate)
	return s, nil
}

// expiry is a window store that is being filled, and what its owner waited for.
type expiry struct {
	db     *state.DB
	st     *state.WindowStore[int64, int64]
	keys   int
	offset int64

	pause          time.Duration // the longest
	of             string        // what that was of
	commits, first []sample      // commits of rows, in microseconds; those that come first after an expiry
}

// window lets time go to the start of a window, by which the one before is out of reach, and counts every key in it.
func (x *expiry) window(start int64) error {
	x.timed("the advance", func() { x.st.Advance(start) })
	var err error
	x.timed("the commit", func() { err = x.commit() })
	if err != nil {
		return err
	}
	var key [8]byte
	after := true
	for i := range x.keys {
		binary.BigEndian.PutUint64(key[:], uint64(i)*0x9e3779b97f4a7c15)
		var e *state.Entry[int64, int64]
		read := func() { e, err = x.st.Entry(key[:], int64(binary.BigEndian.Uint64(key[:])), start) }
		if i < 1000 { // the clock costs more than a read
			x.timed("a read", read)
		} else {
			read()
		}
		if err == nil {
			err = x.st.Set(e, e.Value+1, start)
		}
		if err != nil {
			return err
		}
		if i%50_000 == 49_999 || i == x.keys-1 {
			began := time.Now()
			if err := x.commit(); err != nil {
				return err
			}
			took := sample{Rate: float64(time.Since(began).Microseconds())}
			x.commits = append(x.commits, took)
			if after {
				x.first, after = append(x.first, took), false
			}
		}
	}
	return nil
}

func (x *expiry) timed(what string, f func()) {
	began := time.Now()
	f()
	if took := time.Since(began); took > x.pause {
		x.pause, x.of = took, what
	}
}

func (x *expiry) commit() error {
	if err := x.st.Flush(nil); err != nil {
		return err
	}
	b := x.db.NewBatch()
	x.offset++
	x.st.Seal(b, state.Position{Offset: x.offset, At: time.Now()})
	b.Apply()
	return nil
}
