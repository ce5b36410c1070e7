package streams_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// The program of docs/stores.md, so that the page stays true.

var (
	storesReadings = streams.Topic[string, float64]{Name: "readings", Partitions: 4}
	storesAlarms   = streams.Topic[string, string]{Name: "alarms", Partitions: 4}
	storesLast     = streams.Store[string, float64]{Name: "last-reading"}
	storesRecent   = streams.WindowStore[string, float64]{Name: "recent-readings", Retention: time.Hour}
)

func storesTopology() (*streams.Topology, error) {
	var b streams.Builder
	b.Stream(storesReadings).ProcessValues("watch", storesWatch, storesLast, storesRecent).To(storesAlarms)
	return b.Build()
}

// storesWatch tells of a reading that is more than twice the largest of the ten minutes before.
func storesWatch(t *streams.Task, emit streams.Emit[string, string]) (streams.Processor[string, float64], error) {
	last, recent := t.Store(storesLast), t.WindowStore(storesRecent)
	return func(_ context.Context, r streams.Record[string, float64]) error {
		largest := 0.0
		for _, v := range recent.Fetch(r.Key, r.Time.Add(-10*time.Minute), r.Time) {
			largest = max(largest, v)
		}
		if err := recent.Err(); err != nil {
			return err
		}
		if err := errors.Join(last.Put(r.Key, r.Value), recent.Put(r.Key, r.Time, r.Value)); err != nil {
			return err
		}
		if largest == 0 || r.Value <= 2*largest {
			return nil
		}
		return emit(streams.Record[string, string]{Key: r.Key, Value: fmt.Sprint(r.Value, " after ", largest)})
	}, nil
}

func TestStoresGuide(t *testing.T) {
	top, err := storesTopology()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, top)
	noon := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	for i, v := range []float64{10, 15, 20, 41, 50} {
		d.Send(storesReadings, "boiler", v, streamstest.At(noon.Add(time.Duration(i)*time.Minute)))
	}
	d.Send(storesReadings, "boiler", 500, streamstest.At(noon.Add(20*time.Minute))) // nothing in the ten minutes before
	got := d.Read(storesAlarms)
	if len(got) != 1 || got[0].Value != "41 after 20" {
		t.Errorf("alarms %v, want the one of 41", got)
	}
	if v, ok := d.Store(storesLast).Get("boiler"); !ok || v != 500 {
		t.Errorf("the last reading is %v, want 500", v)
	}
}
