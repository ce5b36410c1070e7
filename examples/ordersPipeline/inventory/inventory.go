// Package inventory reserves stock for orders. It is a Leat topology that runs exactly once: whatever is killed when,
// each order is decided once, and the stock is what the decisions say.
package inventory

import (
	"context"
	"fmt"
	"time"

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
	// recent holds the ids of the events of the last week: the outbox relay publishes at least once, as a rule again
	// within seconds. An event that is a week older than the latest is dropped, since nobody knows any more.
	recent = streams.WindowStore[string, time.Time]{Name: "recent-events", Retention: 7 * 24 * time.Hour}
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
//	                       ├── deduplicate (recent-events) ── reserve (stock) ── order-decisions
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
		Deduplicate(recent, func(_ string, g goods) string { return g.eventID() }).
		Process("reserve", reserve, shop.StockStore).
		To(shop.Decisions)
	return b.Build()
}

// reserve is the processor: it books deliveries, and reserves for orders what there is.
func reserve(t *streams.Task, emit streams.Emit[string, shop.Decision]) (streams.Processor[string, goods], error) {
	stock := t.Store(shop.StockStore)
	return func(_ context.Context, r streams.Record[string, goods]) error {
		s, _, err := stock.Get(r.Key)
		if err != nil {
			return err
		}
		if d := r.Value.delivery; d != nil {
			if s.Delivered > 0 && d.Initial() { // of a database that was seeded anew, however late
				return nil
			}
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
