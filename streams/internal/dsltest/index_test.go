package dsltest

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// The program of docs/stores.md on indexes.

type order struct {
	Customer string
	Cents    int64
	Done     bool
}

var (
	orders = streams.Topic[string, order]{Name: "orders", Value: serde.JSON[order]()}
	// open finds the orders of a customer that are not done.
	openOrders = streams.Index[string, order, string]{
		Name: "open-by-customer",
		Of:   func(_ string, o order) (string, bool) { return o.Customer, !o.Done },
	}
	byCents = streams.Index[string, order, int64]{
		Name: "by-cents",
		Of:   func(_ string, o order) (int64, bool) { return o.Cents, true },
	}
	ordersByID = streams.Store[string, order]{
		Name:    "orders-by-id",
		Value:   serde.JSON[order](),
		Indexes: []streams.StoreIndex[string, order]{openOrders, byCents},
	}
	questions = streams.Topic[string, string]{Name: "questions"}
	answers   = streams.Topic[string, string]{Name: "answers"}
)

// answer tells a customer's open orders.
func answer(t *streams.Task, emit streams.Emit[string, string]) (streams.Processor[string, string], error) {
	open := t.Index(ordersByID, openOrders)
	return func(_ context.Context, r streams.Record[string, string]) error {
		var ids []string
		for id, o := range open.Get(r.Key) {
			ids = append(ids, fmt.Sprint(id, "=", o.Cents))
		}
		if err := open.Err(); err != nil {
			return err
		}
		return emit(streams.Record[string, string]{Key: r.Key, Value: strings.Join(ids, " ")})
	}, nil
}

func indexed(t *testing.T) *streams.Topology {
	t.Helper()
	var b streams.Builder
	b.Table(orders, ordersByID)
	b.Stream(questions).ProcessValues("answer", answer, ordersByID).To(answers)
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return topology
}

func TestIndexInProcessors(t *testing.T) {
	d := streamstest.New(t, indexed(t))
	ask := func(customer string) string {
		d.Send(questions, customer, "?")
		got := d.Read(answers)
		if len(got) != 1 {
			t.Fatalf("answers %v, want one", got)
		}
		return got[0].Value
	}
	d.Send(orders, "o2", order{"ada", 7, false})
	d.Send(orders, "o1", order{"ada", 5, false})
	d.Send(orders, "o3", order{"bob", 9, false})
	var seen []string
	seen = append(seen, ask("ada"), ask("bob"), ask("eve"))
	d.Together(func() { // within one commit: what is not written yet is seen, too
		d.Send(orders, "o2", order{"ada", 7, true})
		d.Send(orders, "o4", order{"ada", 1, false})
		d.Send(questions, "ada", "?")
	})
	seen = append(seen, d.Read(answers)[0].Value)
	d.Delete(orders, "o1")
	d.Restart()
	seen = append(seen, ask("ada"))
	if diff := cmp.Diff([]string{"o1=5 o2=7", "o3=9", "", "o1=5 o4=1", "o4=1"}, seen); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := d.LookUp(ordersByID, byCents, 9); len(got) != 1 || got[0].Key != "o3" {
		t.Errorf("orders of 9 cents: %v", got)
	}
}

func TestIndexMistakes(t *testing.T) {
	type points struct{ X, Y int }
	for want, s := range map[string]streams.Store[string, order]{
		"has no Of":            {Name: "s", Value: serde.JSON[order](), Indexes: []streams.StoreIndex[string, order]{streams.Index[string, order, string]{Name: "x"}}},
		"two indexes named":    {Name: "s", Value: serde.JSON[order](), Indexes: []streams.StoreIndex[string, order]{openOrders, openOrders}},
		"an index that is nil": {Name: "s", Value: serde.JSON[order](), Indexes: []streams.StoreIndex[string, order]{nil}},
		`index "xy" of store "s"`: {Name: "s", Value: serde.JSON[order](), Indexes: []streams.StoreIndex[string, order]{
			streams.Index[string, order, points]{Name: "xy", Of: func(string, order) (points, bool) { return points{}, true }}}},
	} {
		var b streams.Builder
		b.Table(orders, s)
		if _, err := b.Build(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that says %q", err, want)
		}
	}
}
