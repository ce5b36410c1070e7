package streams_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

// planned builds a topology and returns it.
func planned(t testing.TB, build func(b *streams.Builder)) *streams.Topology {
	t.Helper()
	var b streams.Builder
	build(&b)
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return topology
}

// sold is the topology that runs in these tests.
func sold(b *streams.Builder) {
	b.Stream(streams.Topic[string, string]{Name: "orders"}).
		GroupBy(func(_, v string) string { return v }).
		Count(streams.Store[string, int64]{Name: "sold"}).ToStream().To(streams.Topic[string, int64]{Name: "totals"})
	b.Table(streams.Topic[string, string]{Name: "customers"}, streams.Store[string, string]{Name: "by-id"})
}

func TestPlanSaysWhatATopologyChanges(t *testing.T) {
	orders := streams.Topic[string, string]{Name: "orders"}
	customers := func(b *streams.Builder) {
		b.Table(streams.Topic[string, string]{Name: "customers"}, streams.Store[string, string]{Name: "by-id"})
	}
	word := func(_, v string) string { return v }
	totals := streams.Topic[string, int64]{Name: "totals"}
	for _, c := range []struct {
		name  string
		build func(b *streams.Builder)
		want  string
	}{
		{"the same", sold, "no changes\n"},
		{"operators without state", func(b *streams.Builder) {
			b.Stream(orders).Filter(func(_, v string) bool { return v != "" }).MapValues(streams.Pure(func(_, v string) string { return v })).
				GroupBy(word).Count(streams.Store[string, int64]{Name: "sold"}).ToStream().To(totals)
			customers(b)
		}, "no changes\n"},
		{"a renamed store", func(b *streams.Builder) {
			b.Stream(orders).GroupBy(word).Count(streams.Store[string, int64]{Name: "sales"}).ToStream().To(totals)
			customers(b)
		}, `  store sales: new, begins empty
! store sold: gone; its rows stay behind in topic <app>-sold-changelog, which nobody reads; store sales is new and has the same kind and formats: if it is this one renamed, call it sold again to keep the rows
  repartition sales-repartition: new
! repartition sold-repartition: gone; records that wait in <app>-sold-repartition are not read any more
`},
		{"another key and value", func(b *streams.Builder) {
			b.Stream(orders).GroupBy(func(_, v string) int64 { return int64(len(v)) }).
				Aggregate(streams.Store[int64, string]{Name: "sold"}, func() string { return "" }, func(_ int64, v, a string) (string, error) { return a + v, nil })
			customers(b)
		}, `! store sold: has keys in format int64, its rows have string: they would be misread; give the new one another name
! store sold: has values in format string, its rows have int64: they would be misread; give the new one another name
! repartition sold-repartition: carries int64 and string, records that wait in it are string and string: they would be misread; let the application drain it first, or give the new one another name
  sink totals: is not written any more
`},
		{"another kind", func(b *streams.Builder) {
			b.Stream(orders).GroupBy(word).WindowedBy(streams.Tumbling(time.Minute)).Count(streams.WindowStore[string, int64]{Name: "sold"})
			customers(b)
		}, `! store sold: is a window store, was a key-value store: its rows cannot be read; give the new one another name
  sink totals: is not written any more
`},
		{"a new source", func(b *streams.Builder) {
			sold(b)
			b.Stream(streams.Topic[string, string]{Name: "returns"}, streams.Source{Reset: streams.Latest}).To(streams.Topic[string, string]{Name: "out"})
			b.Stream(streams.Topic[string, string]{Name: "gifts"}).GroupByKey().Count(streams.Store[string, int64]{Name: "gifts"})
		}, `  store gifts: new, begins empty
  source gifts: new, is read from its beginning
  source returns: new, is read from its end on
  sink out: new
`},
		{"a new aggregate of a topic that is read already", func(b *streams.Builder) {
			b.Stream(orders).GroupBy(word).Count(streams.Store[string, int64]{Name: "sold"}).ToStream().To(totals)
			c := b.Table(streams.Topic[string, string]{Name: "customers"}, streams.Store[string, string]{Name: "by-id"})
			c.MapValues(streams.Pure(func(_, v string) string { return v }), streams.Store[string, string]{Name: "names"})
		}, `  store names: new, begins empty; what its topics held before the committed positions is not read again
`},
		{"the optimisation", func(b *streams.Builder) { b.Optimize = true; sold(b) },
			"  store by-id: is rebuilt by reading topic customers from its beginning; topic <app>-by-id-changelog stays behind\n"},
		{"another topic for the table", func(b *streams.Builder) {
			b.Stream(orders).GroupBy(word).Count(streams.Store[string, int64]{Name: "sold"}).ToStream().To(totals)
			b.Table(streams.Topic[string, string]{Name: "clients"}, streams.Store[string, string]{Name: "by-id"})
		}, `! store by-id: is filled from clients, was filled from customers: rows of both would mix; give the new one another name
  source clients: new, is read from its beginning
  source customers: is not read any more; its committed positions stay in the group
`},
		{"without a changelog", func(b *streams.Builder) {
			b.Stream(orders).GroupBy(word).Count(streams.Store[string, int64]{Name: "sold", NoChangelog: true}).ToStream().To(totals)
			customers(b)
		}, "! store sold: keeps no changelog any more, and begins empty\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := streams.PlanChanges(planned(t, sold).Manifest(), planned(t, c.build).Manifest())
			if diff := cmp.Diff(c.want, p.String()); diff != "" {
				t.Errorf("plan (-want +got):\n%s", diff)
			}
			if loses := strings.Contains(c.want, "! "); p.LosesState() != loses || (p.Fingerprint() != "") != loses {
				t.Errorf("loses state: %v, fingerprint %q; want %v", p.LosesState(), p.Fingerprint(), loses)
			}
		})
	}
}

