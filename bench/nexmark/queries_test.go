package nexmark

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// Each query is compared with a plain calculation over all events. They happen at 100 a second, from half a minute before
// midnight to half a minute after it.

const (
	eventCount = 6000
	eventRate  = 100
	tick       = 250 * time.Millisecond // of the clock of q12, each 100 events
)

var began = streamstest.Start.Add(-30 * time.Second)

func allEvents() []Event {
	g := NewGenerator(1, began.UnixMilli(), eventRate)
	all := make([]Event, eventCount)
	for i := range all {
		all[i] = g.Event(int64(i))
	}
	return all
}

func bidsIn(events []Event) (all []*Bid) {
	for _, e := range events {
		if e.Bid != nil {
			all = append(all, e.Bid)
		}
	}
	return all
}

// watched counts.
type watched struct{ events, sent, arrived, late int }

func (w *watched) Event()   { w.events++ }
func (w *watched) Sent()    { w.sent++ }
func (w *watched) Arrived() { w.arrived++ }
func (w *watched) Late()    { w.late++ }

// run sends all events through a query, on four partitions of which the last is always a second behind the first, until every
// window has closed.
func run(t *testing.T, query string, json bool, events []Event) (*streamstest.Driver, *Config) {
	t.Helper()
	var d *streamstest.Driver
	w := &watched{}
	c := &Config{In: "events", Out: "results", Partitions: 3, JSON: json, Watch: w, Now: func() time.Time { return d.Now() }}
	top, err := Build(query, *c)
	if err != nil {
		t.Fatal(err)
	}
	d = streamstest.New(t, top, streams.Config{IdleAdvance: time.Second})
	d.SetPartitions("events", 4)
	if query == "q12" {
		d.SetClock(began)
	} else {
		d.SetClock(began.Add(eventCount / eventRate * time.Second))
	}
	in := streams.Topic[[]byte, Event]{Name: "events", Value: Events(json)}
	for i, chunk := range slices.Collect(slices.Chunk(events, 100)) {
		d.Together(func() {
			for partition := range 4 {
				for n, e := range chunk {
					if (i+n)%4 == partition {
						d.Send(in, nil, e, streamstest.At(time.UnixMilli(e.Time())), streamstest.Partition(partition))
					}
				}
			}
		})
		if query == "q12" {
			d.Advance(tick)
		}
	}
	for range 10 {
		d.Advance(5 * time.Second)
	}
	if w.events != len(events) || w.sent != w.arrived || w.late != 0 || d.Dropped().Late != 0 {
		t.Errorf("%d events, %d records sent, %d arrived, %d late (%+v)", w.events, w.sent, w.arrived, w.late, d.Dropped())
	}
	return d, c
}

// last are the last results of each key.
func last[K comparable, V any](d *streamstest.Driver, from streams.Topic[K, V]) map[K]V {
	all := make(map[K]V)
	for _, r := range d.Read(from) {
		all[r.Key] = r.Value
	}
	return all
}

// once are the results of each key, each of which has one.
func once[K comparable, V any](t *testing.T, d *streamstest.Driver, from streams.Topic[K, V]) map[K]V {
	t.Helper()
	all := make(map[K]V)
	for _, r := range d.Read(from) {
		if _, twice := all[r.Key]; twice {
			t.Errorf("two results of %+v", r.Key)
		}
		all[r.Key] = r.Value
	}
	return all
}

