package streams_test

import (
	"testing"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// The program of docs/streams.md, so that the page stays true.

type guideOrder struct {
	Country string
	Cents   int64
	Paid    bool
}

var (
	guideOrders  = streams.Topic[string, guideOrder]{Name: "orders", Key: serde.String, Value: serde.JSON[guideOrder](), Partitions: 4}
	guideRevenue = streams.Topic[streams.Windowed[string], int64]{Name: "revenue",
		Key: serde.Windowed(serde.String, time.Minute), Value: serde.Int64, Partitions: 4}
	guideSold = streams.WindowStore[string, int64]{Name: "sold-by-country"}
)

func guideTopology() (*streams.Topology, error) {
	var b streams.Builder
	b.Stream(guideOrders).
		Filter(func(_ string, o guideOrder) bool { return o.Paid }).
		GroupBy(func(_ string, o guideOrder) string { return o.Country }).
		WindowedBy(streams.Tumbling(time.Minute).Grace(5*time.Second)).Final().
		Aggregate(guideSold, func() int64 { return 0 },
			func(_ string, o guideOrder, sum int64) (int64, error) { return sum + o.Cents, nil }).
		ToStream(streams.WindowedKey).
		To(guideRevenue)
	return b.Build()
}

func TestGuide(t *testing.T) {
	top, err := guideTopology()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, top)
	d.Send(guideOrders, "o1", guideOrder{Country: "DE", Cents: 500, Paid: true}, streamstest.At(time.UnixMilli(0)))
	d.Send(guideOrders, "o2", guideOrder{Country: "DE", Cents: 100, Paid: true}, streamstest.At(time.UnixMilli(66_000)))
	got := d.Read(guideRevenue)
	if len(got) != 1 || got[0].Key.Key != "DE" || got[0].Value != 500 || got[0].Key.End.Sub(got[0].Key.Start) != time.Minute {
		t.Errorf("revenue has %+v, want DE's first minute with 500", got)
	}
}