func TestPlanOfTurnedOffOptimisation(t *testing.T) {
	on := planned(t, func(b *streams.Builder) { b.Optimize = true; sold(b) }).Manifest()
	p := streams.PlanChanges(on, planned(t, sold).Manifest())
	if !p.LosesState() || !strings.Contains(p.String(), "by-id") {
		t.Errorf("plan %s, want that by-id begins empty", p)
	}
}

func TestPlanOfAGlobalTable(t *testing.T) {
	global := func(topic string) streams.Manifest {
		return planned(t, func(b *streams.Builder) {
			g := b.GlobalTable(streams.Topic[string, string]{Name: topic}, streams.Store[string, string]{Name: "g"})
			b.Stream(streams.Topic[string, string]{Name: "in"}).
				JoinGlobal(g, func(k, _ string) (string, bool) { return k, true }, func(_, l, r string) (string, error) { return l + r, nil }).
				To(streams.Topic[string, string]{Name: "out"})
		}).Manifest()
	}
	p := streams.PlanChanges(global("a"), global("b"))
	if p.LosesState() || !strings.Contains(p.String(), "store g: is rebuilt by reading topic b from its beginning, was a copy of topic a") {
		t.Errorf("plan %s", p)
	}
}

func TestPlanOfWindows(t *testing.T) {
	windowed := func(size time.Duration) streams.Manifest {
		return planned(t, func(b *streams.Builder) {
			b.Stream(streams.Topic[string, string]{Name: "in"}).GroupByKey().WindowedBy(streams.Tumbling(size)).
				Count(streams.WindowStore[string, int64]{Name: "w"})
		}).Manifest()
	}
	p := streams.PlanChanges(windowed(time.Hour), windowed(time.Minute))
	want := "! store w: has windows of 1m0s, its rows are of windows of 1h0m0s; give the new one another name\n  store w: keeps its rows for 1m0s, kept them for 1h0m0s: older ones are dropped\n"
	if diff := cmp.Diff(want, p.String()); diff != "" {
		t.Errorf("plan (-want +got):\n%s", diff)
	}
}

