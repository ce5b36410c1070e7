package streams_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// Descriptors are declared once, as package variables.
var (
	Lines      = streams.Topic[string, string]{Name: "lines", Key: serde.String, Value: serde.String}
	WordCounts = streams.Store[string, int64]{Name: "word-counts", Key: serde.String, Value: serde.Int64}
	Counts     = streams.Topic[string, int64]{Name: "counts", Key: serde.String, Value: serde.Int64}
)

func countWords() (*streams.Topology, error) {
	var b streams.Builder
	b.Stream(Lines).
		FlatMapValues(func(_, line string) ([]string, error) { return strings.Fields(strings.ToLower(line)), nil }).
		GroupBy(func(_, word string) string { return word }).
		Count(WordCounts).
		ToStream().
		To(Counts)
	return b.Build()
}

// Word count: the topology, and its description in Kafka's words.
func ExampleBuilder() {
	topology, err := countWords()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Print(topology.Describe())
	// Output:
	// Topologies:
	//    Sub-topology: 0
	//     Source: KSTREAM-SOURCE-0000000000 (topics: [lines])
	//       --> KSTREAM-FLATMAPVALUES-0000000001
	//     Processor: KSTREAM-FLATMAPVALUES-0000000001 (stores: [])
	//       --> KSTREAM-KEY-SELECT-0000000002
	//       <-- KSTREAM-SOURCE-0000000000
	//     Processor: KSTREAM-KEY-SELECT-0000000002 (stores: [])
	//       --> word-counts-repartition-filter
	//       <-- KSTREAM-FLATMAPVALUES-0000000001
	//     Processor: word-counts-repartition-filter (stores: [])
	//       --> word-counts-repartition-sink
	//       <-- KSTREAM-KEY-SELECT-0000000002
	//     Sink: word-counts-repartition-sink (topic: word-counts-repartition)
	//       <-- word-counts-repartition-filter
	//
	//   Sub-topology: 1
	//     Source: word-counts-repartition-source (topics: [word-counts-repartition])
	//       --> KSTREAM-AGGREGATE-0000000003
	//     Processor: KSTREAM-AGGREGATE-0000000003 (stores: [word-counts])
	//       --> KTABLE-TOSTREAM-0000000007
	//       <-- word-counts-repartition-source
	//     Processor: KTABLE-TOSTREAM-0000000007 (stores: [])
	//       --> KSTREAM-SINK-0000000008
	//       <-- KSTREAM-AGGREGATE-0000000003
	//     Sink: KSTREAM-SINK-0000000008 (topic: counts)
	//       <-- KTABLE-TOSTREAM-0000000007
}

// The program of the design: revenue per country and minute, final once the minute and five seconds have passed.
func TestRevenuePerCountry(t *testing.T) {
	type paid struct {
		Country string
		Cents   int64
		Paid    bool
	}
	type sales struct{ Orders, Cents int64 }
	orders := streams.Topic[string, paid]{Name: "orders", Value: serde.JSON[paid]()}
	sold := streams.WindowStore[string, sales]{Name: "sold-by-country", Value: serde.JSON[sales]()}
	revenue := streams.Topic[streams.Windowed[string], sales]{Name: "revenue", Key: serde.Windowed(serde.String, time.Minute), Value: serde.JSON[sales]()}

	var b streams.Builder
	b.Stream(orders).
		Filter(func(_ string, o paid) bool { return o.Paid }).
		GroupBy(func(_ string, o paid) string { return o.Country }).
		WindowedBy(streams.Tumbling(time.Minute).Grace(5*time.Second)).Final().
		Aggregate(sold, func() sales { return sales{} },
			func(_ string, o paid, s sales) (sales, error) { return sales{s.Orders + 1, s.Cents + o.Cents}, nil }).
		ToStream(streams.WindowedKey).
		To(revenue)
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, topology)
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	send := func(country string, cents int64, after time.Duration) {
		d.Send(orders, "o", paid{country, cents, cents > 0}, streamstest.At(noon.Add(after)))
	}
	send("de", 5, 10*time.Second)
	send("fr", 7, 59*time.Second)
	send("de", 0, 30*time.Second)  // not paid
	send("de", 11, 64*time.Second) // the next minute; the first is still open
	send("de", 3, 59*time.Second)  // late, in time
	if got := d.Read(revenue); len(got) != 0 {
		t.Errorf("%v before the window closed", got)
	}
	send("fr", 1, 66*time.Second)
	got := d.Read(revenue)
	if len(got) != 2 {
		t.Fatalf("%v, want two results", got)
	}
	for i, want := range []struct {
		country string
		sales   sales
	}{{"de", sales{2, 8}}, {"fr", sales{1, 7}}} {
		if got[i].Key.Key != want.country || got[i].Value != want.sales || !got[i].Key.Start.Equal(noon) || !got[i].Key.End.Equal(noon.Add(time.Minute)) {
			t.Errorf("result %d: %+v, want %+v", i, got[i], want)
		}
	}
}
