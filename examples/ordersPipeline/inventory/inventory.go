// Package inventory reserves stock for orders. It is a Leat topology that runs exactly once: whatever is killed when,
// each order is decided once, and the stock is what the decisions say.
package inventory

import (
	"context"
	"fmt"

	"github.com/leatstream/leat/examples/ordersPipeline/shop"
	"github.com/leatstream/leat/registry/avro"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

var (
	// byProduct brings the orders of a product to one task, where its stock is.
	byProduct = streams.Topic[string, shop.Order]{
		Name: "orders-by-product", Key: serde.String, Value: avro.Of[shop.Order](&shop.Registry), Partitions: shop.Partitions,
	}
	// seen holds the ids of the events that were dealt with: the outbox relay publishes at least once. An id is kept for
	// as long as the store; the order or delivery that it stands for must not count again however late it comes again.
	seen = streams.Store[string, bool]{Name: "seen-events", Key: serde.String, Value: serde.Bool}
)

// goods is what changes the stock of a product: an order or a delivery.
type goods struct {
	order    *shop.Order
	delivery *shop.Restock
}

func (g goods) eventID() string {
	if g.order != nil {
		return g.order.EventID
	}
	return g.delivery.EventID
}

// Topology reads orders and deliveries, and writes one decision per order.
//
//	orders ── by product ──┐
//	                       ├── reserve (stock, seen-events) ── order-decisions
//	restocks ──────────────┘
func Topology() (*streams.Topology, error) {
	var b streams.Builder
	orders := b.Stream(shop.Orders).
		SelectKey(func(_ string, o shop.Order) string { return o.Product }).
		Repartition(byProduct).
		MapValues(func(_ string, o shop.Order) (goods, error) { return goods{order: &o}, nil })
	restocks := b.Stream(shop.Restocks).
		MapValues(func(_ string, r shop.Restock) (goods, error) { return goods{delivery: &r}, nil })
	orders.Merge(restocks).
		Process("reserve", reserve, shop.StockStore, seen).
		To(shop.Decisions)
	return b.Build()
}

// reserve is the processor: it books deliveries, and reserves for orders what there is.
func reserve(t *streams.Task, emit streams.Emit[string, shop.Decision]) (streams.Processor[string, goods], error) {
	stock, done := t.Store(shop.StockStore), t.Store(seen)
	return func(_ context.Context, r streams.Record[string, goods]) error {
		if _, again, err := done.Get(r.Value.eventID()); err != nil || again {
			return err
		}
		if err := done.Put(r.Value.eventID(), true); err != nil {
			return err
		}
		s, _, err := stock.Get(r.Key)
		if err != nil {
			return err
		}
		if d := r.Value.delivery; d != nil {
			return stock.Put(r.Key, deliver(s, *d))
		}
		s, decision := decide(s, *r.Value.order)
		if decision.Status == shop.Reserved {
			if err := stock.Put(r.Key, s); err != nil {
				return err
			}
		}
		return emit(streams.Record[string, shop.Decision]{
			Key: decision.OrderID, Value: decision, Time: r.Time,
			Headers: []streams.Header{{Key: shop.EventIDHeader, Value: []byte(decision.EventID)}},
		})
	}, nil
}

func deliver(s shop.Stock, d shop.Restock) shop.Stock {
	s.Delivered += d.Quantity
	s.OnHand += d.Quantity
	return s
}

// decide reserves what o asks for, or says why not.
func decide(s shop.Stock, o shop.Order) (shop.Stock, shop.Decision) {
	if o.Quantity > s.OnHand {
		return s, shop.Decide(o, fmt.Sprintf("only %d left of %s", s.OnHand, o.Product))
	}
	s.OnHand -= o.Quantity
	s.Reserved += o.Quantity
	return s, shop.Decide(o, "")
}
