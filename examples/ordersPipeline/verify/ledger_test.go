package verify

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/leatstream/leat/examples/ordersPipeline/shop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func order(id string, quantity int64) shop.Order {
	return shop.Order{ID: id, Country: "DE", Product: "lamp", Quantity: quantity, Total: 100 * quantity}
}

// goodBooks are those of a small shop in which everything agrees: two orders reserved, one rejected, one event
// published twice, one mail sent again.
func goodBooks() *Ledger {
	var l Ledger
	l.Delivered(shop.Restock{EventID: "initial-lamp", Product: "lamp", Quantity: 5})
	l.Delivered(shop.Restock{EventID: "initial-lamp", Product: "lamp", Quantity: 5}) // seeded twice
	l.Delivered(shop.Restock{EventID: "r1", Product: "lamp", Quantity: 1})
	for i, id := range []string{"a", "b", "c"} {
		o, reason := order(id, int64(i+1)), ""
		if id == "c" {
			reason = "sold out"
		}
		d := shop.Decide(o, reason)
		l.Accepted(id, d.Status)
		l.Published(o)
		l.Decided(d)
		l.Mailed(id, d.EventID, 1+i/2)
	}
	l.Published(order("a", 1))
	l.Stock("lamp", shop.Stock{Delivered: 1, OnHand: 1})
	l.Stock("lamp", shop.Stock{Delivered: 6, OnHand: 3, Reserved: 3})
	l.Total("DE", shop.Sales{Orders: 2, Revenue: 300})
	l.Windowed(Window{"DE", 0}, shop.Sales{Orders: 1, Revenue: 100})
	l.Windowed(Window{"DE", 10_000}, shop.Sales{Orders: 1, Revenue: 200})
	return &l
}

func TestGoodBooksAgree(t *testing.T) {
	r := goodBooks().Check()
	want := Report{
		Orders: 3, Reserved: 2, Rejected: 1, Decisions: 3, Republished: 1, Delivered: 6, OnHand: 3, Held: 3, Sold: 3,
		Revenue: 300, Booked: 300, Windows: 300, Mails: 3, Resent: 1,
	}
	if d := cmp.Diff(want, r); d != "" {
		t.Error(d)
	}
	var b strings.Builder
	r.Print(&b)
	if !strings.Contains(b.String(), "The books agree.") || strings.Contains(b.String(), "DISAGREE") {
		t.Error(b.String())
	}
}

func TestEveryKindOfDisagreementIsFound(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*Ledger)
		says  string
	}{
		"lost order":          {func(l *Ledger) { l.Accepted("d", shop.Pending) }, "order d was accepted but never published"},
		"no decision":         {func(l *Ledger) { l.Accepted("d", shop.Pending); l.Published(order("d", 1)) }, "order d has no decision"},
		"two decisions":       {func(l *Ledger) { l.Decided(shop.Decide(order("a", 1), "")) }, "order a has 2 decisions"},
		"stale status":        {func(l *Ledger) { l.Accepted("a", shop.Pending) }, "order service says PENDING"},
		"order from nowhere":  {func(l *Ledger) { l.Published(order("x", 1)) }, "order x was published but is not in the database"},
		"decision on nothing": {func(l *Ledger) { l.Decided(shop.Decide(order("x", 1), "no")) }, "order x was decided but never published"},
		"out of balance":      {func(l *Ledger) { l.Stock("lamp", shop.Stock{Delivered: 6, OnHand: 2, Reserved: 3}) }, "out of balance"},
		"oversold":            {func(l *Ledger) { l.Stock("lamp", shop.Stock{Delivered: 6, OnHand: -1, Reserved: 7}) }, "out of balance"},
		"reserved twice":      {func(l *Ledger) { l.Stock("lamp", shop.Stock{Delivered: 6, OnHand: 2, Reserved: 4}) }, "counts 4 reserved, the decisions say 3"},
		"delivered twice":     {func(l *Ledger) { l.Stock("lamp", shop.Stock{Delivered: 7, OnHand: 4, Reserved: 3}) }, "counts 7 delivered, the topic says 6"},
		"counted twice":       {func(l *Ledger) { l.Total("DE", shop.Sales{Orders: 3, Revenue: 400}) }, "revenue of DE"},
		"foreign revenue":     {func(l *Ledger) { l.Total("FR", shop.Sales{Orders: 1, Revenue: 1}) }, "revenue of FR"},
		"window lost":         {func(l *Ledger) { l.Windowed(Window{"DE", 0}, shop.Sales{}) }, "windows of DE"},
		"no mail":             {func(l *Ledger) { delete(l.mails, "a") }, "order a has 0 mails"},
		"two mails":           {func(l *Ledger) { l.Mailed("a", "other", 1) }, "order a has 2 mails"},
		"mail from nowhere":   {func(l *Ledger) { l.Mailed("x", "x", 1) }, "order x got a mail but no decision"},
		"refused mail":        {func(l *Ledger) { l.Refused(1) }, "refused for good"},
	} {
		t.Run(name, func(t *testing.T) {
			l := goodBooks()
			c.spoil(l)
			r := l.Check()
			if r.Agrees() || !strings.Contains(strings.Join(r.Problems, "\n"), c.says) {
				t.Errorf("want a problem with %q, got %q", c.says, r.Problems)
			}
			var b strings.Builder
			r.Print(&b)
			if !strings.Contains(b.String(), "The books DISAGREE") {
				t.Error(b.String())
			}
		})
	}
}

func TestProblemsAreBounded(t *testing.T) {
	var l Ledger
	for i := range 100 {
		l.Accepted(string(rune('a'+i)), shop.Pending)
	}
	if n := len(l.Check().Problems); n != maxProblems+1 {
		t.Errorf("%d problems listed", n)
	}
}
