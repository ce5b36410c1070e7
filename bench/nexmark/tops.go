package nexmark

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

// Bidding is a user and an auction.
type Bidding struct{ Bidder, Auction int64 }

// biddings writes both as eight bytes each.
type biddings struct{}

// FixedSize implements [serde.Fixed].
func (biddings) FixedSize() int { return 16 }

// Append implements [serde.Serde].
func (biddings) Append(dst []byte, _ serde.Place, b Bidding) ([]byte, error) {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(dst, uint64(b.Bidder)), uint64(b.Auction)), nil
}

// Decode implements [serde.Serde].
func (biddings) Decode(at serde.Place, data []byte) (Bidding, error) {
	if len(data) != 16 {
		return Bidding{}, fmt.Errorf("%w: %s has %d bytes, want 16", serde.ErrLength, at, len(data))
	}
	return Bidding{int64(binary.BigEndian.Uint64(data)), int64(binary.BigEndian.Uint64(data[8:]))}, nil
}

// q18Results are bids by user and auction; the last record of both counts.
func (c *Config) q18Results() streams.Topic[Bidding, *Bid] {
	return streams.Topic[Bidding, *Bid]{Name: c.Out, Key: biddings{}, Value: c.result(bidSerde())}
}

func lastBids(b *streams.Builder, c *Config) {
	bids := c.bids(b).
		SelectKey(func(_ []byte, b *Bid) Bidding { return Bidding{b.Bidder, b.Auction} }).
		WithSerdes(biddings{}, bidSerde())
	c.between(bids, "bids-by-user-and-auction", bidSerde()).
		GroupByKey().
		Reduce(streams.Store[Bidding, *Bid]{Name: "last-bids", Value: bidSerde()}, func(last, b *Bid) (*Bid, error) {
			if b.Time < last.Time {
				return last, nil
			}
			return b, nil
		}).
		ToStream().
		To(c.q18Results())
}

// topBids is how many bids of an auction q19 keeps.
const topBids = 10

// q19Results are each auction's highest bids, the highest first; the last record of an auction counts.
func (c *Config) q19Results() streams.Topic[int64, Highest] {
	return streams.Topic[int64, Highest]{Name: c.Out, Value: c.result(highestSerde())}
}

func highestTen(b *streams.Builder, c *Config) {
	bids := c.bids(b).SelectKey(func(_ []byte, b *Bid) int64 { return b.Auction })
	c.between(bids, "bids-by-auction", bidSerde()).
		GroupByKey().
		Aggregate(streams.Store[int64, Highest]{Name: "highest-ten", Value: highestSerde()}, func() Highest { return Highest{} },
			func(_ int64, b *Bid, top Highest) (Highest, error) {
				if len(top.Bids) == topBids && b.Price <= top.Bids[topBids-1].Price {
					return top, nil
				}
				at, _ := slices.BinarySearchFunc(top.Bids, b.Price, func(have *Bid, price int64) int {
					if have.Price >= price { // of equal ones the earlier stays first
						return -1
					}
					return 1
				})
				top.Bids = slices.Insert(top.Bids[:min(len(top.Bids), topBids-1)], min(at, topBids-1), b)
				return top, nil
			}).
		ToStream().
		To(c.q19Results())
}
