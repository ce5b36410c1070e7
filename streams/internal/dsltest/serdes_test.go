package dsltest

import (
	"errors"
	"strings"
	"testing"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// A type that appears on the way, where no descriptor names its serde, is a mistake whose text can be pasted.
func TestAMissingSerdeOnTheWaySaysWhatToWrite(t *testing.T) {
	type paid struct{ Cents int64 }
	type city struct{ Name string }
	build := func(with bool) error {
		var b streams.Builder
		s := b.Stream(streams.Topic[string, string]{Name: "rides"}).
			Map(func(_, v string) (city, paid, error) { return city{v}, paid{int64(len(v))}, nil })
		if with {
			s = s.WithSerdes(serde.JSON[city](), serde.JSON[paid]())
		}
		s.GroupByKey().Count(streams.Store[city, int64]{Name: "rides-per-city", Key: serde.JSON[city]()})
		_, err := b.Build()
		return err
	}
	err := build(false)
	if !errors.Is(err, serde.ErrNoSerde) {
		t.Fatalf("%v, want ErrNoSerde", err)
	}
	if want := "serdes_test.go:24: the value of the repartition before \"rides-per-city\": serde: no serde for type dsltest.paid: " +
		"give the stream one before it, as .WithSerdes(nil, serde.JSON[dsltest.paid]())"; !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %s", err, want)
	}
	if err := build(true); err != nil {
		t.Error(err)
	}
}

// The GroupBy of docs/streams.md, so that the page stays true.
func TestATypeOnTheWayIsWrittenAsWithSerdesSays(t *testing.T) {
	type Order struct {
		Country string
		Cents   int64
	}
	type Paid struct {
		Country string
		Cents   int64
	}
	orders := streams.Topic[string, Order]{Name: "orders", Value: serde.JSON[Order]()}
	perCountry := streams.Store[string, int64]{Name: "per-country"}
	var b streams.Builder
	b.Stream(orders).
		MapValues(func(_ string, o Order) (Paid, error) { return Paid{o.Country, o.Cents}, nil }).
		WithSerdes(nil, serde.JSON[Paid]()). // nil: the key is what it was
		GroupBy(func(_ string, p Paid) string { return p.Country }).
		Aggregate(perCountry, func() int64 { return 0 },
			func(_ string, p Paid, sum int64) (int64, error) { return sum + p.Cents, nil })
	top, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, top)
	d.Send(orders, "o1", Order{"DE", 500})
	d.Send(orders, "o2", Order{"DE", 70})
	d.Store(perCountry).Expect(streamstest.Row[string, int64]{Key: "DE", Value: 570})
}
