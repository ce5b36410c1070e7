package dsltest

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// The Go of docs/windows.md, so that the page stays true.

var (
	payments = streams.Topic[string, int64]{Name: "payments"}
	rates    = streams.Topic[string, int64]{Name: "rates"}
	tooLate  = streams.Topic[string, int64]{Name: "too-late"}
	large    = streams.Topic[streams.Windowed[string], int64]{Name: "large", Key: serde.Windowed(serde.String, time.Minute)}
	refunds  = streams.Topic[string, int64]{Name: "refunds"}
	balance  = streams.Topic[streams.Windowed[string], int64]{Name: "balance", Key: serde.Windowed(serde.String, time.Hour)}
	calm     = streams.Topic[string, int64]{Name: "calm"}
	averages = streams.Topic[string, float64]{Name: "averages"}
)

func sum(a, b int64) (int64, error) { return a + b, nil }

func topology() (*streams.Topology, error) {
	var b streams.Builder
	byTime := b.Table(rates, streams.Store[string, int64]{Name: "rates", Versioned: time.Hour})
	euros := b.Stream(payments).JoinTable(byTime, func(_ string, cents, rate int64) (int64, error) {
		return cents * rate / 100, nil
	}, streams.TableJoin{Name: "convert", Grace: 10 * time.Second})
	minutes := euros.GroupByKey().WindowedBy(streams.Tumbling(time.Minute).Grace(5 * time.Second)).Final()
	minutes.Late().To(tooLate)
	minutes.Reduce(streams.WindowStore[string, int64]{Name: "taken"}, sum).
		Filter(func(_ streams.Windowed[string], cents int64) bool { return cents >= 500 }).
		To(large)
	return b.Build()
}

func kinds(g *streams.KGroupedStream[string, int64]) {
	count := func(name string, w streams.Windows) {
		g.WindowedBy(w).Count(streams.WindowStore[string, int64]{Name: name})
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		berlin = time.UTC
	}
	count("minutes", streams.Tumbling(time.Minute).Grace(5*time.Second))
	count("last-hour", streams.Hopping(time.Hour, time.Minute))
	count("bursts", streams.Sliding(10*time.Second).Grace(time.Second))
	count("days", streams.Calendar(streams.Day, berlin).Grace(time.Hour))
	count("since-2026", streams.Unlimited(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)))
	count("nights", streams.Custom(10*time.Hour, func(at time.Time, add func(start, end time.Time)) {
		begin := time.Date(at.Year(), at.Month(), at.Day(), 20, 0, 0, 0, time.UTC)
		if at.Hour() < 6 {
			begin = begin.AddDate(0, 0, -1)
		}
		if end := begin.Add(10 * time.Hour); !at.Before(begin) && at.Before(end) {
			add(begin, end)
		}
	}))
	g.WindowedBySession(streams.Session(30 * time.Minute).Grace(time.Minute)).Count(streams.SessionStore[string, int64]{Name: "visits"})
}

func countWindows(g *streams.KGroupedStream[string, int64]) {
	type mean struct{ Sum, N int64 }
	last10 := streams.Store[string, mean]{Name: "last-10", Value: serde.JSON[mean](), TTL: 24 * time.Hour}
	g.WindowedByCount(streams.CountWindows(10).Every(5)).
		Aggregate(last10, func() mean { return mean{} },
			func(_ string, v int64, m mean) (mean, error) { return mean{m.Sum + v, m.N + 1}, nil }).
		MapValues(func(_ string, m mean) (float64, error) { return float64(m.Sum) / float64(m.N), nil }).
		To(averages)
}

func cogroup(b *streams.Builder) {
	plus := func(_ string, v, sum int64) (int64, error) { return sum + v, nil }
	minus := func(_ string, v, sum int64) (int64, error) { return sum - v, nil }
	b.Stream(payments).GroupByKey().Cogroup(plus).
		Cogroup(b.Stream(refunds).GroupByKey(), minus).
		WindowedBy(streams.Tumbling(time.Hour)).Final().
		Aggregate(streams.WindowStore[string, int64]{Name: "balance"}, func() int64 { return 0 }).
		To(balance)
}

