// Package nexmark has queries of the Nexmark benchmark as Leat topologies, and a generator of its events: people, the
// auctions that they open and the bids on these.
//
// The benchmark is that of P. Tucker, K. Tufte, V. Papadimos and D. Maier, "NEXMark: A Benchmark for Queries over Data
// Streams" (2008), as Apache Beam and github.com/nexmark/nexmark, whose queries are in Flink's SQL, have extended it.
package nexmark

// Types of events, as Event.Type has them.
const (
	PersonType = iota
	AuctionType
	BidType
)

// Event is a person, an auction or a bid: exactly one pointer is not nil. In JSON it is as nexmark-flink writes it to Kafka,
// but for times, which are milliseconds since 1970.
type Event struct {
	Type    int      `json:"event_type"`
	Person  *Person  `json:"person"`
	Auction *Auction `json:"auction"`
	Bid     *Bid     `json:"bid"`
}

// Time is when the event happened, in milliseconds since 1970.
func (e Event) Time() int64 {
	switch {
	case e.Person != nil:
		return e.Person.Time
	case e.Auction != nil:
		return e.Auction.Time
	}
	return e.Bid.Time
}

// Person has entered the system.
type Person struct {
	ID         int64  `json:"id"`
	Name       string `json:"name"`
	Email      string `json:"emailAddress"`
	CreditCard string `json:"creditCard"`
	City       string `json:"city"`
	State      string `json:"state"`
	Time       int64  `json:"dateTime"`
	Extra      string `json:"extra"`
}

// Auction of an item, from Time to Expires. Prices are in cents.
type Auction struct {
	ID          int64  `json:"id"`
	Item        string `json:"itemName"`
	Description string `json:"description"`
	InitialBid  int64  `json:"initialBid"`
	Reserve     int64  `json:"reserve"`
	Time        int64  `json:"dateTime"`
	Expires     int64  `json:"expires"`
	Seller      int64  `json:"seller"`
	Category    int64  `json:"category"`
	Extra       string `json:"extra"`
}

// Bid for the item of an auction.
type Bid struct {
	Auction int64  `json:"auction"`
	Bidder  int64  `json:"bidder"`
	Price   int64  `json:"price"`
	Channel string `json:"channel"`
	URL     string `json:"url"`
	Time    int64  `json:"dateTime"`
	Extra   string `json:"extra"`
}
