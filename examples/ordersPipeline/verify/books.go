package verify

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/examples/ordersPipeline/email"
	"github.com/leatstream/leat/examples/ordersPipeline/feed"
	"github.com/leatstream/leat/examples/ordersPipeline/mailbox"
	"github.com/leatstream/leat/examples/ordersPipeline/orders"
	"github.com/leatstream/leat/examples/ordersPipeline/shop"
	"github.com/leatstream/leat/streams"
)

// Books are where the shop keeps them.
type Books struct {
	Opts   []kgo.Opt // how to reach the cluster
	Orders *orders.Store
	Emails *email.Ledger
	Mail   *mailbox.Box
}

// Check reads all books from their beginning and compares them. A shop that is still working has books that do not
// agree yet: Check looks again until they do, or until ctx is done, and returns the last report. It is used when no
// orders come in any more. When the books agree it looks once more, a moment later: a duplicate may come late.
func (b *Books) Check(ctx context.Context) (Report, error) {
	var l Ledger
	reader, err := feed.Open(ctx, b.Opts, kgo.NewOffset().AtStart(),
		feed.To(shop.Orders, func(_ string, o shop.Order, _ *kgo.Record) { l.Published(o) }),
		feed.To(shop.Decisions, func(_ string, d shop.Decision, _ *kgo.Record) { l.Decided(d) }),
		feed.To(shop.Restocks, func(_ string, r shop.Restock, _ *kgo.Record) { l.Delivered(r) }),
		feed.To(shop.Stocks, func(product string, s shop.Stock, _ *kgo.Record) { l.Stock(product, s) }),
		feed.To(shop.Totals, func(country string, s shop.Sales, _ *kgo.Record) { l.Total(country, s) }),
		feed.To(shop.Revenue, func(w streams.Windowed[string], s shop.Sales, _ *kgo.Record) {
			l.Windowed(Window{w.Key, w.Start.UnixMilli()}, s)
		}))
	if err != nil {
		return Report{}, fmt.Errorf("read the books: %w", err)
	}
	defer reader.Close()
	var last Report
	for agreed := 0; ; {
		err := reader.CatchUp(ctx)
		if err == nil {
			err = b.databases(ctx, &l)
		}
		if ctx.Err() != nil {
			return last, nil
		}
		if err != nil {
			return Report{}, fmt.Errorf("read the books: %w", err)
		}
		last = l.Check()
		// Not the shop's: what the shop writes and cannot read is missing from the books, which is a problem of its own.
		last.Foreign = reader.Undecodable()
		if last.Agrees() {
			agreed++
		} else {
			agreed = 0
		}
		if agreed == 2 {
			return last, nil
		}
		timer := time.NewTimer(250 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return last, nil
		}
	}
}

func (b *Books) databases(ctx context.Context, l *Ledger) error {
	l.forgetDatabases()
	if err := b.Orders.Each(ctx, func(o orders.Saved) { l.Accepted(o.ID, o.Status) }); err != nil {
		return err
	}
	if err := b.Mail.Each(ctx, func(m mailbox.Mail) { l.Mailed(m.OrderID, m.MessageID, m.Deliveries) }); err != nil {
		return err
	}
	_, refused, err := b.Emails.Counts(ctx)
	l.Refused(refused)
	return err
}
