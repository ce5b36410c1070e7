package cluster_test

import (
	"fmt"
	"testing"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/registry/avro"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest/cluster"
)

// sale and its sum are Avro on all topics, so that nothing can be read or written without their schemas.
type sale struct {
	Customer string `avro:"customer"`
	Cents    int64  `avro:"cents"`
}

type sold struct {
	Cents int64 `avro:"cents"`
}

func sales(reg *registry.Client) streams.Topic[string, sale] {
	return streams.Topic[string, sale]{Name: "sales", Value: avro.Of[sale](reg)}
}

func sums(reg *registry.Client) streams.Topic[string, sold] {
	return streams.Topic[string, sold]{Name: "sold", Value: avro.Of[sold](reg)}
}

// With the registry cut off and away, no record is lost, none is skipped and none is counted twice.
func TestWithARegistryIsExact(t *testing.T) {
	cluster.Test(t, cluster.Scenario{
		Registered: func(reg *registry.Client) (*streams.Topology, error) {
			var b streams.Builder
			b.Stream(sales(reg)).
				SelectKey(func(_ string, s sale) string { return s.Customer }).
				WithSerdes(serde.String, avro.Of[sale](reg)).
				GroupByKey().
				Aggregate(streams.Store[string, sold]{Name: "by-customer", Value: avro.Of[sold](reg)}, func() sold { return sold{} },
					func(_ string, s sale, sum sold) (sold, error) { return sold{sum.Cents + s.Cents}, nil }).
				ToStream().To(sums(reg))
			return b.Build()
		},
		Topics: map[string]int{"sales": 3, "sold": 2},
		Input: func(f *cluster.Feed) {
			for i := range 200 {
				f.Send(sales(f.Registry), fmt.Sprint(i), sale{fmt.Sprint("c", f.Rand.IntN(20)), 1 + f.Rand.Int64N(100)})
			}
		},
		Check: func(o *cluster.Outcome) error {
			in, err := o.Read(sales(o.Registry))
			if err != nil {
				return err
			}
			want := map[string]int64{}
			for _, r := range in {
				want[r.Value.Customer] += r.Value.Cents
			}
			out, err := o.Read(sums(o.Registry))
			if err != nil {
				return err
			}
			got := map[string]int64{}
			for n, r := range out {
				if r.Value.Cents <= got[r.Key] {
					return fmt.Errorf("record %d takes %s from %d to %d", n, r.Key, got[r.Key], r.Value.Cents)
				}
				got[r.Key] = r.Value.Cents
			}
			for k, n := range want {
				if got[k] != n {
					return fmt.Errorf("%s has %d, want %d", k, got[k], n)
				}
			}
			if len(got) != len(want) {
				return fmt.Errorf("%d customers, want %d", len(got), len(want))
			}
			return nil
		},
	})
}
