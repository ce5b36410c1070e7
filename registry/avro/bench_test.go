package avro_test

import (
	"testing"
	"time"

	twmb "github.com/twmb/avro"

	"github.com/leatstream/leat/registry/avro"
)

// benchOrder is an order of twelve fields and four lines, 200-odd bytes as Avro.
type benchOrder struct {
	ID       string      `avro:"id"`
	Customer string      `avro:"customer"`
	Country  string      `avro:"country"`
	Currency string      `avro:"currency"`
	Status   string      `avro:"status"`
	Total    int64       `avro:"total"`
	Discount float64     `avro:"discount"`
	Coupon   *string     `avro:"coupon"`
	Express  bool        `avro:"express"`
	Attempt  int32       `avro:"attempt"`
	Placed   time.Time   `avro:"placed"`
	Lines    []benchLine `avro:"lines"`
}

type benchLine struct {
	SKU   string `avro:"sku"`
	Name  string `avro:"name"`
	Count int32  `avro:"count"`
	Price int64  `avro:"price"`
}

func newBenchOrder() benchOrder {
	line := benchLine{"sku-000017", "A thing that is worth having", 3, 1999}
	return benchOrder{ID: "order-0000000001", Customer: "customer-00042", Country: "DE", Currency: "EUR", Status: "PLACED",
		Total: 7996, Discount: 0.05, Coupon: ptr("TENOFF"), Express: true, Attempt: 1,
		Placed: time.UnixMilli(1_700_000_000_000).UTC(), Lines: []benchLine{line, line, line, line}}
}

func BenchmarkEncode(b *testing.B) {
	c, _ := newRegistry(b)
	s := avro.Of[benchOrder](c)
	o := newBenchOrder()
	bare := twmb.MustSchemaFor[benchOrder]()
	b.Run("serde", func(b *testing.B) {
		buf := make([]byte, 0, 1024)
		b.ReportAllocs()
		for b.Loop() {
			out, err := s.Append(buf[:0], value, o)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(out)))
		}
	})
	b.Run("codec", func(b *testing.B) {
		buf := make([]byte, 0, 1024)
		b.ReportAllocs()
		for b.Loop() {
			out, err := bare.AppendEncode(buf[:0], &o)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(out)))
		}
	})
}

func BenchmarkDecode(b *testing.B) {
	c, _ := newRegistry(b)
	s := avro.Of[benchOrder](c)
	data := encode(b, s, value, newBenchOrder())
	bare := twmb.MustSchemaFor[benchOrder]()
	b.Run("serde", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := s.Decode(value, data); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("codec", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var o benchOrder
			if _, err := bare.Decode(data[5:], &o); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// TestEncodeAllocates nothing once the schema is known.
func TestEncodeAllocatesNothing(t *testing.T) {
	c, _ := newRegistry(t)
	s := avro.Of[benchOrder](c)
	o := newBenchOrder()
	buf := encode(t, s, value, o)
	if n := testing.AllocsPerRun(1000, func() {
		if _, err := s.Append(buf[:0], value, o); err != nil {
			t.Fatal(err)
		}
	}); n >= 1 && !raceEnabled {
		t.Errorf("%v allocations per record", n)
	}
}
