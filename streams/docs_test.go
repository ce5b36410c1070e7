package streams_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// The programs of docs/stateless.md, docs/tables.md and docs/testing.md, so that the pages stay true.

type docsEvent struct {
	User string
	Kind string
	Tags []string
}

var (
	docsEvents = streams.Topic[string, docsEvent]{Name: "events", Value: serde.JSON[docsEvent]()}
	docsTags   = streams.Topic[string, string]{Name: "tags"}
	docsClicks = streams.Topic[string, string]{Name: "clicks"}
	docsRest   = streams.Topic[string, string]{Name: "rest"}
)

func docsStateless() (*streams.Topology, error) {
	var b streams.Builder
	events := b.Stream(docsEvents).
		Filter(func(_ string, e docsEvent) bool { return e.User != "" }).
		SelectKey(func(_ string, e docsEvent) string { return e.User })

	events.FlatMapValues(func(_ string, e docsEvent) ([]string, error) { return e.Tags, nil }).
		To(docsTags)

	kinds := events.MapValues(func(_ string, e docsEvent) (string, error) {
		if e.Kind == "" {
			return "", errors.New("an event without a kind")
		}
		return strings.ToLower(e.Kind), nil
	}).Split()
	kinds.Branch(func(_, kind string) bool { return kind == "click" }).
		MapRecord(func(r streams.Record[string, string]) (streams.Record[string, string], error) {
			r.Headers = append(r.Headers, streams.Header{Key: "seen", Value: []byte("yes")})
			return r, nil
		}).
		To(docsClicks)
	kinds.Default().To(docsRest)
	return b.Build()
}

func TestDocsStateless(t *testing.T) {
	top, err := docsStateless()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, top, streams.Config{OnError: func(context.Context, *streams.RecordError) streams.Decision {
		return streams.DeadLetter("broken-events")
	}})
	d.Send(docsEvents, "1", docsEvent{User: "ada", Kind: "Click", Tags: []string{"new", "mobile"}})
	d.Send(docsEvents, "2", docsEvent{User: "bob"})
	d.Send(docsEvents, "3", docsEvent{Kind: "click"})
	d.Send(docsEvents, "4", docsEvent{User: "bob", Kind: "view"})
	d.Expect(docsTags, streamstest.KV("ada", "new"), streamstest.KV("ada", "mobile"))
	d.Expect(docsClicks, streamstest.KV("ada", "click", streamstest.Headers(streams.Header{Key: "seen", Value: []byte("yes")})))
	d.Expect(docsRest, streamstest.KV("bob", "view"))
	if letters := d.Letters("broken-events"); len(letters) != 1 || letters[0].From != "events" {
		t.Errorf("dead letters %+v, want the event without a kind", letters)
	}
}

type docsAccount struct {
	Owner string
	Cents int64
}

type docsOwner struct {
	Name string
}

var (
	docsAccounts = streams.Topic[string, docsAccount]{Name: "accounts", Value: serde.JSON[docsAccount]()}
	docsOwners   = streams.Topic[string, docsOwner]{Name: "owners", Value: serde.JSON[docsOwner]()}
	docsByID     = streams.Store[string, docsAccount]{Name: "accounts-by-id", Value: serde.JSON[docsAccount]()}
	docsByName   = streams.Store[string, docsOwner]{Name: "owners-by-id", Value: serde.JSON[docsOwner]()}
	docsWealth   = streams.Store[string, int64]{Name: "wealth"}
	docsReport   = streams.Topic[string, string]{Name: "report"}
)

func docsTables() (*streams.Topology, error) {
	var b streams.Builder
	accounts := b.Table(docsAccounts, docsByID)
	owners := b.Table(docsOwners, docsByName)
	sum := func(sign int64) func(string, int64, int64) (int64, error) {
		return func(_ string, cents, all int64) (int64, error) { return all + sign*cents, nil }
	}
	wealth := accounts.
		GroupBy(func(_ string, a docsAccount) (string, int64, error) { return a.Owner, a.Cents, nil }).
		Aggregate(docsWealth, func() int64 { return 0 }, sum(+1), sum(-1))
	wealth.Join(owners, func(_ string, cents int64, o docsOwner) (string, error) {
		if cents >= 1000 {
			return o.Name + " is rich", nil
		}
		return o.Name, nil
	}).To(docsReport)
	return b.Build()
}

func TestDocsTables(t *testing.T) {
	top, err := docsTables()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, top)
	d.SetPartitions("accounts", 4)
	d.Send(docsOwners, "o1", docsOwner{Name: "Ada"})
	d.Send(docsAccounts, "a1", docsAccount{Owner: "o1", Cents: 700})
	d.Send(docsAccounts, "a2", docsAccount{Owner: "o1", Cents: 400})
	d.Delete(docsAccounts, "a1")
	d.Expect(docsReport, streamstest.KV("o1", "Ada"), streamstest.KV("o1", "Ada is rich"), streamstest.KV("o1", "Ada"))
	d.Store(docsWealth).Expect(streamstest.Row[string, int64]{Key: "o1", Value: 400})
}

// The topology that docs/testing.md tests: the sum of the last minute, told when it is over.
func docsMinutes() (*streams.Topology, error) {
	var b streams.Builder
	b.Stream(streams.Topic[string, int64]{Name: "in"}).
		GroupByKey().
		WindowedBy(streams.Tumbling(time.Minute)).Final().
		Reduce(streams.WindowStore[string, int64]{Name: "sums"}, func(a, b int64) (int64, error) { return a + b, nil }).
		ToStream(func(w streams.Windowed[string]) string { return w.Key }).
		To(streams.Topic[string, int64]{Name: "out"})
	return b.Build()
}

func TestDocsTesting(t *testing.T) {
	top, err := docsMinutes()
	if err != nil {
		t.Fatal(err)
	}
	in, out := streams.Topic[string, int64]{Name: "in"}, streams.Topic[string, int64]{Name: "out"}
	noon := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	d := streamstest.New(t, top)
	d.SetPartitions("in", 3)
	d.Send(in, "ada", 5, streamstest.At(noon))
	d.Send(in, "ada", 7, streamstest.At(noon.Add(59*time.Second)))
	d.Expect(out) // nothing yet
	d.Crash(func() { d.Send(in, "ada", 1, streamstest.At(noon.Add(time.Minute))) })
	d.Expect(out, streamstest.KV("ada", int64(12)))
	d.Send(in, "ada", 9, streamstest.At(noon)) // too late
	if late := d.Dropped().Late; late != 1 {
		t.Errorf("%d records were late, want 1", late)
	}
	streamstest.Fold[string, int64, int64]{
		Zero:     func() int64 { return 0 },
		Add:      func(_ string, v, sum int64) (int64, error) { return sum + v, nil },
		Subtract: func(_ string, v, sum int64) (int64, error) { return sum - v, nil },
		Key:      func(*rand.Rand) string { return "k" },
		Value:    func(r *rand.Rand) int64 { return r.Int64N(100) },
	}.Check(t)
}
