package dsltest

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// The programs of docs/joins.md, so that the page stays true.

type (
	payment  struct{ Cents int64 }
	customer struct{ Name string }
	receipt  struct {
		To    string
		Cents int64
	}
	shipment struct{ Parcel string }
	delivery struct {
		Cents  int64
		Parcel string
	}
	free  struct{ Have, Taken int64 }
	place struct{ City string }
	visit struct{ Place string }
)

func of[V any](name string) streams.Topic[string, V] {
	return streams.Topic[string, V]{Name: name, Value: serde.JSON[V]()}
}

func kept[V any](name string) streams.Store[string, V] {
	return streams.Store[string, V]{Name: name, Value: serde.JSON[V]()}
}

func joined(t *testing.T, wire func(b *streams.Builder)) *streamstest.Driver {
	t.Helper()
	var b streams.Builder
	wire(&b)
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return streamstest.New(t, topology)
}

func joinReads[V any](t *testing.T, d *streamstest.Driver, name string, want ...V) {
	t.Helper()
	var got []V
	for _, r := range d.Read(of[V](name)) {
		got = append(got, r.Value)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestDocsStreamTableJoin(t *testing.T) {
	d := joined(t, func(b *streams.Builder) {
		customers := b.Table(of[customer]("customers"), kept[customer]("customers"))
		b.Stream(of[payment]("paid")).JoinTable(customers, func(_ string, p payment, c customer) (receipt, error) {
			return receipt{To: c.Name, Cents: p.Cents}, nil
		}).WithSerdes(nil, serde.JSON[receipt]()).To(of[receipt]("receipts"))
	})
	d.Send(of[payment]("paid"), "c1", payment{1}) // nobody's yet
	d.Send(of[customer]("customers"), "c1", customer{"Ada"})
	d.Send(of[payment]("paid"), "c1", payment{5})
	joinReads(t, d, "receipts", receipt{"Ada", 5})
}

func TestDocsStreamStreamJoin(t *testing.T) {
	d := joined(t, func(b *streams.Builder) {
		shipments := b.Stream(of[shipment]("shipments"))
		b.Stream(of[payment]("paid")).LeftJoin("shipped", shipments, streams.JoinWindow{After: time.Hour, Grace: time.Minute},
			func(_ string, p payment, s *shipment) (delivery, error) {
				if s == nil {
					return delivery{Cents: p.Cents}, nil
				}
				return delivery{p.Cents, s.Parcel}, nil
			}).To(of[delivery]("deliveries"))
	})
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	d.Send(of[payment]("paid"), "o1", payment{5}, streamstest.At(noon))
	d.Send(of[payment]("paid"), "o2", payment{7}, streamstest.At(noon))
	d.Send(of[shipment]("shipments"), "o1", shipment{"p1"}, streamstest.At(noon.Add(time.Hour)))
	joinReads(t, d, "deliveries", delivery{5, "p1"})
	d.Send(of[payment]("paid"), "o3", payment{9}, streamstest.At(noon.Add(time.Hour+time.Minute+time.Millisecond)))
	joinReads(t, d, "deliveries", delivery{7, ""}) // alone, and once
	d.Send(of[shipment]("shipments"), "o2", shipment{"p2"}, streamstest.At(noon.Add(time.Hour)))
	joinReads[delivery](t, d, "deliveries")
}

func TestDocsTableTableJoin(t *testing.T) {
	joinedStock := kept[free]("free")
	d := joined(t, func(b *streams.Builder) {
		stock := b.Table(streams.Topic[string, int64]{Name: "stock"}, streams.Store[string, int64]{Name: "stock"})
		reserved := b.Table(streams.Topic[string, int64]{Name: "reserved"}, streams.Store[string, int64]{Name: "reserved"})
		stock.OuterJoin(reserved, func(_ string, have, taken *int64) (free, error) {
			var f free
			if have != nil {
				f.Have = *have
			}
			if taken != nil {
				f.Taken = *taken
			}
			return f, nil
		}, joinedStock)
	})
	d.Send(streams.Topic[string, int64]{Name: "stock"}, "nails", 100)
	d.Send(streams.Topic[string, int64]{Name: "reserved"}, "nails", 30)
	d.Send(streams.Topic[string, int64]{Name: "reserved"}, "screws", 1)
	d.Delete(streams.Topic[string, int64]{Name: "reserved"}, "screws")
	if f, ok := d.Store(joinedStock).Get("nails"); !ok || f != (free{100, 30}) {
		t.Errorf("nails: %v, %t", f, ok)
	}
	if f, ok := d.Store(joinedStock).Get("screws"); ok {
		t.Errorf("screws, of which neither table has a row: %v", f)
	}
}

func TestDocsGlobalJoin(t *testing.T) {
	d := joined(t, func(b *streams.Builder) {
		places := b.GlobalTable(of[place]("places"), kept[place]("places"))
		b.Stream(of[visit]("visits")).LeftJoinGlobal(places,
			func(_ string, v visit) (string, bool) { return v.Place, v.Place != "" },
			func(_ string, v visit, p *place) (place, error) {
				if p == nil {
					return place{"nowhere"}, nil
				}
				return *p, nil
			}).To(of[place]("cities"))
	})
	d.Send(of[place]("places"), "louvre", place{"Paris"})
	d.Send(of[visit]("visits"), "ada", visit{"louvre"})
	d.Send(of[visit]("visits"), "bob", visit{""})
	joinReads(t, d, "cities", place{"Paris"}, place{"nowhere"})
}

func TestDocsForeignKeyJoin(t *testing.T) {
	invoices := kept[receipt]("invoices")
	d := joined(t, func(b *streams.Builder) {
		customers := b.Table(of[customer]("customers"), kept[customer]("customers"))
		b.Table(of[order]("orders"), kept[order]("orders")).JoinForeign("customer-of", customers,
			func(_ string, o order) (string, bool) { return o.Customer, o.Customer != "" },
			func(_ string, o order, c customer) (receipt, error) { return receipt{c.Name, o.Cents}, nil },
			invoices)
	})
	d.SetPartitions("orders", 3) // the counts may differ
	d.SetPartitions("customers", 2)
	d.Send(of[order]("orders"), "o1", order{Customer: "c1", Cents: 5})
	d.Send(of[order]("orders"), "o2", order{Customer: "c2", Cents: 6})
	d.Send(of[customer]("customers"), "c1", customer{"Ada"})
	d.Send(of[customer]("customers"), "c1", customer{"Ada L."})
	if r, ok := d.Store(invoices).Get("o1"); !ok || r != (receipt{"Ada L.", 5}) {
		t.Errorf("o1: %v, %t", r, ok)
	}
	if r, ok := d.Store(invoices).Get("o2"); ok {
		t.Errorf("o2, whose customer is not there: %v", r)
	}
}

// Every record has a time of its own, and all of them lie in one window: partners are found by their key, not by going
// through the times. What the join knows of them it has again after a crash and a restart.
func TestStreamJoinOfRecordsWithTimesOfTheirOwn(t *testing.T) {
	const keys, rounds = 2000, 5
	number := func(name string) streams.Topic[string, int64] { return streams.Topic[string, int64]{Name: name} }
	d := joined(t, func(b *streams.Builder) {
		b.Stream(number("lefts")).Join("dense", b.Stream(number("rights")), streams.Within(time.Hour),
			func(_ string, l, r int64) (int64, error) { return l*r + 1, nil }).To(number("pairs"))
	})
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	send := func(round int) {
		side := number([]string{"lefts", "rights"}[round%2])
		for k := range keys {
			at := noon.Add(time.Duration(round*keys+k) * time.Millisecond)
			d.Send(side, strconv.Itoa(k), int64(k), streamstest.At(at))
		}
	}
	for round := range rounds {
		switch round {
		case 2:
			d.Crash(func() { send(round) })
		case 3:
			d.Restart()
			d.Together(func() { send(round) })
		default:
			d.Together(func() { send(round) })
		}
	}
	pairs := map[string]int{}
	for _, r := range d.Read(number("pairs")) {
		k, _ := strconv.ParseInt(r.Key, 10, 64)
		if r.Value != k*k+1 {
			t.Fatalf("%s: %d", r.Key, r.Value)
		}
		pairs[r.Key]++
	}
	for k := range keys { // three on the left, two on the right
		if got := pairs[strconv.Itoa(k)]; got != 6 {
			t.Fatalf("key %d has %d pairs, want 6", k, got)
		}
	}
}
