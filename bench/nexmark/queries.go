package nexmark

import (
	"fmt"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

// Config says where a query reads and writes.
type Config struct {
	In, Out    string // topics; that of the events has no keys
	Partitions int    // of the topics between; 0: as many as In has
	// JSON is the format of events and results; without it, the compact form of this package. What is between them, in
	// repartition topics and stores, has the compact form.
	JSON bool
	// Now is the clock of processing time; nil: time.Now.
	Now func() time.Time
	// Watch is told what passes; nil: nobody is.
	Watch Watch
}

// Watch is told how far a query is, by the goroutines of the application.
type Watch interface {
	Event()   // one more event is read
	Sent()    // one more record goes to a topic between
	Arrived() // … and has come out of it
	Late()    // one more record was too late for a window
}

type nobody struct{}

func (nobody) Event()   {}
func (nobody) Sent()    {}
func (nobody) Arrived() {}
func (nobody) Late()    {}

// Query is one of the benchmark's.
type Query struct {
	Name, What string
	// Flink is how many events per second and core Flink 1.13 handles, as github.com/nexmark/nexmark has published it: 100
	// million events that its sources made themselves, results thrown away, RocksDB, exactly once.
	Flink float64
	build func(*streams.Builder, *Config)
}

// Queries are the queries that there are.
func Queries() []Query {
	return []Query{
		{"q0", "passes bids through", 155_020, passThrough},
		{"q1", "dollars to euros", 157_940, currency},
		{"q2", "the bids on certain auctions", 175_210, selection},
		{"q3", "who sells what, in three states and one category", 152_120, localItems},
		{"q4", "the average of the winning bids in each category", 34_330, averagePrices},
		{"q5", "the auctions with the most bids in 10 s, every 2 s", 22_140, hotItems},
		{"q7", "the highest bids in each 10 s", 12_330, highestBids},
		{"q8", "who came and opened an auction within the same 10 s", 146_140, newUsers},
		{"q9", "the winning bid of each auction", 14_240, winningBids},
		{"q11", "bids in each session of a user", 39_700, userSessions},
		{"q12", "bids of a user in 10 s of processing time", 75_670, processingTime},
		{"q17", "bids and prices of each auction and day", 116_800, auctionStatistics},
		{"q18", "the last bid of each user on each auction", 53_700, lastBids},
		{"q19", "the ten highest bids on each auction", 44_040, highestTen},
		{"q20", "bids with their auctions, of one category", 18_980, expandBids},
	}
}

// Build makes a query's topology.
func Build(query string, c Config) (*streams.Topology, error) {
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Watch == nil {
		c.Watch = nobody{}
	}
	for _, q := range Queries() {
		if q.Name == query {
			var b streams.Builder
			q.build(&b, &c)
			return b.Build()
		}
	}
	return nil, fmt.Errorf("no query %q", query)
}

// grace is how long windows wait for records that come late, since partitions are not read in step: as the watermarks of
// nexmark-flink do.
const grace = 4 * time.Second

// events are all of them.
func (c *Config) events(b *streams.Builder) *streams.KStream[[]byte, Event] {
	return c.eventsAt(b, nil)
}

func (c *Config) eventsAt(b *streams.Builder, at func(streams.Record[[]byte, Event], time.Time) (time.Time, error)) *streams.KStream[[]byte, Event] {
	return b.Stream(streams.Topic[[]byte, Event]{Name: c.In, Value: Events(c.JSON), Time: at}).
		Peek(func([]byte, Event) { c.Watch.Event() })
}

// bids are the events that are bids.
func (c *Config) bids(b *streams.Builder) *streams.KStream[[]byte, *Bid] { return bidsOf(c.events(b)) }

func bidsOf(events *streams.KStream[[]byte, Event]) *streams.KStream[[]byte, *Bid] {
	return events.
		Filter(func(_ []byte, e Event) bool { return e.Bid != nil }).
		MapValues(func(_ []byte, e Event) (*Bid, error) { return e.Bid, nil })
}

// between sends a stream through a topic, so that the records of a key lie together.
func (c *Config) between[K, V any](s *streams.KStream[K, V], name string, value serde.Serde[V]) *streams.KStream[K, V] {
	return s.
		Peek(func(K, V) { c.Watch.Sent() }).
		Repartition(streams.Topic[K, V]{Name: name, Value: value, Partitions: c.Partitions}).
		Peek(func(K, V) { c.Watch.Arrived() })
}

// late counts the records that came too late.
func (c *Config) late[V any](s *streams.KStream[int64, V]) {
	s.ForEach(func(int64, V) error { c.Watch.Late(); return nil })
}

// result is the serde of results: s, or JSON.
func (c *Config) result[V any](s serde.Serde[V]) serde.Serde[V] {
	if c.JSON {
		return serde.JSON[V]()
	}
	return s
}

// Results of q0 and q1; those of the other queries are named after them.
func (c *Config) bidResults() streams.Topic[[]byte, *Bid] {
	return streams.Topic[[]byte, *Bid]{Name: c.Out, Value: c.result(bidSerde())}
}

func passThrough(b *streams.Builder, c *Config) { c.bids(b).To(c.bidResults()) }

func currency(b *streams.Builder, c *Config) {
	c.bids(b).
		MapValues(func(_ []byte, bid *Bid) (*Bid, error) {
			euros := *bid
			euros.Price = bid.Price * 908 / 1000
			return &euros, nil
		}).
		To(c.bidResults())
}

// q2Results are prices by auction.
func (c *Config) q2Results() streams.Topic[int64, int64] {
	return streams.Topic[int64, int64]{Name: c.Out}
}

func selection(b *streams.Builder, c *Config) {
	c.bids(b).
		Filter(func(_ []byte, bid *Bid) bool { return bid.Auction%123 == 0 }).
		Map(func(_ []byte, bid *Bid) (int64, int64, error) { return bid.Auction, bid.Price, nil }).
		To(c.q2Results())
}
