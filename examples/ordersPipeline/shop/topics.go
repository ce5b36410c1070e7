package shop

import (
	"time"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/avro"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

// Partitions is how many partitions the shop's topics have. Restocks and orders meet in inventory by product, so their
// counts must be equal.
const Partitions = 4

// WindowSize is the length of analytics' revenue windows.
const WindowSize = 10 * time.Second

// Registry gives the serdes their schemas. main binds it once, to the embedded registry or to one at a URL.
var Registry registry.Client

// The topics. Every service, the dashboard and the verifier use these descriptors and no others.
var (
	Orders    = streams.Topic[string, Order]{Name: TopicOrders, Key: serde.String, Value: avro.Of[Order](&Registry)}
	Decisions = streams.Topic[string, Decision]{Name: TopicDecisions, Key: serde.String, Value: avro.Of[Decision](&Registry)}
	Restocks  = streams.Topic[string, Restock]{Name: TopicRestocks, Key: serde.String, Value: avro.Of[Restock](&Registry)}
	Products  = streams.Topic[string, Product]{Name: TopicProducts, Key: serde.String, Value: avro.Of[Product](&Registry)}
	Revenue   = streams.Topic[streams.Windowed[string], Sales]{
		Name: TopicRevenue, Key: serde.Windowed(serde.String, WindowSize), Value: avro.Of[Sales](&Registry),
	}
	Totals = streams.Topic[string, Sales]{Name: TopicTotals, Key: serde.String, Value: avro.Of[Sales](&Registry)}
)

// DeadLetters takes the records that a topology could not decode, as they came.
const DeadLetters = "shop-dead-letters"

// Application ids of the two topologies: the names of their groups, and the beginning of their internal topics.
const (
	InventoryApp = "shop-inventory"
	AnalyticsApp = "shop-analytics"
)

// StockStore is inventory's state: the stock of each product.
var StockStore = streams.Store[string, Stock]{Name: "stock", Key: serde.String, Value: avro.Of[Stock](&Registry)}

// Stocks is the changelog topic of StockStore. A changelog is a table like any other: whoever reads it knows the stock.
var Stocks = streams.Topic[string, Stock]{Name: InventoryApp + "-stock-changelog", Key: serde.String, Value: avro.Of[Stock](&Registry)}
