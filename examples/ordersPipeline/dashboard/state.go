// Package dashboard is the shop's live page: orders per minute, revenue per country, rejects, the lag of each service,
// and the invariant of the stock. It looks at the topics from outside, as any other reader would, and pushes what it
// sees to browsers with server-sent events.
package dashboard

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/leatstream/leat/examples/ordersPipeline/shop"
)

const (
	bucket     = 10 * time.Second // of the charts; the same as analytics' windows
	buckets    = 30               // five minutes are shown
	kept       = 2 * buckets      // of each ring; older ones are dropped
	latestKept = 12               // decisions in the feed
)

// Snapshot is what the page shows, as JSON. All arrays of the charts run over the same buckets.
type Snapshot struct {
	At       int64              `json:"at"`     // milliseconds since 1970
	Times    []int64            `json:"times"`  // start of each bucket, milliseconds since 1970
	Orders   []int64            `json:"orders"` // orders per minute
	Rejects  []int64            `json:"rejects"`
	Revenue  map[string][]int64 `json:"revenue"` // minor units per bucket, by country
	Totals   []Total            `json:"totals"`
	Stock    []Product          `json:"stock"`
	Balanced bool               `json:"balanced"`
	Sums     Sums               `json:"sums"`
	Lag      []Lag              `json:"lag"`
	Latest   []shop.Decision    `json:"latest"` // newest first
}

// Sums are the figures above the charts.
type Sums struct {
	OrdersPerMinute int64 `json:"orders_per_minute"` // over the last minute
	Reserved        int64 `json:"reserved"`          // all time, as analytics has them
	Revenue         int64 `json:"revenue"`           // minor units, all time
	Rejects         int64 `json:"rejects"`           // of the time shown
	Delivered       int64 `json:"delivered"`
	OnHand          int64 `json:"on_hand"`
	Held            int64 `json:"held"`
	Mails           int64 `json:"mails"` // -1: not known here
}

// Total is the revenue of a country.
type Total struct {
	Country string `json:"country"`
	Orders  int64  `json:"orders"`
	Revenue int64  `json:"revenue"`
}

// Product is the stock of a product.
type Product struct {
	SKU string `json:"sku"`
	shop.Stock
	Balanced bool `json:"balanced"`
}

// Lag is how many records a group has before it.
type Lag struct {
	Service string `json:"service"`
	Group   string `json:"group"`
	Records int64  `json:"records"` // -1: not known
}

// state is what the feed has told so far. It is used by one goroutine.
type state struct {
	orders  map[int64]int64 // bucket -> orders
	rejects map[int64]int64
	revenue map[string]map[int64]int64 // country -> window -> minor units
	totals  map[string]shop.Sales
	stock   map[string]shop.Stock
	latest  []shop.Decision // newest last
}

func newState() *state {
	return &state{
		orders: map[int64]int64{}, rejects: map[int64]int64{}, revenue: map[string]map[int64]int64{},
		totals: map[string]shop.Sales{}, stock: map[string]shop.Stock{},
	}
}

func bucketOf(t time.Time) int64 { return t.Truncate(bucket).UnixMilli() }

func (s *state) order(o shop.Order) { s.orders[bucketOf(o.PlacedAt)]++ }

func (s *state) decision(d shop.Decision) {
	if d.Status == shop.Rejected {
		s.rejects[bucketOf(d.PlacedAt)]++
	}
	d.Customer, d.Email = "", "" // nothing of a customer goes to the page
	s.latest = append(s.latest, d)
	if len(s.latest) > 2*latestKept {
		s.latest = slices.Delete(s.latest, 0, len(s.latest)-latestKept)
	}
}

func (s *state) window(country string, start time.Time, sales shop.Sales) {
	if s.revenue[country] == nil {
		s.revenue[country] = map[int64]int64{}
	}
	s.revenue[country][start.UnixMilli()] = sales.Revenue
}

// forget drops buckets that are not shown any more, so that a page left open for days costs no more than a fresh one.
func (s *state) forget(now time.Time) {
	oldest := now.Add(-kept * bucket).UnixMilli()
	old := func(at, _ int64) bool { return at < oldest }
	maps.DeleteFunc(s.orders, old)
	maps.DeleteFunc(s.rejects, old)
	for _, windows := range s.revenue {
		maps.DeleteFunc(windows, old)
	}
}

// snapshot draws the page's figures as of now.
func (s *state) snapshot(now time.Time, lag []Lag, mails int64) Snapshot {
	s.forget(now)
	snap := Snapshot{At: now.UnixMilli(), Revenue: map[string][]int64{}, Lag: lag, Balanced: true, Sums: Sums{Mails: mails},
		Totals: []Total{}, Stock: []Product{}, Latest: []shop.Decision{}}
	perMinute := int64(time.Minute / bucket)
	last := now.Truncate(bucket)
	for i := buckets - 1; i >= 0; i-- {
		at := last.Add(-time.Duration(i) * bucket).UnixMilli()
		snap.Times = append(snap.Times, at)
		snap.Orders = append(snap.Orders, s.orders[at]*perMinute)
		snap.Rejects = append(snap.Rejects, s.rejects[at]*perMinute)
		snap.Sums.Rejects += s.rejects[at]
		for country, windows := range s.revenue {
			snap.Revenue[country] = append(snap.Revenue[country], windows[at])
		}
	}
	for i := int64(1); i <= perMinute; i++ { // whole buckets only: the current one is still growing
		snap.Sums.OrdersPerMinute += s.orders[last.Add(-time.Duration(i)*bucket).UnixMilli()]
	}
	for _, country := range slices.Sorted(maps.Keys(s.totals)) {
		t := s.totals[country]
		snap.Totals = append(snap.Totals, Total{country, t.Orders, t.Revenue})
		snap.Sums.Reserved += t.Orders
		snap.Sums.Revenue += t.Revenue
	}
	slices.SortStableFunc(snap.Totals, func(a, b Total) int { return cmp.Compare(b.Revenue, a.Revenue) })
	for _, sku := range slices.Sorted(maps.Keys(s.stock)) {
		st := s.stock[sku]
		snap.Stock = append(snap.Stock, Product{sku, st, st.Balanced()})
		snap.Balanced = snap.Balanced && st.Balanced()
		snap.Sums.Delivered += st.Delivered
		snap.Sums.OnHand += st.OnHand
		snap.Sums.Held += st.Reserved
	}
	for i := len(s.latest) - 1; i >= 0 && len(snap.Latest) < latestKept; i-- {
		snap.Latest = append(snap.Latest, s.latest[i])
	}
	return snap
}
