package streamstest_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

const dedupWindow = 100 * time.Millisecond

var dedupIDs = streams.WindowStore[string, time.Time]{Name: "ids", Retention: dedupWindow}

func dedupDriver(t *testing.T) *streamstest.Driver {
	return driver(t, func(b *streams.Builder) {
		b.Stream(plain).Deduplicate(dedupIDs, func(_, v string) string { return v }).To(streams.Topic[string, string]{Name: "out"})
	})
}

// The first record of an id passes, the others within the window do not, also when they come out of order and after a
// restart; a record without an id passes always.
func TestDeduplicate(t *testing.T) {
	d := dedupDriver(t)
	out := streams.Topic[string, string]{Name: "out"}
	send := func(ms int64, id string) { d.Send(plain, "k", id, at(ms)) }
	send(1000, "a")
	send(1050, "a") // within
	send(1000, "")
	send(1000, "")
	send(960, "a") // older, but near
	d.Restart()
	send(1099, "a")
	send(1100, "a") // just outside
	send(1199, "a") // within the window of the second
	want(t, show(d.Read(out)), "k=a@1000", "k=@1000", "k=@1000", "k=a@1100")
	send(1099, "b") // as old as the window: late
	send(1100, "b")
	want(t, show(d.Read(out)), "k=b@1100")
	if got := d.Dropped(); got.Duplicates != 2 || got.Late != 1 { // since the restart
		t.Errorf("dropped %+v, want 2 duplicates and 1 late", got)
	}
	d.Restart()
	send(1099, "c") // late stays late
	want(t, show(d.Read(out)))
}

// Of random records, out of order, those pass that a list of all that have passed lets pass; and the store forgets.
func TestDeduplicateEqualsAModel(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	d := dedupDriver(t)
	var now, latest int64
	passed := map[string][]int64{}
	var expect []string
	w := dedupWindow.Milliseconds()
	for i := range 3000 {
		now += r.Int64N(15)
		ms, id := max(0, now-r.Int64N(150)), fmt.Sprint("id", r.IntN(30))
		d.Send(plain, "k", id, at(ms))
		latest = max(latest, ms)
		ok := ms > latest-w
		for _, first := range passed[id] {
			ok = ok && (ms-first >= w || first-ms >= w)
		}
		if ok {
			passed[id] = append(passed[id], ms)
			expect = append(expect, fmt.Sprintf("k=%s@%d", id, ms))
		}
		if i%1000 == 999 {
			d.Restart()
		}
	}
	want(t, show(d.Read(streams.Topic[string, string]{Name: "out"})), expect...)
	if n := len(d.WindowStore(dedupIDs).All()); n > 120 {
		t.Errorf("%d ids are remembered, at most those of three windows are wanted", n)
	}
}

// A store that does not say how long ids are remembered is a mistake.
func TestDeduplicateNeedsAWindow(t *testing.T) {
	var b streams.Builder
	b.Stream(plain).Deduplicate(streams.WindowStore[string, time.Time]{Name: "ids"}, func(_, v string) string { return v })
	if _, err := b.Build(); err == nil {
		t.Error("built without a Retention")
	}
}
