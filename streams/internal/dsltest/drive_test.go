package dsltest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

var (
	words   = streams.Topic[string, string]{Name: "words"}
	results = streams.Topic[string, *int64]{Name: "results"}
)

// drive builds a topology and its driver.
func drive(t *testing.T, build func(b *streams.Builder), cfg ...streams.Config) *streamstest.Driver {
	t.Helper()
	var b streams.Builder
	build(&b)
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, topology, cfg...)
	d.SetClock(time.UnixMilli(0))
	return d
}

func at(ms int64) streamstest.Option { return streamstest.At(time.UnixMilli(ms)) }

// wants compares what was written with texts k=v@ms, or k=-@ms for a delete.
func wants(t *testing.T, d *streamstest.Driver, want ...string) {
	t.Helper()
	var got []string
	for _, r := range d.Read(results) {
		v := "-"
		if r.Value != nil {
			v = fmt.Sprint(*r.Value)
		}
		got = append(got, fmt.Sprintf("%s=%s@%d", r.Key, v, r.Time.UnixMilli()))
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// logged counts what a store has written to its changelog: values and deletes.
func logged(d *streamstest.Driver, store string) (values, deletes int) {
	for _, r := range d.ReadRaw("test-" + store + "-changelog") {
		if r.Value == nil {
			deletes++
		} else {
			values++
		}
	}
	return values, deletes
}
