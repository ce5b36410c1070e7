// Package verify proves that the shop's books agree. It is told everything that the topics and the databases say, and
// holds it against each other:
//
//   - every accepted order was published, and nothing else was;
//   - every order has exactly one decision, and the order service knows it;
//   - stock adds up, per product: delivered = on hand + reserved, reserved is what the RESERVED decisions took, and no
//     product went below zero;
//   - revenue, per country, is the sum over the RESERVED orders, and the windows add up to it;
//   - every decision has one mail; one that had to be sent again came under the same Message-ID.
package verify

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/leatstream/leat/examples/ordersPipeline/shop"
)

// Ledger is what the books say. Fill it by its methods and ask Check. The zero value is an empty shop.
type Ledger struct {
	accepted  map[string]string // order id -> status, from the order service's database
	published map[string]int    // order id -> records in "orders"
	decisions map[string][]shop.Decision
	deliver   map[string]shop.Restock // event id -> delivery
	stock     map[string]shop.Stock   // product -> inventory's latest
	totals    map[string]shop.Sales   // country -> analytics' latest total
	windows   map[Window]shop.Sales   // latest of each window
	mails     map[string][]mailed     // order id -> mails
	refused   int64
}

// Window is one window of one country.
type Window struct {
	Country     string
	StartMillis int64
}

type mailed struct {
	messageID  string
	deliveries int
}

func put[K comparable, V any](m *map[K]V, k K, v V) {
	if *m == nil {
		*m = map[K]V{}
	}
	(*m)[k] = v
}

// Accepted adds an order of the order service's database with its status there.
func (l *Ledger) Accepted(orderID, status string) { put(&l.accepted, orderID, status) }

// Published adds a record of the topic "orders". The relay publishes at least once.
func (l *Ledger) Published(o shop.Order) { put(&l.published, o.ID, l.published[o.ID]+1) }

// Decided adds a record of the topic "order-decisions".
func (l *Ledger) Decided(d shop.Decision) {
	put(&l.decisions, d.OrderID, append(l.decisions[d.OrderID], d))
}

// Delivered adds a record of the topic "restocks".
func (l *Ledger) Delivered(r shop.Restock) { put(&l.deliver, r.EventID, r) }

// Stock sets what inventory knows of a product; a later call replaces an earlier one.
func (l *Ledger) Stock(product string, s shop.Stock) { put(&l.stock, product, s) }

// Total sets analytics' total of a country; a later call replaces an earlier one.
func (l *Ledger) Total(country string, s shop.Sales) { put(&l.totals, country, s) }

// Windowed sets the result of a window; a later call replaces an earlier one.
func (l *Ledger) Windowed(w Window, s shop.Sales) { put(&l.windows, w, s) }

// Mailed adds a mail of the mailbox, and how often it came.
func (l *Ledger) Mailed(orderID, messageID string, deliveries int) {
	put(&l.mails, orderID, append(l.mails[orderID], mailed{messageID, deliveries}))
}

// Refused sets how many mails the mail server refused for good.
func (l *Ledger) Refused(n int64) { l.refused = n }

// forgetDatabases drops what is read anew as a whole each time.
func (l *Ledger) forgetDatabases() { l.accepted, l.mails, l.refused = nil, nil, 0 }

// Report is the outcome of a check.
type Report struct {
	Orders, Reserved, Rejected int64
	Decisions                  int64 // records, so more than the orders if one was decided twice
	Republished                int64 // records of "orders" beyond one per order: harmless, and counted
	Delivered, OnHand, Held    int64 // units; Held is reserved stock
	Sold                       int64 // units of RESERVED orders
	Revenue, Booked, Windows   int64 // minor units: of RESERVED orders, of analytics' totals, of its windows
	Mails, Resent, Refused     int64 // mails, deliveries beyond one per mail, mails refused for good
	Foreign                    int64 // records in the shop's topics that are not of its kind
	Problems                   []string
}

// maxProblems bounds a report of a shop in which nothing agrees.
const maxProblems = 20

// Agrees reports whether the books agree.
func (r Report) Agrees() bool { return len(r.Problems) == 0 }

func (r *Report) problem(format string, args ...any) {
	switch {
	case len(r.Problems) < maxProblems:
		r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
	case len(r.Problems) == maxProblems:
		r.Problems = append(r.Problems, "… and more")
	}
}