func suppressed(t *streams.KTable[string, int64]) {
	t.Suppress(streams.Suppression{Name: "calm", Wait: time.Minute, MaxRecords: 100_000}).To(calm)
}

func TestWindowsGuide(t *testing.T) {
	top, err := topology()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, top)
	second := func(n int64) streamstest.Option { return streamstest.At(time.Unix(n, 0)) }
	d.Send(rates, "USD", 50, second(0))
	d.Send(payments, "USD", 1000, second(20))
	d.Send(rates, "USD", 60, second(15)) // later than the payment, but it held before
	d.Send(payments, "GBP", 9000, second(25))
	d.Send(payments, "USD", 100, second(100)) // the first ones have waited long enough
	d.Send(payments, "USD", 200, second(120))
	d.Send(payments, "USD", 300, second(10)) // too late for the join to wait, and for its minute
	d.Send(payments, "USD", 1000, second(400))
	d.Send(payments, "USD", 0, second(1000))
	d.Send(payments, "USD", 0, second(2000))
	got := d.Read(large)
	if len(got) != 2 || got[0].Value != 600 || got[0].Key.Start.Unix() != 0 || got[1].Value != 600 || got[1].Key.Start.Unix() != 360 {
		t.Errorf("large minutes %+v, want 600 in the first and in the seventh", got)
	}
	if late := d.Read(tooLate); len(late) != 1 || late[0].Value != 150 {
		t.Errorf("late %+v, want the 150 cents of second 10", late)
	}
}

func TestWindowKindsOfTheGuide(t *testing.T) {
	d := drive(t, func(b *streams.Builder) {
		g := b.Stream(payments).GroupByKey()
		kinds(g)
		countWindows(g)
		suppressed(g.Reduce(streams.Store[string, int64]{Name: "sum"}, sum))
	})
	begin := time.Date(2026, 3, 1, 21, 0, 0, 0, time.UTC)
	for i := range int64(15) {
		d.Send(payments, "k", i, streamstest.At(begin.Add(time.Duration(i)*10*time.Second)))
	}
	for name, want := range map[string]int{"minutes": 1, "last-hour": 60, "days": 1, "since-2026": 1, "nights": 1} {
		if rows := d.WindowStore(streams.WindowStore[string, int64]{Name: name}).All(); len(rows) != want {
			t.Errorf("%s: %d windows that can still change, want %d", name, len(rows), want)
		}
	}
	if rows := d.SessionStore(streams.SessionStore[string, int64]{Name: "visits"}).All(); len(rows) != 1 || rows[0].Value != 15 {
		t.Errorf("visits %+v, want one of 15 records", rows)
	}
	if got := d.Read(averages); fmt.Sprint(valuesOf(got)) != "[4.5 9.5]" {
		t.Errorf("averages %v, want 4.5 and 9.5", valuesOf(got))
	}
	if got := d.Read(calm); fmt.Sprint(valuesOf(got)) != "[21 91]" {
		t.Errorf("calm %v, want the sums after a minute each", valuesOf(got))
	}
}

func TestCogroupOfTheGuide(t *testing.T) {
	d := drive(t, cogroup)
	d.Send(payments, "k", 100, at(1))
	d.Send(refunds, "k", 30, at(2))
	d.Send(payments, "k", 1, streamstest.At(time.Unix(3600, 0)))
	d.Send(refunds, "k", 1, streamstest.At(time.Unix(3600, 0)))
	if got := d.Read(balance); len(got) != 1 || got[0].Value != 70 {
		t.Errorf("balance %+v, want 70 for the first hour", got)
	}
}

func valuesOf[K, V any](records []streams.Record[K, V]) (out []V) {
	for _, r := range records {
		out = append(out, r.Value)
	}
	return out
}

// Every Go block of the page stands in this file, to the line.
func TestTheGuidesCodeIsCompiled(t *testing.T) {
	page, err := os.ReadFile("../../../docs/windows.md")
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile("windows_guide_test.go")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(page), "```go\n")[1:]
	for _, b := range blocks {
		code, _, _ := strings.Cut(b, "```")
		if !strings.Contains(string(own), code) {
			t.Errorf("not in this file:\n%s", code)
		}
	}
	if len(blocks) < 5 {
		t.Errorf("%d blocks, want all five", len(blocks))
	}
}
