// Command shop has types from which the tests derive schemas.
package main

// order is not exported.
type order struct {
	ID    string  `avro:"id" json:"id"`
	Total int64   `avro:"total" json:"total"`
	Note  *string `avro:"note" json:"note"`
	Lines []Line  `avro:"lines" json:"lines"`
}

// Line is a part of an order.
type Line struct {
	SKU string `avro:"sku" json:"sku"`
}

func main() { _ = order{} }
