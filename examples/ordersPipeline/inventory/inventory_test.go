package inventory

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/leatstream/leat/examples/ordersPipeline/shop"
	"github.com/leatstream/leat/examples/ordersPipeline/shoptest"
	"github.com/leatstream/leat/streams/streamstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func order(id string, quantity int64) shop.Order {
	return shop.Order{ID: id, EventID: "e-" + id, Product: "lamp", Quantity: quantity, Total: 100 * quantity, Country: "DE", Currency: "EUR", PlacedAt: noon}
}

func delivery(id string, quantity int64) shop.Restock {
	return shop.Restock{EventID: id, Product: "lamp", Quantity: quantity, At: noon}
}

func TestEachEventCountsOnce(t *testing.T) {
	shoptest.Registry(t)
	topology, err := Topology()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, topology)
	for _, name := range []string{shop.TopicOrders, shop.TopicRestocks, shop.TopicDecisions} {
		d.SetPartitions(name, shop.Partitions)
	}
	d.Send(shop.Restocks, "lamp", delivery("initial-lamp", 5), streamstest.At(noon))
	for _, o := range []shop.Order{order("a", 3), order("b", 3), order("a", 3), order("c", 2), order("b", 3)} {
		d.Send(shop.Orders, o.ID, o, streamstest.At(noon))
	}
	d.Restart() // state comes back from disk and changelog
	d.Send(shop.Restocks, "lamp", delivery("initial-lamp", 5), streamstest.At(noon))
	d.Send(shop.Restocks, "lamp", delivery("r1", 4), streamstest.At(noon))
	d.Send(shop.Orders, "c", order("c", 2), streamstest.At(noon))
	d.Send(shop.Orders, "d", order("d", 4), streamstest.At(noon))

	got := map[string]string{}
	for _, r := range d.Read(shop.Decisions) {
		if got[r.Key] != "" {
			t.Errorf("order %s was decided twice", r.Key)
		}
		got[r.Key] = r.Value.Status + " " + r.Value.Reason
		if len(r.Headers) == 0 || r.Headers[0].Key != shop.EventIDHeader || string(r.Headers[0].Value) != "decision-"+r.Key || !r.Time.Equal(noon) {
			t.Errorf("order %s: headers %v, time %v", r.Key, r.Headers, r.Time)
		}
	}
	want := map[string]string{"a": "RESERVED ", "b": "REJECTED only 2 left of lamp", "c": "RESERVED ", "d": "RESERVED "}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	s, _ := d.Store(shop.StockStore).Get("lamp")
	if want := (shop.Stock{Delivered: 9, OnHand: 0, Reserved: 9}); s != want {
		t.Errorf("stock %+v, want %+v", s, want)
	}
}

func TestTheInvariantHoldsWhateverComes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s shop.Stock
		sold := int64(0)
		for i := range rapid.IntRange(0, 50).Draw(t, "events") {
			n := rapid.Int64Range(1, 20).Draw(t, "quantity")
			if rapid.Bool().Draw(t, "delivery") {
				s = deliver(s, delivery(fmt.Sprint(i), n))
			} else {
				var d shop.Decision
				if s, d = decide(s, order(fmt.Sprint(i), n)); d.Status == shop.Reserved {
					sold += n
				}
			}
			if !s.Balanced() || s.Reserved != sold {
				t.Fatalf("after event %d: %+v, sold %d", i, s, sold)
			}
		}
	})
}

// The ids of events are forgotten after a week, so that the store does not grow for ever; initial stock comes in once all
// the same.
func TestEventIDsAreForgottenInTime(t *testing.T) {
	shoptest.Registry(t)
	topology, err := Topology()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, topology)
	at := noon
	for i := range 100 {
		d.Send(shop.Restocks, "lamp", delivery(fmt.Sprint("r", i), 1), streamstest.At(at))
		d.Send(shop.Restocks, "lamp", delivery("initial-lamp", 5), streamstest.At(at))
		at = at.Add(24 * time.Hour)
	}
	s, _ := d.Store(shop.StockStore).Get("lamp")
	if s.Delivered != 100 { // the first of all was r0, so that there was stock
		t.Errorf("delivered %d, want 100", s.Delivered)
	}
	if n := len(d.WindowStore(recent).All()); n > 30 {
		t.Errorf("%d ids are known after 100 days, want at most those of three weeks", n)
	}
}
