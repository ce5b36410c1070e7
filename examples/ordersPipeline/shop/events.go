// Package shop holds the words that the services of the orders pipeline share: the events that travel through the
// topics, the topics themselves, and the catalogue. A service imports this package and nothing of another service.
//
// Money is a whole number of minor units (cents) in an int64, never a float. Times are event times: when the customer
// placed the order, not when a machine looked at it.
package shop

import (
	"strings"
	"time"
)

// EventIDHeader is the record header that carries the id of an event. The outbox relay publishes at least once, so a
// consumer that must act once recognises an event by this id and by nothing else.
const EventIDHeader = "event-id"

// Order is an accepted order, as the topic "orders" carries it. It is written once and never changed: what becomes of
// it is told by a [Decision].
type Order struct {
	ID       string    `avro:"id" json:"id"`
	EventID  string    `avro:"event_id" json:"event_id"`
	Customer string    `avro:"customer" json:"customer"`
	Email    string    `avro:"email" json:"email"`
	Country  string    `avro:"country" json:"country"` // ISO 3166-1 alpha-2
	Product  string    `avro:"product" json:"product"` // SKU
	Quantity int64     `avro:"quantity" json:"quantity"`
	Total    int64     `avro:"total" json:"total"` // minor units of Currency
	Currency string    `avro:"currency,default=EUR" json:"currency"`
	PlacedAt time.Time `avro:"placed_at" json:"placed_at"`
}

// What can become of an order. Pending is a status of the order service only; a Decision is Reserved or Rejected.
const (
	Pending  = "PENDING"
	Reserved = "RESERVED"
	Rejected = "REJECTED"
)

// Decision is inventory's answer to one order: exactly one per order. It carries what the services behind it need of
// the order, so that they need not join it back.
type Decision struct {
	OrderID  string    `avro:"order_id" json:"order_id"`
	EventID  string    `avro:"event_id" json:"event_id"`
	Status   string    `avro:"status" json:"status"`
	Reason   string    `avro:"reason" json:"reason"` // empty unless Rejected
	Customer string    `avro:"customer" json:"customer"`
	Email    string    `avro:"email" json:"email"`
	Country  string    `avro:"country" json:"country"`
	Product  string    `avro:"product" json:"product"`
	Quantity int64     `avro:"quantity" json:"quantity"`
	Total    int64     `avro:"total" json:"total"` // minor units of Currency
	Currency string    `avro:"currency,default=EUR" json:"currency"`
	PlacedAt time.Time `avro:"placed_at" json:"placed_at"`
}

// Decide makes the decision on o. A reason says why not; an empty one reserves.
func Decide(o Order, reason string) Decision {
	status := Reserved
	if reason != "" {
		status = Rejected
	}
	return Decision{
		OrderID: o.ID, EventID: "decision-" + o.ID, Status: status, Reason: reason,
		Customer: o.Customer, Email: o.Email, Country: o.Country, Product: o.Product,
		Quantity: o.Quantity, Total: o.Total, Currency: o.Currency, PlacedAt: o.PlacedAt,
	}
}

// Restock is a delivery of goods to the warehouse. The first of each product is its initial stock.
type Restock struct {
	EventID  string    `avro:"event_id" json:"event_id"`
	Product  string    `avro:"product" json:"product"`
	Quantity int64     `avro:"quantity" json:"quantity"`
	At       time.Time `avro:"at" json:"at"`
}

// InitialPrefix begins the event ids of initial stock. They are the same in every database.
const InitialPrefix = "initial-"

// Initial reports whether the delivery is a product's initial stock.
func (r Restock) Initial() bool { return strings.HasPrefix(r.EventID, InitialPrefix) }

// Product is a row of the catalogue, kept in the compacted topic "products".
type Product struct {
	SKU      string `avro:"sku" json:"sku"`
	Name     string `avro:"name" json:"name"`
	Category string `avro:"category" json:"category"`
	Price    int64  `avro:"price" json:"price"` // minor units of EUR
}

// Stock is what inventory knows of one product. Delivered = OnHand + Reserved holds at every moment: it is the
// invariant that the dashboard shows. Delivered is all that ever came in, the initial stock included.
type Stock struct {
	Delivered int64 `avro:"delivered" json:"delivered"`
	OnHand    int64 `avro:"on_hand" json:"on_hand"`
	Reserved  int64 `avro:"reserved" json:"reserved"`
}

// Balanced reports whether the invariant holds and nothing was sold that was not there.
func (s Stock) Balanced() bool {
	return s.Delivered == s.OnHand+s.Reserved && s.OnHand >= 0 && s.Reserved >= 0
}

// Sales sums reserved orders.
type Sales struct {
	Orders  int64 `avro:"orders" json:"orders"`
	Revenue int64 `avro:"revenue" json:"revenue"` // minor units
}

// Sale is one reserved order after it was joined with its product.
type Sale struct {
	Country  string `avro:"country" json:"country"`
	Category string `avro:"category" json:"category"`
	Amount   int64  `avro:"amount" json:"amount"` // minor units
}