func expect[K comparable, V any](t *testing.T, got, want map[K]V) {
	t.Helper()
	if len(want) == 0 {
		t.Error("the test has no results to compare")
	}
	wrong := 0
	for k := range maps.Keys(want) {
		if v, ok := got[k]; (!ok || !reflect.DeepEqual(v, want[k])) && wrong < 5 {
			t.Errorf("%+v: got %+v (%v), want %+v", k, v, ok, want[k])
			wrong++
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d results, want %d", len(got), len(want))
	}
}

// both runs a test with each format.
func both(t *testing.T, f func(t *testing.T, json bool)) {
	t.Run("compact", func(t *testing.T) { f(t, false) })
	t.Run("json", func(t *testing.T) { f(t, true) })
}

// texts are values in an order that does not depend on that of partitions.
func texts[V any](all []*V) []string {
	var out []string
	for _, v := range all {
		out = append(out, fmt.Sprintf("%+v", *v))
	}
	slices.Sort(out)
	return out
}

func results(d *streamstest.Driver, c *Config) (all []*Bid) {
	for _, r := range d.Read(c.bidResults()) {
		all = append(all, r.Value)
	}
	return all
}

func TestQ0(t *testing.T) {
	both(t, func(t *testing.T, json bool) {
		events := allEvents()
		d, c := run(t, "q0", json, events)
		if got, want := texts(results(d, c)), texts(bidsIn(events)); !slices.Equal(got, want) {
			t.Errorf("got %d bids, want these %d", len(got), len(want))
		}
	})
}

func TestQ1(t *testing.T) {
	events := allEvents()
	d, c := run(t, "q1", false, events)
	want := bidsIn(allEvents())
	for _, b := range want {
		b.Price = b.Price * 908 / 1000
	}
	if got := texts(results(d, c)); !slices.Equal(got, texts(want)) {
		t.Errorf("got %d bids, want these %d in euros", len(got), len(want))
	}
}

func TestQ2(t *testing.T) {
	events := allEvents()
	d, c := run(t, "q2", false, events)
	var got, want []string
	for _, r := range d.Read(c.q2Results()) {
		got = append(got, fmt.Sprint(r.Key, " ", r.Value))
	}
	for _, b := range bidsIn(events) {
		if b.Auction == 1107 || b.Auction == 1230 || b.Auction == 1353 {
			want = append(want, fmt.Sprint(b.Auction, " ", b.Price))
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if len(want) == 0 || !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestQ3(t *testing.T) {
	events := allEvents()
	d, c := run(t, "q3", true, events)
	people := map[int64]*Person{}
	for _, e := range events {
		if e.Person != nil {
			people[e.Person.ID] = e.Person
		}
	}
	want := map[int64]Seller{}
	for _, e := range events {
		if a := e.Auction; a != nil && a.Category == 10 {
			if p := people[a.Seller]; p != nil && slices.Contains([]string{"OR", "ID", "CA"}, p.State) {
				want[a.ID] = Seller{p.Name, p.City, p.State}
			}
		}
	}
	expect(t, last(d, c.q3Results()), want)
}

// winnersOf are the auctions that have a bid in time, with the best one.
func winnersOf(events []Event) map[int64]Winner {
	byAuction := map[int64][]*Bid{}
	for _, b := range bidsIn(events) {
		byAuction[b.Auction] = append(byAuction[b.Auction], b)
	}
	all := map[int64]Winner{}
	for _, e := range events {
		if e.Auction == nil {
			continue
		}
		bids := slices.DeleteFunc(byAuction[e.Auction.ID], func(b *Bid) bool { return b.Time < e.Auction.Time || b.Time > e.Auction.Expires })
		if len(bids) > 0 {
			best := slices.MinFunc(bids, func(a, b *Bid) int { return cmp.Or(cmp.Compare(b.Price, a.Price), cmp.Compare(a.Time, b.Time)) })
			all[e.Auction.ID] = Winner{Auction: e.Auction, Bid: best}
		}
	}
	return all
}

func TestQ4(t *testing.T) {
	events := allEvents()
	d, c := run(t, "q4", false, events)
	prices := map[int64][]int64{}
	for _, w := range winnersOf(events) {
		prices[w.Auction.Category] = append(prices[w.Auction.Category], w.Bid.Price)
	}
	want := map[int64]int64{}
	for category, all := range prices {
		for _, p := range all {
			want[category] += p
		}
		want[category] /= int64(len(all))
	}
	expect(t, last(d, c.q4Results()), want)
}

func TestQ9(t *testing.T) {
	both(t, func(t *testing.T, json bool) {
		events := allEvents()
		d, c := run(t, "q9", json, events)
		expect(t, last(d, c.q9Results()), winnersOf(events))
	})
}

func TestQ5(t *testing.T) {
	both(t, func(t *testing.T, json bool) {
		events := allEvents()
		for i, b := range bidsIn(events[len(events)-200:]) { // two auctions share the last window
			b.Auction = 5000 + int64(i%2)
		}
		d, c := run(t, "q5", json, events)
		type place struct{ window, auction int64 }
		counts := map[place]int64{}
		for _, b := range bidsIn(events) {
			for start := b.Time - b.Time%2000; start > b.Time-10_000; start -= 2000 {
				counts[place{start, b.Auction}]++
			}
		}
		want := map[int64]Hot{}
		for p, n := range counts {
			if h := want[p.window]; n > h.Bids {
				want[p.window] = Hot{n, []int64{p.auction}}
			} else if n == h.Bids {
				want[p.window] = Hot{n, append(h.Auctions, p.auction)}
			}
		}
		got := last(d, c.q5Results())
		for _, all := range []map[int64]Hot{got, want} {
			for _, h := range all {
				slices.Sort(h.Auctions)
			}
		}
		if h := want[began.UnixMilli()+58_000]; len(h.Auctions) != 2 {
			t.Errorf("the last window has the hottest auctions %v, want two", h.Auctions)
		}
		expect(t, got, want)
	})
}

func TestQ7(t *testing.T) {
	events := allEvents()
	for _, i := range []int{370, 374, 470} { // of one price in one window, two of them in one partition
		events[i].Bid.Price = 200_000_000
	}
	d, c := run(t, "q7", false, events)
	highest := map[int64][]*Bid{}
	for _, b := range bidsIn(events) {
		at := b.Time - b.Time%10_000
		switch top := highest[at]; {
		case top == nil || top[0].Price < b.Price:
			highest[at] = []*Bid{b}
		case top[0].Price == b.Price:
			highest[at] = append(top, b)
		}
	}
	got, want := map[int64][]string{}, map[int64][]string{}
	for at, top := range highest {
		want[at] = texts(top)
	}
	for at, top := range last(d, c.q7Results()) {
		got[at] = texts(top.Bids)
	}
	if len(want[began.UnixMilli()]) != 3 {
		t.Errorf("the first window has the highest bids %v, want three", want[began.UnixMilli()])
	}
	expect(t, got, want)
}

func span(key, from, to int64) streams.Windowed[int64] {
	return streams.Windowed[int64]{Key: key, Start: time.UnixMilli(from).UTC(), End: time.UnixMilli(to).UTC()}
}

func TestQ8(t *testing.T) {
	events := allEvents()
	d, c := run(t, "q8", false, events)
	want := map[streams.Windowed[int64]]string{}
	for _, p := range events {
		if p.Person == nil {
			continue
		}
		from := p.Time() - p.Time()%10_000
		for _, a := range events {
			if a.Auction != nil && a.Auction.Seller == p.Person.ID && a.Time() >= from && a.Time() < from+10_000 {
				want[span(p.Person.ID, from, from+10_000)] = p.Person.Name
			}
		}
	}
	expect(t, once(t, d, c.q8Results()), want)
}

func TestQ11(t *testing.T) {
	events := allEvents()
	d, c := run(t, "q11", false, events)
	times := map[int64][]int64{}
	for _, b := range bidsIn(events) {
		times[b.Bidder] = append(times[b.Bidder], b.Time) // in order
	}
	want := map[streams.Windowed[int64]]int64{}
	for bidder, all := range times {
		from := 0
		for i, at := range all {
			if i == len(all)-1 || all[i+1]-at > 10_000 {
				want[span(bidder, all[from], at)] = int64(i + 1 - from)
				from = i + 1
			}
		}
	}
	if len(want) <= len(times) {
		t.Error("no user has two sessions")
	}
	expect(t, once(t, d, c.q11Results()), want)
}

func TestQ12(t *testing.T) {
	events := allEvents()
	d, c := run(t, "q12", false, events)
	want := map[streams.Windowed[int64]]int64{}
	for i, e := range events {
		if e.Bid != nil {
			at := began.UnixMilli() + int64(i/100)*tick.Milliseconds()
			from := at - at%10_000
			want[span(e.Bid.Bidder, from, from+10_000)]++
		}
	}
	expect(t, once(t, d, c.q12Results()), want)
}

func TestQ17(t *testing.T) {
	events := allEvents()
	d, c := run(t, "q17", true, events)
	const day = 24 * 60 * 60 * 1000
	prices := map[streams.Windowed[int64]][]int64{}
	for _, b := range bidsIn(events) {
		from := b.Time - b.Time%day
		k := span(b.Auction, from, from+day)
		prices[k] = append(prices[k], b.Price)
	}
	days := map[int64]bool{}
	want := map[streams.Windowed[int64]]Stats{}
	for k, all := range prices {
		days[k.Start.UnixMilli()] = true
		s := Stats{Bids: int64(len(all)), Min: slices.Min(all), Max: slices.Max(all)}
		for _, p := range all {
			s.Sum += p
			if p < 10_000 {
				s.Low++
			}
			if p >= 1_000_000 {
				s.High++
			}
		}
		s.Middle = s.Bids - s.Low - s.High
		s.Average = s.Sum / s.Bids
		want[k] = s
	}
	if len(days) != 2 {
		t.Errorf("the bids are of %d days, want two", len(days))
	}
	expect(t, last(d, c.q17Results()), want)
}

func TestQ18(t *testing.T) {
	events := allEvents()
	d, c := run(t, "q18", false, events)
	want := map[Bidding]*Bid{}
	for _, b := range bidsIn(events) {
		want[Bidding{Bidder: b.Bidder, Auction: b.Auction}] = b
	}
	expect(t, last(d, c.q18Results()), want)
}

func TestQ19(t *testing.T) {
	events := allEvents()
	d, c := run(t, "q19", true, events)
	got, want := map[int64][]int64{}, map[int64][]int64{}
	for _, b := range bidsIn(events) {
		want[b.Auction] = append(want[b.Auction], b.Price)
	}
	full := 0
	for auction, prices := range want {
		slices.SortFunc(prices, func(a, b int64) int { return cmp.Compare(b, a) })
		if len(prices) > 10 {
			full++
		}
		want[auction] = prices[:min(10, len(prices))]
	}
	for auction, top := range last(d, c.q19Results()) {
		for _, b := range top.Bids {
			if b.Auction != auction {
				t.Errorf("auction %d has a bid on %d", auction, b.Auction)
			}
			got[auction] = append(got[auction], b.Price)
		}
	}
	if full < 10 {
		t.Errorf("%d auctions have more than ten bids", full)
	}
	expect(t, got, want)
}

func TestQ20(t *testing.T) {
	events := allEvents()
	d, c := run(t, "q20", false, events)
	auctions := map[int64]*Auction{}
	for _, e := range events {
		if e.Auction != nil && e.Auction.Category == 10 {
			auctions[e.Auction.ID] = e.Auction
		}
	}
	var got, want []string
	before := 0
	for _, b := range bidsIn(events) {
		if a := auctions[b.Auction]; a != nil {
			want = append(want, fmt.Sprintf("%+v %+v", *b, *a))
			if b.Time < a.Time {
				before++
			}
		}
	}
	for _, r := range d.Read(c.q20Results()) {
		got = append(got, fmt.Sprintf("%+v %+v", *r.Value.Bid, *r.Value.Auction))
	}
	slices.Sort(got)
	slices.Sort(want)
	if before == 0 || !slices.Equal(got, want) {
		t.Errorf("got %d bids with their auctions, want these %d, of which %d came before", len(got), len(want), before)
	}
}

func TestEveryQueryIsListedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, q := range Queries() {
		if seen[q.Name] || q.What == "" || q.Flink <= 0 {
			t.Errorf("query %q: twice, or without a word, or without Flink's figure", q.Name)
		}
		seen[q.Name] = true
		for _, json := range []bool{true, false} {
			if _, err := Build(q.Name, Config{In: "in", Out: "out", JSON: json}); err != nil {
				t.Errorf("%s: %v", q.Name, err)
			}
		}
	}
	if _, err := Build("q99", Config{}); err == nil {
		t.Error("a query of no name was built")
	}
}

// TestEveryResultSurvivesItsFormat: what is kept in stores and sent between is read as it was written.
func TestEveryResultSurvivesItsFormat(t *testing.T) {
	g := NewGenerator(5, 0, 10)
	a, b1, b2 := g.Event(1).Auction, g.Event(10).Bid, g.Event(11).Bid
	survives(t, countSerde(), Count{3, 4})
	survives(t, hotSerde(), Hot{3, []int64{1, -2}})
	survives(t, highestSerde(), Highest{[]*Bid{b1, b2}})
	survives(t, newcomerSerde(), newcomer{"Ada", true, false})
	survives(t, statsSerde(), Stats{1, 2, 3, 4, 5, 6, 7, 8})
	survives(t, sellerSerde(), Seller{"Ada", "Bend", "OR"})
	survives(t, winnerSerde(), Winner{Auction: a, Bid: b1})
	survives(t, winnerSerde(), Winner{early: []*Bid{b1, b2}})
	survives(t, meanSerde(), mean{-3, 4})
	survives(t, auctionSerde(), a)
	survives(t, expandedSerde(), Expanded{b1, a})
	survives[Bidding](t, biddings{}, Bidding{1, -2})
}

func survives[T any](t *testing.T, s serde.Serde[T], v T) {
	t.Helper()
	data, err := s.Append([]byte{}, serde.Place{}, v)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := s.Decode(serde.Place{}, data); err != nil || !reflect.DeepEqual(got, v) {
		t.Errorf("got %+v, %v, want %+v", got, err, v)
	}
}