// A manifest is kept by applications: what it looks like in JSON must stay readable.
func TestManifestOutlivesTheProgram(t *testing.T) {
	m := planned(t, sold).Manifest()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"version":1,"sources":[{"name":"customers","key":"string","value":"string"},{"name":"orders","key":"string","value":"string"}],` +
		`"sinks":[{"name":"totals","key":"string","value":"int64"}],"repartitions":[{"name":"sold-repartition","key":"string","value":"string"}],` +
		`"stores":[{"name":"by-id","kind":"key-value","key":"string","value":"string","changelog":"by-id-changelog","table":["customers"]},` +
		`{"name":"sold","kind":"key-value","key":"string","value":"int64","changelog":"sold-changelog"}],` +
		`"subTopologies":[{"sources":["orders"]},{"sources":["customers"],"stores":["by-id"]},{"sources":["sold-repartition"],"stores":["sold"]}]}`
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
	again, err := streams.DecodeManifest(b)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(m, again); diff != "" {
		t.Errorf("decoded (-want +got):\n%s", diff)
	}
	for _, bad := range []string{"", "{", `{"version":2}`, `{}`} {
		if _, err := streams.DecodeManifest([]byte(bad)); err == nil {
			t.Errorf("%q is taken for a manifest", bad)
		}
	}
}

// An application whose topology has lost a store does not start, says why, and goes on when it is told to; after that the
// new topology is the one that counts.
func TestChangedTopologyIsRefusedAtStart(t *testing.T) {
	b := newBench(t, []string{startBroker(t).Addr()})
	want := map[string]int64{}
	out := b.results()
	old := b.config("a")
	old.LeaveOnStop = true
	app := b.start(old, nil)
	b.say(want, "one two")
	out.expect(want)
	app.stop()
	if err := app.wait(t); err != nil {
		t.Fatal(err)
	}
	topology := planned(t, func(bl *streams.Builder) {
		bl.Stream(streams.Topic[string, string]{Name: b.in}).
			FlatMapValues(func(_, line string) ([]string, error) { return strings.Fields(line), nil }).
			GroupBy(func(_, word string) string { return word }).
			Count(streams.Store[string, int64]{Name: "renamed"}).ToStream().To(streams.Topic[string, int64]{Name: b.out})
	})
	cfg := b.config("b") // an empty directory: what ran before is known to the cluster
	next, err := streams.New(topology, cfg)
	if err != nil {
		t.Fatal(err)
	}
	plan, err := next.Plan(t.Context())
	if err != nil || !plan.LosesState() {
		t.Fatalf("plan %v, error %v; want one that loses state", plan, err)
	}
	err = next.Run(t.Context())
	if !errors.Is(err, streams.ErrTopologyChanged) || !strings.Contains(fmt.Sprint(err), "store counts: gone") || !strings.Contains(fmt.Sprint(err), plan.Fingerprint()) {
		t.Fatalf("Run returned %v, want ErrTopologyChanged with the plan and its fingerprint", err)
	}
	cfg.AcceptPlan = plan.Fingerprint()
	run := b.run(topology, cfg, nil)
	run.ready(t)
	run.stop()
	if err := run.wait(t); err != nil {
		t.Fatal(err)
	}
	if plan, err := next.Plan(t.Context()); err != nil || len(plan.Changes) != 0 {
		t.Errorf("after the change was accepted the plan is %v, error %v; want none", plan, err)
	}
}

func TestPictures(t *testing.T) {
	topology := planned(t, func(b *streams.Builder) {
		b.Stream(streams.Topic[string, string]{Name: `in`}).Named(`the "first"`).GroupByKey().
			Count(streams.Store[string, int64]{Name: "n"}).ToStream().To(streams.Topic[string, int64]{Name: "out"})
	})
	wantDOT := `digraph topology {
  rankdir=LR;
  node [fontname="sans-serif", fontsize=10];
  subgraph cluster_0 {
    label="sub-topology 0";
    n0 [label="the \"first\"", shape=cds];
    n1 [label="KSTREAM-AGGREGATE-0000000001", shape=box];
    s2 [label="n", shape=cylinder];
    n3 [label="KTABLE-TOSTREAM-0000000002", shape=box];
    n4 [label="KSTREAM-SINK-0000000003", shape=rarrow];
  }
  t5 [label="in", shape=note];
  t5 -> n0;
  n0 -> n1;
  n1 -> n3;
  n1 -> s2 [dir=none, style=dashed];
  n3 -> n4;
  t6 [label="out", shape=note];
  n4 -> t6;
}
`
	if diff := cmp.Diff(wantDOT, topology.DOT()); diff != "" {
		t.Errorf("DOT (-want +got):\n%s", diff)
	}
	wantMermaid := `flowchart LR
  subgraph sub0 [sub-topology 0]
    n0(["the #quot;first#quot;"])
    n1["KSTREAM-AGGREGATE-0000000001"]
    s2[("n")]
    n3["KTABLE-TOSTREAM-0000000002"]
    n4[/"KSTREAM-SINK-0000000003"/]
  end
  t5{{"in"}}
  t5 --> n0
  n0 --> n1
  n1 --> n3
  n1 -.- s2
  n3 --> n4
  t6{{"out"}}
  n4 --> t6
`
	if diff := cmp.Diff(wantMermaid, topology.Mermaid()); diff != "" {
		t.Errorf("Mermaid (-want +got):\n%s", diff)
	}
	var got struct {
		SubTopologies []struct {
			ID    int
			Nodes []struct {
				Name, Type, Key, Value string
				Topics, Stores, To     []string
			}
		}
	}
	if err := json.Unmarshal([]byte(topology.JSON()), &got); err != nil {
		t.Fatal(err)
	}
	if nodes := got.SubTopologies[0].Nodes; len(nodes) != 4 || nodes[1].Stores[0] != "n" || nodes[1].To[0] != nodes[2].Name ||
		nodes[0].Key != serde.FormatOf(serde.String) || nodes[3].Topics[0] != "out" {
		t.Errorf("JSON is %s", topology.JSON())
	}
}
