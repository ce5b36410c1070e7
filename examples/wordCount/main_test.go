package main

import (
	"testing"

	"github.com/leatstream/leat/streams/streamstest"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The topology is tested without a broker: records go in, records come out, and time stands still.
func TestCountsWords(t *testing.T) {
	top, err := topology()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, top)
	d.Send(Lines, nil, "the mill and the stream")
	d.Send(Lines, nil, "The leat")

	latest := map[string]int64{}
	for _, r := range d.Read(Totals) {
		latest[r.Key] = r.Value
	}
	want := map[string]int64{"the": 3, "mill": 1, "and": 1, "stream": 1, "leat": 1}
	for w, n := range want {
		if latest[w] != n {
			t.Errorf("%s was counted %d times, want %d", w, latest[w], n)
		}
	}
	if n, ok := d.Store(Counts).Get("the"); !ok || n != 3 {
		t.Errorf("the store has the = %d, %v", n, ok)
	}
}
