// Package analytics counts what the shop earns: revenue per country in tumbling windows, and in total. It is a Leat
// topology that runs exactly once, so each reserved order is counted once.
package analytics

import (
	"time"

	"github.com/leatstream/leat/examples/ordersPipeline/shop"
	"github.com/leatstream/leat/registry/avro"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

// grace is how long after its end a window still takes orders. Windows send updates as they grow, so a long grace costs
// memory and delays nothing; it lets orders in that waited in the outbox while a service was away.
const grace = 10 * time.Minute

var (
	catalogue = streams.Store[string, shop.Product]{Name: "catalogue", Key: serde.String, Value: avro.Of[shop.Product](&shop.Registry)}
	// byCountry brings the sales of a country to one task; both aggregates read it.
	byCountry = streams.Topic[string, shop.Sale]{
		Name: "sales-by-country", Key: serde.String, Value: avro.Of[shop.Sale](&shop.Registry), Partitions: shop.Partitions,
	}
	// byProduct brings the decisions to the products.
	byProduct = streams.Topic[string, shop.Decision]{
		Name: "decisions-by-product", Key: serde.String, Value: avro.Of[shop.Decision](&shop.Registry), Partitions: shop.Partitions,
	}
	inWindows = streams.WindowStore[string, shop.Sales]{Name: "revenue-in-windows", Key: serde.String, Value: avro.Of[shop.Sales](&shop.Registry)}
	inTotal   = streams.Store[string, shop.Sales]{Name: "revenue-in-total", Key: serde.String, Value: avro.Of[shop.Sales](&shop.Registry)}
)

// Topology reads the decisions and the products, and writes revenue.
//
//	order-decisions ── reserved ── by product ─┐
//	                                           ├─ join ── by country ─┬─ 10 s windows ── revenue
//	products ─────────────────────── table ────┘                      └─ total ───────── revenue-totals
func Topology() (*streams.Topology, error) {
	var b streams.Builder
	products := b.Table(shop.Products, catalogue)
	sales := b.Stream(shop.Decisions).
		Filter(func(_ string, d shop.Decision) bool { return d.Status == shop.Reserved }).
		SelectKey(func(_ string, d shop.Decision) string { return d.Product }).
		Repartition(byProduct).
		LeftJoinTable(products, sale).
		SelectKey(func(_ string, s shop.Sale) string { return s.Country }).
		Repartition(byCountry).
		GroupByKey()
	zero := func() shop.Sales { return shop.Sales{} }
	sales.WindowedBy(streams.Tumbling(shop.WindowSize).Grace(grace)).
		Aggregate(inWindows, zero, add).
		ToStream(streams.WindowedKey).
		To(shop.Revenue)
	sales.Aggregate(inTotal, zero, add).
		ToStream().
		To(shop.Totals)
	return b.Build()
}

// sale joins a decision with its product. The money is the order's, whatever the product costs by now; a product that
// is not known yet is no reason to lose money.
func sale(_ string, d shop.Decision, p *shop.Product) (shop.Sale, error) {
	s := shop.Sale{Country: d.Country, Category: "unknown", Amount: d.Total}
	if p != nil {
		s.Category = p.Category
	}
	return s, nil
}

func add(_ string, s shop.Sale, sum shop.Sales) (shop.Sales, error) {
	sum.Orders++
	sum.Revenue += s.Amount
	return sum, nil
}
