package analytics

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/leatstream/leat/examples/ordersPipeline/shop"
	"github.com/leatstream/leat/examples/ordersPipeline/shoptest"
	"github.com/leatstream/leat/streams/streamstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var noon = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestRevenueIsTheSumOverReservedOrders(t *testing.T) {
	shoptest.Registry(t)
	topology, err := Topology()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, topology)
	for _, name := range []string{shop.TopicDecisions, shop.TopicProducts} {
		d.SetPartitions(name, shop.Partitions)
	}
	d.Send(shop.Products, "lamp", shop.Product{SKU: "lamp", Category: "home"}, streamstest.At(noon))
	send := func(id, country, product string, total int64, reason string, at time.Duration) {
		v := shop.Decide(shop.Order{ID: id, Country: country, Product: product, Total: total, Currency: "EUR", PlacedAt: noon.Add(at)}, reason)
		d.Send(shop.Decisions, id, v, streamstest.At(v.PlacedAt))
	}
	send("a", "DE", "lamp", 100, "", 0)
	send("b", "DE", "unknown product", 30, "", 5*time.Second) // no product to join, and money all the same
	send("c", "DE", "lamp", 1000, "sold out", 5*time.Second)
	send("d", "FR", "lamp", 7, "", 12*time.Second)
	send("e", "DE", "lamp", 200, "", 25*time.Second)
	send("f", "DE", "lamp", 5, "", 3*time.Second) // late, within the grace

	totals := map[string]shop.Sales{}
	for _, r := range d.Read(shop.Totals) {
		totals[r.Key] = r.Value
	}
	if diff := cmp.Diff(map[string]shop.Sales{"DE": {Orders: 4, Revenue: 335}, "FR": {Orders: 1, Revenue: 7}}, totals); diff != "" {
		t.Error(diff)
	}
	windows := map[string]shop.Sales{}
	for _, r := range d.Read(shop.Revenue) {
		windows[r.Key.Key+" "+r.Key.Start.Format("05")+"-"+r.Key.End.Format("05")] = r.Value
	}
	want := map[string]shop.Sales{"DE 00-10": {Orders: 3, Revenue: 135}, "DE 20-30": {Orders: 1, Revenue: 200}, "FR 10-20": {Orders: 1, Revenue: 7}}
	if diff := cmp.Diff(want, windows); diff != "" {
		t.Error(diff)
	}
}
