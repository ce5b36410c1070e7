package nexmark

import (
	"context"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

const (
	windowSize = 10 * time.Second
	hop        = 2 * time.Second // of q5
	sessionGap = 10 * time.Second
)

// keepTops is how long the results of a window of q5 and q7 can still change, in stream time.
const keepTops = time.Minute

// auctionOf makes records of bids that say no more than which auction they are on, and bidderOf whose they are.
func auctionOf(_ []byte, b *Bid) (int64, bool, error) { return b.Auction, true, nil }
func bidderOf(_ []byte, b *Bid) (int64, bool, error)  { return b.Bidder, true, nil }

// start is the key of what happens within a window.
func start(w streams.Windowed[int64]) int64 { return w.Start.UnixMilli() }

// leaders passes on, of the records under a window's start, those with the highest score so far in this task: what stays
// behind cannot be the highest of the window. It remembers nothing over a restart: then it passes more than it has to.
func leaders[V any](score func(V) int64) func(*streams.Task, streams.Emit[int64, V]) (streams.Processor[int64, V], error) {
	const windows = 64 // that are remembered
	return func(_ *streams.Task, emit streams.Emit[int64, V]) (streams.Processor[int64, V], error) {
		best := make(map[int64]int64)
		return func(_ context.Context, r streams.Record[int64, V]) error {
			s := score(r.Value)
			if have, ok := best[r.Key]; ok && s < have {
				return nil
			}
			if len(best) >= windows {
				clear(best)
			}
			best[r.Key] = s
			return emit(r)
		}, nil
	}
}

// Count is how many bids there were on an auction within a window.
type Count struct{ Auction, Bids int64 }

func countSerde() serde.Serde[Count] {
	return compact("count", func(dst []byte, v Count) []byte { return appendInts(dst, v.Auction, v.Bids) },
		func(f *fields) Count { return Count{f.int(), f.int()} })
}

// Hot are the auctions with the most bids within a window.
type Hot struct {
	Bids     int64
	Auctions []int64
}

func hotSerde() serde.Serde[Hot] {
	return compact("hot",
		func(dst []byte, v Hot) []byte {
			return appendInts(appendInts(dst, v.Bids, int64(len(v.Auctions))), v.Auctions...)
		},
		func(f *fields) Hot {
			v := Hot{Bids: f.int(), Auctions: make([]int64, f.count())}
			for i := range v.Auctions {
				v.Auctions[i] = f.int()
			}
			return v
		})
}

// q5Results are the hottest auctions by the window's start; the last record of a window has all of them.
func (c *Config) q5Results() streams.Topic[int64, Hot] {
	return streams.Topic[int64, Hot]{Name: c.Out, Value: c.result(hotSerde())}
}

func hotItems(b *streams.Builder, c *Config) {
	windows := c.between(c.bids(b).Map(auctionOf), "bids-by-auction", serde.Bool).
		GroupByKey().WindowedBy(streams.Hopping(windowSize, hop).Grace(grace)).Final()
	c.late(windows.Late())
	counts := windows.Count(streams.WindowStore[int64, int64]{Name: "bids-per-auction"}).
		MapValues(func(w streams.Windowed[int64], n int64) (Count, error) { return Count{w.Key, n}, nil }).
		ToStream(start).
		ProcessValues("leaders", leaders(func(n Count) int64 { return n.Bids }))
	c.between(counts, "counts-by-window", countSerde()).
		GroupByKey().
		Aggregate(streams.Store[int64, Hot]{Name: "hottest", Value: hotSerde(), TTL: keepTops}, func() Hot { return Hot{} },
			func(_ int64, n Count, top Hot) (Hot, error) {
				switch {
				case n.Bids > top.Bids:
					return Hot{n.Bids, []int64{n.Auction}}, nil
				case n.Bids == top.Bids:
					top.Auctions = append(top.Auctions, n.Auction)
				}
				return top, nil
			}).
		ToStream().
		To(c.q5Results())
}

// Highest are the highest bids within a window, which are of one price.
type Highest struct{ Bids []*Bid }

func highestSerde() serde.Serde[Highest] {
	return compact("highest",
		func(dst []byte, v Highest) []byte {
			dst = appendInt(dst, int64(len(v.Bids)))
			for _, b := range v.Bids {
				dst = appendBid(dst, b)
			}
			return dst
		},
		func(f *fields) Highest {
			v := Highest{make([]*Bid, f.count())}
			for i := range v.Bids {
				v.Bids[i] = readBid(f)
			}
			return v
		})
}

// q7Results are the highest bids by the window's start; the last record of a window has all of them.
func (c *Config) q7Results() streams.Topic[int64, Highest] {
	return streams.Topic[int64, Highest]{Name: c.Out, Value: c.result(highestSerde())}
}

func highestBids(b *streams.Builder, c *Config) {
	size := windowSize.Milliseconds()
	bids := c.bids(b).
		SelectKey(func(_ []byte, b *Bid) int64 { return b.Time / size * size }).
		ProcessValues("leaders", leaders(func(b *Bid) int64 { return b.Price }))
	c.between(bids, "bids-by-window", bidSerde()).
		GroupByKey().
		Aggregate(streams.Store[int64, Highest]{Name: "highest", Value: highestSerde(), TTL: keepTops}, func() Highest { return Highest{} },
			func(_ int64, b *Bid, top Highest) (Highest, error) {
				switch {
				case len(top.Bids) == 0 || b.Price > top.Bids[0].Price:
					return Highest{[]*Bid{b}}, nil
				case b.Price == top.Bids[0].Price:
					top.Bids = append(top.Bids, b)
				}
				return top, nil
			}).
		ToStream().
		To(c.q7Results())
}

// newcomer is what is known of a user within a window.
type newcomer struct {
	name       string
	came, sold bool
}

func newcomerSerde() serde.Serde[newcomer] {
	return compact("newcomer",
		func(dst []byte, v newcomer) []byte {
			return appendInts(appendText(dst, v.name), bit(v.came), bit(v.sold))
		},
		func(f *fields) newcomer { return newcomer{f.text(), f.int() != 0, f.int() != 0} })
}

func bit(v bool) int64 {
	if v {
		return 1
	}
	return 0
}

// q8Results are names by user and window.
func (c *Config) q8Results() streams.Topic[streams.Windowed[int64], string] {
	return streams.Topic[streams.Windowed[int64], string]{Name: c.Out, Key: serde.Windowed(serde.Int64, windowSize)}
}

func newUsers(b *streams.Builder, c *Config) {
	events := c.events(b)
	people := c.between(events.
		Filter(func(_ []byte, e Event) bool { return e.Person != nil }).
		Map(func(_ []byte, e Event) (int64, string, error) { return e.Person.ID, e.Person.Name, nil }),
		"people-by-id", serde.String).GroupByKey()
	sellers := c.between(events.
		Filter(func(_ []byte, e Event) bool { return e.Auction != nil }).
		Map(func(_ []byte, e Event) (int64, bool, error) { return e.Auction.Seller, true, nil }),
		"auctions-by-seller", serde.Bool).GroupByKey()
	windows := people.Cogroup(func(_ int64, name string, n newcomer) (newcomer, error) { return newcomer{name, true, n.sold}, nil }).
		Cogroup(sellers, func(_ int64, _ bool, n newcomer) (newcomer, error) { return newcomer{n.name, n.came, true}, nil }).
		WindowedBy(streams.Tumbling(windowSize).Grace(grace)).Final()
	c.late(windows.Late(people))
	c.late(windows.Late(sellers))
	windows.Aggregate(streams.WindowStore[int64, newcomer]{Name: "newcomers", Value: newcomerSerde()}, func() newcomer { return newcomer{} }).
		Filter(func(_ streams.Windowed[int64], n newcomer) bool { return n.came && n.sold }).
		MapValues(func(_ streams.Windowed[int64], n newcomer) (string, error) { return n.name, nil }).
		To(c.q8Results())
}

// q11Results are counts by user and session.
func (c *Config) q11Results() streams.Topic[streams.Windowed[int64], int64] {
	return streams.Topic[streams.Windowed[int64], int64]{Name: c.Out, Key: serde.SessionWindowed(serde.Int64)}
}

func userSessions(b *streams.Builder, c *Config) {
	sessions := c.between(c.bids(b).Map(bidderOf), "bids-by-user", serde.Bool).
		GroupByKey().WindowedBySession(streams.Session(sessionGap).Grace(grace)).Final()
	c.late(sessions.Late())
	sessions.Count(streams.SessionStore[int64, int64]{Name: "bids-per-session"}).To(c.q11Results())
}

// q12Results are counts by user and window.
func (c *Config) q12Results() streams.Topic[streams.Windowed[int64], int64] {
	return streams.Topic[streams.Windowed[int64], int64]{Name: c.Out, Key: serde.Windowed(serde.Int64, windowSize)}
}

func processingTime(b *streams.Builder, c *Config) {
	now := func(streams.Record[[]byte, Event], time.Time) (time.Time, error) { return c.Now(), nil }
	windows := c.between(bidsOf(c.eventsAt(b, now)).Map(bidderOf), "bids-by-user", serde.Bool).
		GroupByKey().WindowedBy(streams.Tumbling(windowSize).Grace(grace)).Final()
	c.late(windows.Late())
	windows.Count(streams.WindowStore[int64, int64]{Name: "bids-per-user"}).To(c.q12Results())
}

// Stats are the bids of an auction's day: how many, and how many of them below 100, below 10,000 and above; and their prices.
type Stats struct{ Bids, Low, Middle, High, Min, Max, Sum, Average int64 }

func statsSerde() serde.Serde[Stats] {
	return compact("stats",
		func(dst []byte, v Stats) []byte {
			return appendInts(dst, v.Bids, v.Low, v.Middle, v.High, v.Min, v.Max, v.Sum, v.Average)
		},
		func(f *fields) Stats {
			return Stats{f.int(), f.int(), f.int(), f.int(), f.int(), f.int(), f.int(), f.int()}
		})
}

// q17Results are statistics by auction and day; the last record of a day counts.
func (c *Config) q17Results() streams.Topic[streams.Windowed[int64], Stats] {
	return streams.Topic[streams.Windowed[int64], Stats]{Name: c.Out, Key: serde.Windowed(serde.Int64, 24*time.Hour), Value: c.result(statsSerde())}
}

func auctionStatistics(b *streams.Builder, c *Config) {
	prices := c.bids(b).Map(func(_ []byte, b *Bid) (int64, int64, error) { return b.Auction, b.Price, nil })
	days := c.between(prices, "prices-by-auction", serde.Int64).
		GroupByKey().WindowedBy(streams.Calendar(streams.Day, time.UTC).Grace(grace))
	c.late(days.Late())
	days.Aggregate(streams.WindowStore[int64, Stats]{Name: "auction-days", Value: statsSerde()}, func() Stats { return Stats{} },
		func(_, price int64, s Stats) (Stats, error) {
			s.Bids++
			switch {
			case price < 10_000:
				s.Low++
			case price < 1_000_000:
				s.Middle++
			default:
				s.High++
			}
			if s.Min = min(s.Min, price); s.Bids == 1 {
				s.Min = price
			}
			s.Max = max(s.Max, price)
			s.Sum += price
			return s, nil
		}).
		MapValues(func(_ streams.Windowed[int64], s Stats) (Stats, error) {
			s.Average = s.Sum / s.Bids
			return s, nil
		}).
		To(c.q17Results())
}
