package nexmark

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Every 50 events are a person, three auctions and 46 bids, in this order.
const (
	perRound         = 50
	auctionsPerRound = 3
)

// What the original's defaults are. Half of the bids are on the first of each hundred auctions, three quarters of them by the
// second of each hundred people, and three quarters of the auctions are of the first of these. The others are spread over what
// is active: the last hundred auctions and the last thousand people, and up to ten that do not exist yet.
const (
	firstID       = 1000 // of people and auctions
	firstCategory = 10
	categories    = 5
	hotEach       = 100
	inFlight      = 100
	active        = 1000
	lead          = 10

	personBytes  = 200
	auctionBytes = 500
	bidBytes     = 100

	channels = 10_000 // that are not hot
)

var (
	states      = []string{"AZ", "CA", "ID", "OR", "WA", "WY"}
	cities      = []string{"Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"}
	firstNames  = []string{"Peter", "Paul", "Luke", "John", "Saul", "Vicky", "Kate", "Julie", "Sarah", "Deiter", "Walter"}
	lastNames   = []string{"Shultz", "Abrams", "Spencer", "White", "Bartels", "Walton", "Smith", "Jones", "Noris"}
	hotChannels = []string{"Google", "Facebook", "Baidu", "Apple"}
)

// Generator makes the events of a seed: the n-th is the same whenever it is asked for. It is for one goroutine.
type Generator struct {
	seed  uint64
	begin int64   // of event time, in milliseconds since 1970
	every float64 // milliseconds from event to event
	pcg   *rand.PCG
	r     *rand.Rand
	text  strings.Builder
}

// NewGenerator makes a generator of rate events for each second of event time, from begin on, in milliseconds since 1970.
func NewGenerator(seed uint64, begin int64, rate int) *Generator {
	pcg := rand.NewPCG(seed, 0)
	return &Generator{seed: seed, begin: begin, every: 1000 / float64(rate), pcg: pcg, r: rand.New(pcg)}
}

// Event makes the n-th event, from 0 on.
func (g *Generator) Event(n int64) Event {
	g.pcg.Seed(g.seed, uint64(n))
	switch at := n % perRound; {
	case at == 0:
		return Event{Type: PersonType, Person: g.person(n)}
	case at <= auctionsPerRound:
		return Event{Type: AuctionType, Auction: g.auction(n)}
	}
	return Event{Type: BidType, Bid: g.bid(n)}
}

func (g *Generator) at(n int64) int64 { return g.begin + int64(float64(n)*g.every) }

// people is how many people there are when the n-th event happens.
func people(n int64) int64 { return n/perRound + 1 }

// auctions is how many auctions there are when the n-th event happens.
func auctions(n int64) int64 { return n/perRound*auctionsPerRound + min(n%perRound, auctionsPerRound) }

// someone is the id of an active person, or of one that is to come soon.
func (g *Generator) someone(n int64) int64 {
	there := people(n)
	of := min(there, active)
	return firstID + there - of + g.r.Int64N(of+lead)
}

// hot is the id of the first of a hundred of which the last of so many is.
func hot(count int64) int64 { return firstID + max(0, count-1)/hotEach*hotEach }

func (g *Generator) person(n int64) *Person {
	p := &Person{ID: firstID + people(n) - 1, Time: g.at(n), City: pick(g.r, cities), State: pick(g.r, states)}
	p.Name = pick(g.r, firstNames) + " " + pick(g.r, lastNames)
	p.Email = g.word(7) + "@" + g.word(5) + ".com"
	p.CreditCard = fmt.Sprintf("%04d %04d %04d %04d", g.r.IntN(10_000), g.r.IntN(10_000), g.r.IntN(10_000), g.r.IntN(10_000))
	p.Extra = g.extra(personBytes - 8 - len(p.Name) - len(p.Email) - len(p.CreditCard) - len(p.City) - len(p.State))
	return p
}

func (g *Generator) auction(n int64) *Auction {
	a := &Auction{ID: firstID + auctions(n) - 1, Time: g.at(n), InitialBid: g.price(), Category: firstCategory + g.r.Int64N(categories)}
	a.Seller = hot(people(n))
	if g.r.IntN(4) == 0 {
		a.Seller = g.someone(n)
	}
	a.Reserve = a.InitialBid + g.price()
	// On average an auction lasts until as many others have been opened as there are in flight.
	lasts := g.at(n+inFlight*perRound/auctionsPerRound) - a.Time
	a.Expires = a.Time + 1 + g.r.Int64N(max(1, 2*lasts))
	a.Item, a.Description = g.word(20), g.word(100)
	a.Extra = g.extra(auctionBytes - 6*8 - len(a.Item) - len(a.Description))
	return a
}

func (g *Generator) bid(n int64) *Bid {
	b := &Bid{Time: g.at(n), Price: g.price(), Auction: hot(auctions(n)), Bidder: hot(people(n)) + 1}
	if g.r.IntN(2) == 0 {
		last := auctions(n) - 1
		from := max(0, last-inFlight)
		b.Auction = firstID + from + g.r.Int64N(last-from+1+lead)
	}
	if g.r.IntN(4) == 0 {
		b.Bidder = g.someone(n)
	}
	b.URL = "https://www.nexmark.com/" + g.word(5) + "/" + g.word(5) + "/" + g.word(5) + "/item.htm?query=1"
	b.Channel = pick(g.r, hotChannels)
	if g.r.IntN(2) == 0 {
		c := g.r.IntN(channels)
		b.Channel = "channel-" + strconv.Itoa(c)
		if g.r.IntN(10) > 0 {
			b.URL += "&channel_id=" + strconv.Itoa(c*0x9e3779b1&math.MaxInt32)
		}
	}
	b.Extra = g.extra(bidBytes - 4*8)
	return b
}

// price is log-uniform from 1 to a million, in cents.
func (g *Generator) price() int64 { return int64(math.Round(math.Pow(10, 6*g.r.Float64()) * 100)) }

// word is of three to less than most letters, now and then with a space.
func (g *Generator) word(most int) string {
	g.text.Reset()
	for range 3 + g.r.IntN(most-3) {
		if g.r.IntN(13) == 0 && g.text.Len() > 0 {
			g.text.WriteByte(' ')
			continue
		}
		g.text.WriteByte('a' + byte(g.r.IntN(26)))
	}
	return strings.TrimRight(g.text.String(), " ")
}

// extra is text that brings an event to its size, give or take a fifth.
func (g *Generator) extra(size int) string {
	if size <= 0 {
		return ""
	}
	if spread := size / 5; spread > 0 {
		size += g.r.IntN(2*spread) - spread
	}
	g.text.Reset()
	for bits := uint64(0); size > 0; size-- {
		if bits < 26 {
			bits = g.r.Uint64()
		}
		g.text.WriteByte('a' + byte(bits%26))
		bits /= 26
	}
	return g.text.String()
}

func pick(r *rand.Rand, from []string) string { return from[r.IntN(len(from))] }
