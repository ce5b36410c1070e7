package policytest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// scanning keeps what it gets in a store with an index and in a store of windows, and tells the keys that it finds in all of
// them when it is asked with the key "?".
func scanning(t *testing.T, s choosy) *streams.Topology {
	by := streams.Index[string, string, string]{Name: "all", Of: func(string, string) (string, bool) { return "x", true }}
	rows := streams.Store[string, string]{Name: "rows", Value: s, Indexes: []streams.StoreIndex[string, string]{by}}
	windows := streams.WindowStore[string, string]{Name: "windows", Value: s, Retention: time.Hour, Size: time.Minute}
	b := new(streams.Builder)
	b.Stream(topic{Name: "in"}).ProcessValues("scan", func(t *streams.Task, emit streams.Emit[string, string]) (streams.Processor[string, string], error) {
		st, found, ws := t.Store(rows), t.Index(rows, by), t.WindowStore(windows)
		return func(_ context.Context, r streams.Record[string, string]) error {
			if r.Key != "?" {
				return errors.Join(st.Put(r.Key, r.Value), ws.Put(r.Key, r.Time, r.Value))
			}
			var seen []string
			for k := range st.All() {
				seen = append(seen, "row "+k)
			}
			for k := range found.Get("x") {
				seen = append(seen, "found "+k)
			}
			for w := range ws.Between(time.UnixMilli(0), r.Time) {
				seen = append(seen, "window "+w.Key)
			}
			for w := range ws.Fetch("a", time.UnixMilli(0), r.Time) {
				seen = append(seen, "fetched "+w.Key)
			}
			if err := errors.Join(st.Err(), ws.Err()); err != nil {
				return err
			}
			return emit(streams.Record[string, string]{Key: r.Key, Value: strings.Join(seen, ", ")})
		}, nil
	}, rows, windows).To(topic{Name: "out"})
	return build(t, b)
}

// A row that does not decode, and that an iteration meets, is for the policy: it is left out, or ends the application with an
// error that says which row it is.
func TestScansThatMeetRowsThatDoNotDecode(t *testing.T) {
	broken := false
	s := choosy{reject: func(v string) bool { return broken && bad(v) }}
	decision := streams.Skip()
	var got []streams.RecordError
	d := streamstest.New(t, scanning(t, s), streams.Config{OnError: func(_ context.Context, e *streams.RecordError) streams.Decision {
		got = append(got, *e)
		return decision
	}})
	in := topic{Name: "in"}
	d.Send(in, "a", "bad")
	d.Send(in, "b", "good")
	d.Restart()
	ask := func() []string {
		d.Send(in, "?", "")
		return values(d, "out")
	}
	broken = true
	if out := ask(); !slices.Equal(out, []string{"row b, found b, window b"}) {
		t.Errorf("the scans saw %v, want b alone", out)
	}
	if n := d.Dropped().Skipped; n != 4 || len(got) != 4 {
		t.Fatalf("%d skipped, %d errors, want one for each scan", n, len(got))
	}
	if e := got[0]; e.Store != "rows" || e.Phase != "decode" || string(e.Key) != "a" || string(e.Value) != "bad" || e.Topic != "test-rows-changelog" || e.Offset != -1 {
		t.Errorf("the error is %+v, want one of the row", e)
	}
	decision = streams.DeadLetter("letters")
	ask()
	if l := d.Letters("letters"); len(l) != 4 || string(l[0].Key) != "a" || string(l[0].Value) != "bad" || l[0].Store != "rows" {
		t.Errorf("letters %+v, want the row, once for each scan", l)
	}
	decision = streams.Fail()
	err := d.Fails(func() { ask() })
	if err == nil || !strings.Contains(err.Error(), "key 61 (hex) of store rows/0, which stands at changelog offset ") {
		t.Errorf("error %v, want one that names the row", err)
	}
}

// Retry decodes the row again.
func TestScansRetryRowsThatDoNotDecode(t *testing.T) {
	broken := false
	d := streamstest.New(t, scanning(t, choosy{reject: func(v string) bool { return broken && bad(v) }}), streams.Config{
		OnError: func(context.Context, *streams.RecordError) streams.Decision {
			broken = false
			return streams.Retry(time.Second)
		}})
	d.Send(topic{Name: "in"}, "a", "bad")
	d.Restart()
	broken = true
	d.Send(topic{Name: "in"}, "?", "")
	if out := values(d, "out"); !slices.Equal(out, []string{"row a, found a, window a, fetched a"}) {
		t.Errorf("the scans saw %v, want the row", out)
	}
}

// The partners that a join of streams looks for are rows that the record needs: the error is the record's.
func TestPartnersThatDoNotDecode(t *testing.T) {
	broken := false
	s := choosy{reject: func(v string) bool { return broken && bad(v) }}
	b := new(streams.Builder)
	left, right := topic{Name: "left", Value: s}, topic{Name: "right", Value: s}
	b.Stream(left).Join("j", b.Stream(right), streams.Within(time.Minute), func(_, l, r string) (string, error) { return l + r, nil }).
		To(topic{Name: "out"})
	var got []string
	d := streamstest.New(t, build(t, b), streams.Config{OnError: func(_ context.Context, e *streams.RecordError) streams.Decision {
		got = append(got, e.Topic)
		return streams.Skip()
	}})
	d.Send(left, "a", "bad")
	d.Send(left, "b", "good")
	d.Restart()
	d.Send(right, "b", "2") // from here on it is known where each key's records are
	broken = true
	d.Send(right, "a", "1")
	if out := values(d, "out"); !slices.Equal(out, []string{"good2"}) {
		t.Errorf("results %v, want the one whose partner decodes", out)
	}
	if !slices.Equal(got, []string{"right"}) {
		t.Errorf("errors of %v, want one of the record", got)
	}
}
