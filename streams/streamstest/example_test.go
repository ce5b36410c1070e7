package streamstest_test

import (
	"testing"
	"time"

	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// What a user's test looks like: send records with their times, read what comes out, look into stores.
func Example() {
	// func TestTotals(t *testing.T) { … }
	var t testing.TB = exampleTB()

	orders := streams.Topic[string, int64]{Name: "orders"}
	totals := streams.Store[string, int64]{Name: "totals"}
	out := streams.Topic[string, int64]{Name: "totals-by-customer"}

	var b streams.Builder
	b.Stream(orders).GroupByKey().
		Reduce(totals, func(sum, cents int64) (int64, error) { return sum + cents, nil }).
		ToStream().To(out)
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}

	d := streamstest.New(t, topology)
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	d.Send(orders, "ada", 500, streamstest.At(noon))
	d.Send(orders, "ada", 250, streamstest.At(noon.Add(time.Second)))
	for _, r := range d.Read(out) {
		t.Logf("%s %d at %s", r.Key, r.Value, r.Time.Format(time.TimeOnly))
	}
	if sum, ok := d.Store(totals).Get("ada"); ok {
		t.Logf("in the store: %d", sum)
	}
	endExample(t)
	// Output:
	// ada 500 at 12:00:00
	// ada 750 at 12:00:01
	// in the store: 750
}
