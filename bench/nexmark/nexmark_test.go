package nexmark

import (
	"errors"
	"reflect"
	"testing"

	"github.com/leatstream/leat/serde"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestGeneratorIsNexmarks(t *testing.T) {
	const n, rate, begin = 50_000, 1000, 1_000_000
	g := NewGenerator(7, begin, rate)
	var people, auctions, bids, hotAuction, hotBidder, hotSeller, bytes int64
	hottest := func(last int64) int64 { return (last-1000)/100*100 + 1000 }
	var lastPerson, lastAuction int64
	for i := range int64(n) {
		e := g.Event(i)
		if want := begin + i; e.Time() != want {
			t.Fatalf("event %d happens at %d, want %d", i, e.Time(), want)
		}
		switch {
		case e.Person != nil:
			if people++; e.Person.ID != 999+people {
				t.Fatalf("person %d has the id %d", people, e.Person.ID)
			}
			lastPerson = e.Person.ID
		case e.Auction != nil:
			if auctions++; e.Auction.ID != 999+auctions || e.Auction.Expires <= e.Auction.Time || e.Auction.Reserve <= e.Auction.InitialBid {
				t.Fatalf("auction %d is %+v", auctions, e.Auction)
			}
			if lastAuction = e.Auction.ID; e.Auction.Seller == hottest(lastPerson) {
				hotSeller++
			}
		default:
			if bids++; e.Bid.Auction > lastAuction+10 || e.Bid.Bidder > lastPerson+10 || e.Bid.Price < 100 || e.Bid.Price > 100_000_000 {
				t.Fatalf("bid %+v while auction %d and person %d are the last", e.Bid, lastAuction, lastPerson)
			}
			if e.Bid.Auction == hottest(lastAuction) {
				hotAuction++
			}
			if e.Bid.Bidder == hottest(lastPerson)+1 {
				hotBidder++
			}
			bytes += int64(32 + len(e.Bid.Extra))
		}
	}
	if people != n/50 || auctions != 3*n/50 || bids != 46*n/50 {
		t.Errorf("%d people, %d auctions, %d bids", people, auctions, bids)
	}
	for what, share := range map[string][3]int64{"hot auctions": {hotAuction, bids, 50}, "hot bidders": {hotBidder, bids, 75}, "hot sellers": {hotSeller, auctions, 75},
		"bytes": {bytes, bids, 100 * 100}} {
		if got := 100 * share[0] / share[1]; got < share[2]*95/100 || got > share[2]*105/100 {
			t.Errorf("%s: %d %%, want about %d", what, got, share[2])
		}
	}
}

func TestEventsFollowFromTheSeed(t *testing.T) {
	a, b, other := NewGenerator(1, 0, 10), NewGenerator(1, 0, 10), NewGenerator(2, 0, 10)
	b.Event(99)
	for i := range int64(100) {
		if x, y := a.Event(i), b.Event(i); !reflect.DeepEqual(x, y) {
			t.Fatalf("event %d: %+v and %+v", i, x, y)
		}
	}
	if reflect.DeepEqual(a.Event(4), other.Event(4)) {
		t.Error("two seeds have the same bid")
	}
}

func TestEventsSurviveTheirFormats(t *testing.T) {
	g, at := NewGenerator(3, 1_000_000, 10), serde.Place{Topic: "events"}
	for _, json := range []bool{true, false} {
		s := Events(json)
		for i := range int64(100) {
			want := g.Event(i)
			data, err := s.Append([]byte{}, at, want)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := s.Decode(at, data); err != nil || !reflect.DeepEqual(got, want) {
				t.Fatalf("JSON %v: got %+v, %v, want %+v", json, got, err, want)
			}
		}
	}
}

func TestWhatIsNotAnEventIsAnError(t *testing.T) {
	g, s, at := NewGenerator(3, 1_000_000, 10), Events(false), serde.Place{Topic: "events"}
	bad := [][]byte{{9}, {BidType, 0xff}}
	for _, i := range []int64{0, 1, 10} {
		data, err := s.Append([]byte{}, at, g.Event(i))
		if err != nil {
			t.Fatal(err)
		}
		for n := range data {
			bad = append(bad, data[:n])
		}
		bad = append(bad, append(data, 0))
	}
	for _, data := range bad {
		if _, err := s.Decode(at, data); !errors.Is(err, errMalformed) {
			t.Fatalf("%x was read, %v", data, err)
		}
	}
	for _, data := range [][]byte{{0, 40}, {2, 200, 1}} { // lists that are longer than their bytes
		if _, err := hotSerde().Decode(at, data); !errors.Is(err, errMalformed) {
			t.Errorf("%x was read, %v", data, err)
		}
	}
}