// Check compares everything with everything.
func (l *Ledger) Check() Report {
	var r Report
	l.checkOrders(&r)
	sold, sales := l.checkDecisions(&r)
	l.checkStock(&r, sold)
	l.checkSales(&r, sales)
	l.checkMails(&r)
	return r
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

func (l *Ledger) checkOrders(r *Report) {
	r.Orders = int64(len(l.accepted))
	for _, id := range sorted(l.accepted) {
		n := l.published[id]
		if n == 0 {
			r.problem("order %s was accepted but never published", id)
		}
		r.Republished += int64(max(0, n-1))
		switch got := l.decisions[id]; {
		case len(got) == 0:
			r.problem("order %s has no decision", id)
		case l.accepted[id] != got[0].Status:
			r.problem("order %s was %s by inventory, the order service says %s", id, got[0].Status, l.accepted[id])
		}
	}
	for _, id := range sorted(l.published) {
		if _, ok := l.accepted[id]; !ok {
			r.problem("order %s was published but is not in the database", id)
		}
	}
}

// checkDecisions returns the units sold per product, and the sales per country, by the RESERVED decisions.
func (l *Ledger) checkDecisions(r *Report) (sold map[string]int64, sales map[string]shop.Sales) {
	sold, sales = map[string]int64{}, map[string]shop.Sales{}
	for _, id := range sorted(l.decisions) {
		ds := l.decisions[id]
		r.Decisions += int64(len(ds))
		if len(ds) > 1 {
			r.problem("order %s has %d decisions", id, len(ds))
		}
		if l.published[id] == 0 {
			r.problem("order %s was decided but never published", id)
		}
		d := ds[0]
		if d.Status != shop.Reserved {
			r.Rejected++
			continue
		}
		r.Reserved++
		r.Sold += d.Quantity
		r.Revenue += d.Total
		sold[d.Product] += d.Quantity
		s := sales[d.Country]
		sales[d.Country] = shop.Sales{Orders: s.Orders + 1, Revenue: s.Revenue + d.Total}
	}
	return sold, sales
}

func (l *Ledger) checkStock(r *Report, sold map[string]int64) {
	delivered := map[string]int64{}
	for _, d := range l.deliver {
		delivered[d.Product] += d.Quantity
	}
	products := map[string]bool{}
	for p := range delivered {
		products[p] = true
	}
	for p := range l.stock {
		products[p] = true
	}
	for _, p := range sorted(products) {
		s := l.stock[p]
		r.Delivered += s.Delivered
		r.OnHand += s.OnHand
		r.Held += s.Reserved
		if !s.Balanced() {
			r.problem("stock of %s is out of balance: delivered %d, on hand %d, reserved %d", p, s.Delivered, s.OnHand, s.Reserved)
		}
		if s.Delivered != delivered[p] {
			r.problem("stock of %s counts %d delivered, the topic says %d", p, s.Delivered, delivered[p])
		}
		if s.Reserved != sold[p] {
			r.problem("stock of %s counts %d reserved, the decisions say %d", p, s.Reserved, sold[p])
		}
	}
}

func (l *Ledger) checkSales(r *Report, sales map[string]shop.Sales) {
	windows := map[string]shop.Sales{}
	for w, s := range l.windows {
		sum := windows[w.Country]
		windows[w.Country] = shop.Sales{Orders: sum.Orders + s.Orders, Revenue: sum.Revenue + s.Revenue}
		r.Windows += s.Revenue
	}
	countries := map[string]bool{}
	for c, s := range l.totals {
		countries[c] = true
		r.Booked += s.Revenue
	}
	for c := range sales {
		countries[c] = true
	}
	for _, c := range sorted(countries) {
		if l.totals[c] != sales[c] {
			r.problem("revenue of %s is booked as %+v, the decisions say %+v", c, l.totals[c], sales[c])
		}
		if windows[c] != sales[c] {
			r.problem("the windows of %s add up to %+v, the decisions say %+v", c, windows[c], sales[c])
		}
	}
}

func (l *Ledger) checkMails(r *Report) {
	r.Refused = l.refused
	if l.refused > 0 {
		r.problem("%d mails were refused for good", l.refused)
	}
	for _, id := range sorted(l.mails) {
		if len(l.decisions[id]) == 0 {
			r.problem("order %s got a mail but no decision", id)
		}
		for _, m := range l.mails[id] {
			r.Mails++
			r.Resent += int64(max(0, m.deliveries-1))
		}
	}
	for _, id := range sorted(l.decisions) {
		if n := len(l.mails[id]); n != 1 {
			ids := make([]string, n)
			for i, m := range l.mails[id] {
				ids[i] = m.messageID
			}
			r.problem("order %s has %d mails%s", id, n, strings.Join(append([]string{""}, ids...), " "))
		}
	}
}
