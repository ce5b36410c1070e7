package nexmark

import (
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

// Seller is a person as q3 shows it.
type Seller struct{ Name, City, State string }

func sellerSerde() serde.Serde[Seller] {
	return compact("seller",
		func(dst []byte, v Seller) []byte {
			return appendText(appendText(appendText(dst, v.Name), v.City), v.State)
		},
		func(f *fields) Seller { return Seller{f.text(), f.text(), f.text()} })
}

// q3Results are sellers by auction.
func (c *Config) q3Results() streams.Topic[int64, Seller] {
	return streams.Topic[int64, Seller]{Name: c.Out, Value: c.result(sellerSerde())}
}

func localItems(b *streams.Builder, c *Config) {
	events := c.events(b)
	sellers := c.between(events.
		Filter(func(_ []byte, e Event) bool {
			return e.Person != nil && (e.Person.State == "OR" || e.Person.State == "ID" || e.Person.State == "CA")
		}).
		Map(func(_ []byte, e Event) (int64, Seller, error) {
			return e.Person.ID, Seller{e.Person.Name, e.Person.City, e.Person.State}, nil
		}), "sellers-by-id", sellerSerde()).
		ToTable(streams.Store[int64, Seller]{Name: "sellers"})
	items := c.between(events.
		Filter(func(_ []byte, e Event) bool { return e.Auction != nil && e.Auction.Category == 10 }).
		Map(func(_ []byte, e Event) (int64, int64, error) { return e.Auction.ID, e.Auction.Seller, nil }), "sellers-by-auction", serde.Int64).
		ToTable(streams.Store[int64, int64]{Name: "items"})
	items.JoinForeign("seller-of", sellers,
		func(_, seller int64) (int64, bool) { return seller, true },
		func(_, _ int64, s Seller) (Seller, error) { return s, nil }).
		To(c.q3Results())
}

// Expanded is a bid with its auction.
type Expanded struct {
	Bid     *Bid
	Auction *Auction
}

func expandedSerde() serde.Serde[Expanded] {
	return compact("expanded", func(dst []byte, v Expanded) []byte { return appendAuction(appendBid(dst, v.Bid), v.Auction) },
		func(f *fields) Expanded { return Expanded{readBid(f), readAuction(f)} })
}

// q20Results are bids with their auctions, by auction.
func (c *Config) q20Results() streams.Topic[int64, Expanded] {
	return streams.Topic[int64, Expanded]{Name: c.Out, Value: c.result(expandedSerde())}
}

// bidding is where the auction of a bid lies: nobody bids on one that was opened a minute ago, and few on one that is still to come.
var bidding = streams.JoinWindow{Before: time.Minute, After: 10 * time.Second, Grace: grace}

func expandBids(b *streams.Builder, c *Config) {
	events := c.events(b)
	auctions := c.between(events.
		Filter(func(_ []byte, e Event) bool { return e.Auction != nil && e.Auction.Category == 10 }).
		Map(func(_ []byte, e Event) (int64, *Auction, error) { return e.Auction.ID, e.Auction, nil }), "auctions-by-id", auctionSerde())
	bids := c.between(bidsOf(events).SelectKey(func(_ []byte, b *Bid) int64 { return b.Auction }), "bids-by-auction", bidSerde())
	bids.Join("expanded", auctions, bidding, func(_ int64, b *Bid, a *Auction) (Expanded, error) { return Expanded{b, a}, nil }).
		To(c.q20Results())
}

// Winner is an auction with the highest of the bids that came while it was open, the earliest of several.
type Winner struct {
	Auction *Auction // nil: not known yet
	Bid     *Bid     // nil: none so far
	early   []*Bid   // that came before their auction
}

func winnerSerde() serde.Serde[Winner] {
	return compact("winner",
		func(dst []byte, v Winner) []byte {
			dst = appendInts(dst, bit(v.Auction != nil), bit(v.Bid != nil), int64(len(v.early)))
			if v.Auction != nil {
				dst = appendAuction(dst, v.Auction)
			}
			if v.Bid != nil {
				dst = appendBid(dst, v.Bid)
			}
			for _, b := range v.early {
				dst = appendBid(dst, b)
			}
			return dst
		},
		func(f *fields) (v Winner) {
			known, won, early := f.int() != 0, f.int() != 0, f.count()
			if known {
				v.Auction = readAuction(f)
			}
			if won {
				v.Bid = readBid(f)
			}
			for range early {
				v.early = append(v.early, readBid(f))
			}
			return v
		})
}

// opened adds the auction, and the bids that came before it.
func (w Winner) opened(a *Auction) Winner {
	early := w.early
	w = Winner{Auction: a}
	for _, b := range early {
		w = w.offered(b)
	}
	return w
}

// offered adds a bid.
func (w Winner) offered(b *Bid) Winner {
	switch a := w.Auction; {
	case a == nil:
		w.early = append(w.early, b)
	case b.Time < a.Time || b.Time > a.Expires:
	case w.Bid == nil || b.Price > w.Bid.Price || b.Price == w.Bid.Price && b.Time < w.Bid.Time:
		w.Bid = b
	}
	return w
}

func (w Winner) known() bool { return w.Auction != nil && w.Bid != nil }

// winners are the auctions that have a bid. slim leaves out all texts.
func (c *Config) winners(b *streams.Builder, slim bool) *streams.KTable[int64, Winner] {
	events := c.events(b)
	auctions := c.between(events.
		Filter(func(_ []byte, e Event) bool { return e.Auction != nil }).
		Map(func(_ []byte, e Event) (int64, *Auction, error) {
			a := e.Auction
			if slim {
				a = &Auction{ID: a.ID, Category: a.Category, Time: a.Time, Expires: a.Expires}
			}
			return a.ID, a, nil
		}), "auctions-by-id", auctionSerde())
	bids := c.between(bidsOf(events).Map(func(_ []byte, b *Bid) (int64, *Bid, error) {
		if slim {
			b = &Bid{Auction: b.Auction, Price: b.Price, Time: b.Time}
		}
		return b.Auction, b, nil
	}), "bids-by-auction", bidSerde())
	return auctions.GroupByKey().
		Cogroup(func(_ int64, a *Auction, w Winner) (Winner, error) { return w.opened(a), nil }).
		Cogroup(bids.GroupByKey(), func(_ int64, b *Bid, w Winner) (Winner, error) { return w.offered(b), nil }).
		Aggregate(streams.Store[int64, Winner]{Name: "winners", Value: winnerSerde()}, func() Winner { return Winner{} }).
		Filter(func(_ int64, w Winner) bool { return w.known() })
}

// q9Results are winners by auction; the last record of an auction counts.
func (c *Config) q9Results() streams.Topic[int64, Winner] {
	return streams.Topic[int64, Winner]{Name: c.Out, Value: c.result(winnerSerde())}
}

func winningBids(b *streams.Builder, c *Config) { c.winners(b, false).ToStream().To(c.q9Results()) }

// mean is a sum and what it is of.
type mean struct{ sum, n int64 }

func meanSerde() serde.Serde[mean] {
	return compact("mean", func(dst []byte, v mean) []byte { return appendInts(dst, v.sum, v.n) },
		func(f *fields) mean { return mean{f.int(), f.int()} })
}

// q4Results are average prices by category; the last record of a category counts.
func (c *Config) q4Results() streams.Topic[int64, int64] {
	return streams.Topic[int64, int64]{Name: c.Out}
}

func averagePrices(b *streams.Builder, c *Config) {
	add := func(sign int64) func(int64, int64, mean) (mean, error) {
		return func(_, price int64, m mean) (mean, error) { return mean{m.sum + sign*price, m.n + sign}, nil }
	}
	c.winners(b, true).
		GroupBy(func(_ int64, w Winner) (int64, int64, error) { return w.Auction.Category, w.Bid.Price, nil }).
		Aggregate(streams.Store[int64, mean]{Name: "prices", Value: meanSerde()}, func() mean { return mean{} }, add(+1), add(-1)).
		MapValues(func(_ int64, m mean) (int64, error) { return m.sum / max(1, m.n), nil }).
		ToStream().
		To(c.q4Results())
}
