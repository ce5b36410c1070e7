package nexmark

import (
	"encoding/binary"
	"errors"

	"github.com/leatstream/leat/serde"
)

// The compact form: the fields in the order of the struct, integers as varints, texts with their length before them.

// errMalformed is wrapped by the error of bytes that are not of the compact form.
var errMalformed = errors.New("malformed")

// compact is the serde of a T by its fields.
func compact[T any](name string, write func([]byte, T) []byte, read func(*fields) T) serde.Serde[T] {
	return serde.Of("nexmark."+name, func(dst []byte, v T) ([]byte, error) { return write(dst, v), nil },
		func(data []byte) (T, error) {
			f := fields{data: data}
			v := read(&f)
			if f.bad || len(f.data) > 0 {
				return v, errMalformed
			}
			return v, nil
		})
}

// fields reads one field after the other; bad says that there was no such field. The texts share one copy of what is left
// when the first of them is read.
type fields struct {
	data []byte
	copy string
	bad  bool
}

func (f *fields) int() int64 {
	v, n := binary.Varint(f.data)
	if n <= 0 {
		return f.fail()
	}
	f.data = f.data[n:]
	return v
}

// count is the length of a list whose elements have a byte at least.
func (f *fields) count() int {
	n := f.int()
	if n < 0 || n > int64(len(f.data)) {
		return int(f.fail())
	}
	return int(n)
}

func (f *fields) fail() int64 {
	f.bad, f.data, f.copy = true, nil, ""
	return 0
}

func (f *fields) text() string {
	n := f.count()
	if f.copy == "" {
		f.copy = string(f.data)
	}
	from := len(f.copy) - len(f.data) // both end where the bytes end
	f.data = f.data[n:]
	return f.copy[from : from+n]
}

func appendInt(dst []byte, v int64) []byte { return binary.AppendVarint(dst, v) }

func appendInts(dst []byte, vs ...int64) []byte {
	for _, v := range vs {
		dst = binary.AppendVarint(dst, v)
	}
	return dst
}

func appendText(dst []byte, v string) []byte { return append(appendInt(dst, int64(len(v))), v...) }

func appendPerson(dst []byte, p *Person) []byte {
	dst = appendText(appendInt(dst, p.ID), p.Name)
	dst = appendText(appendText(dst, p.Email), p.CreditCard)
	dst = appendText(appendText(dst, p.City), p.State)
	return appendText(appendInt(dst, p.Time), p.Extra)
}

func readPerson(f *fields) *Person {
	return &Person{ID: f.int(), Name: f.text(), Email: f.text(), CreditCard: f.text(), City: f.text(), State: f.text(), Time: f.int(), Extra: f.text()}
}

func appendAuction(dst []byte, a *Auction) []byte {
	dst = appendText(appendText(appendInt(dst, a.ID), a.Item), a.Description)
	dst = appendInts(dst, a.InitialBid, a.Reserve, a.Time, a.Expires, a.Seller, a.Category)
	return appendText(dst, a.Extra)
}

func readAuction(f *fields) *Auction {
	return &Auction{ID: f.int(), Item: f.text(), Description: f.text(), InitialBid: f.int(), Reserve: f.int(), Time: f.int(), Expires: f.int(),
		Seller: f.int(), Category: f.int(), Extra: f.text()}
}

func appendBid(dst []byte, b *Bid) []byte {
	dst = appendInts(dst, b.Auction, b.Bidder, b.Price)
	dst = appendText(appendText(dst, b.Channel), b.URL)
	return appendText(appendInt(dst, b.Time), b.Extra)
}

func readBid(f *fields) *Bid {
	return &Bid{Auction: f.int(), Bidder: f.int(), Price: f.int(), Channel: f.text(), URL: f.text(), Time: f.int(), Extra: f.text()}
}

func appendEvent(dst []byte, e Event) []byte {
	dst = append(dst, byte(e.Type))
	switch e.Type {
	case PersonType:
		return appendPerson(dst, e.Person)
	case AuctionType:
		return appendAuction(dst, e.Auction)
	}
	return appendBid(dst, e.Bid)
}

func readEvent(f *fields) Event {
	if len(f.data) == 0 {
		f.bad = true
		return Event{}
	}
	e := Event{Type: int(f.data[0])}
	f.data = f.data[1:]
	switch e.Type {
	case PersonType:
		e.Person = readPerson(f)
	case AuctionType:
		e.Auction = readAuction(f)
	case BidType:
		e.Bid = readBid(f)
	default:
		f.bad = true
	}
	return e
}

// Events is the serde of events: JSON as nexmark-flink writes it to Kafka, or the compact form.
func Events(json bool) serde.Serde[Event] {
	if json {
		return serde.JSON[Event]()
	}
	return compact("event", appendEvent, readEvent)
}

func bidSerde() serde.Serde[*Bid] { return compact("bid", appendBid, readBid) }

func auctionSerde() serde.Serde[*Auction] {
	return compact("auction", appendAuction, readAuction)
}
