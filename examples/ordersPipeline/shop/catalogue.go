package shop

// Listing is a product with the stock it starts with.
type Listing struct {
	Product
	InitialStock int64
}

// Catalogue is what the shop sells. The limited print is scarce on purpose: it sells out, orders are rejected, and a
// delivery makes it available again.
func Catalogue() []Listing {
	return []Listing{
		{Product{"mug-blue", "Blue mug", "kitchen", 1290}, 1_000_000},
		{Product{"mug-red", "Red mug", "kitchen", 1290}, 1_000_000},
		{Product{"kettle", "Stove kettle", "kitchen", 4900}, 500_000},
		{Product{"lamp", "Desk lamp", "home", 3950}, 500_000},
		{Product{"blanket", "Wool blanket", "home", 8900}, 250_000},
		{Product{"notebook", "Squared notebook", "paper", 650}, 2_000_000},
		{Product{"pen", "Fountain pen", "paper", 2400}, 1_000_000},
		{Product{LimitedPrint, "Limited print", "paper", 12000}, 25},
	}
}

// LimitedPrint is the SKU of the scarce product.
const LimitedPrint = "print-limited"

// Countries are those the shop delivers to, by ISO code.
func Countries() []string { return []string{"DE", "FR", "NL", "IT", "ES", "PL"} }

// The topics' names, for those who need no more of a topic.
const (
	TopicOrders    = "orders"
	TopicDecisions = "order-decisions"
	TopicRestocks  = "restocks"
	TopicProducts  = "products"
	TopicRevenue   = "revenue"
	TopicTotals    = "revenue-totals"
)
