package streamstest_test

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

var (
	places   = streams.Topic[string, string]{Name: "places"}
	visits   = streams.Topic[string, string]{Name: "visits"}
	visitOut = streams.Topic[string, string]{Name: "visited"}
	placesIn = streams.Store[string, string]{Name: "places"}
)

func buildOrFatal(t *testing.T, b *streams.Builder) *streams.Topology {
	t.Helper()
	top, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return top
}

// 73: records of a global table do not advance stream time, whatever their own; a change of the table causes nothing; and
// its partitions need not be the stream's.
func TestGlobalTableStandsBesideTheTasks(t *testing.T) {
	var b streams.Builder
	var times []time.Time
	b.Stream(visits).Process("look", func(task *streams.Task, emit streams.Emit[string, string]) (streams.Processor[string, string], error) {
		return func(_ context.Context, r streams.Record[string, string]) error {
			times = append(times, task.StreamTime())
			return emit(r)
		}, nil
	}).JoinGlobal(b.GlobalTable(places, placesIn), func(_, v string) (string, bool) { return v, v != "" },
		func(k, v, name string) (string, error) { return k + " in " + name, nil }).To(visitOut)
	d := streamstest.New(t, buildOrFatal(t, &b))
	d.SetPartitions("places", 8)
	d.SetPartitions("visits", 3)
	for _, k := range strings.Fields("a b c d e f g h") {
		d.Send(places, k, strings.ToUpper(k), streamstest.At(time.UnixMilli(1_000_000)))
	}
	d.Send(visits, "ann", "c", streamstest.At(time.UnixMilli(5)))
	d.Send(places, "c", "Z")
	d.Delete(places, "d")
	d.Send(visits, "ann", "c", streamstest.At(time.UnixMilli(6)))
	d.Send(visits, "ann", "d", streamstest.At(time.UnixMilli(7)))
	d.Send(visits, "ann", "", streamstest.At(time.UnixMilli(8)))
	var got []string
	for _, r := range d.Read(visitOut) {
		got = append(got, r.Value)
	}
	if want := []string{"ann in C", "ann in Z"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(times) == 0 || times[0].UnixMilli() != 5 {
		t.Errorf("stream time %v at the first record, want its own", times)
	}
	if n := d.Dropped().Null; n != 1 {
		t.Errorf("%d records dropped for null, want 1", n)
	}
	d.Restart()
	d.Send(visits, "bob", "c")
	if got := d.Read(visitOut); len(got) != 1 || got[0].Value != "bob in Z" {
		t.Errorf("after a restart: %v", got)
	}
}

// Processors of tasks read a global store without listing it, by every way of reading, and cannot write it.
func TestGlobalStoreIsReadOnlyToTasks(t *testing.T) {
	var b streams.Builder
	b.GlobalTable(places, placesIn)
	b.Stream(visits).Process("look", func(task *streams.Task, emit streams.Emit[string, string]) (streams.Processor[string, string], error) {
		st := task.Store(placesIn)
		return func(_ context.Context, r streams.Record[string, string]) error {
			text := func(kv func(yield func(string, string) bool)) (out string) {
				for k, v := range kv {
					out += k + v + " "
				}
				return out
			}
			v, ok, err := st.Get(r.Value)
			if err != nil || !ok {
				return errors.Join(err, errors.New("no "+r.Value))
			}
			n, err := st.ApproximateCount()
			if err != nil || n != 3 {
				return errors.Join(err, errors.New("count"))
			}
			r.Value = v + ": " + text(st.All()) + "| " + text(st.Backward()) + "| " + text(st.Range("a", "b")) + "| " +
				text(st.BackwardRange("b", "c")) + "| " + text(st.Prefix([]byte("c")))
			_, _, absent := st.PutIfAbsent("x", "y")
			_, _, del := st.Delete("a")
			for _, err := range []error{st.Put("x", "y"), absent, del} {
				if !errors.Is(err, streams.ErrReadOnly) {
					return errors.New("the store can be written")
				}
			}
			return errors.Join(st.Err(), emit(r))
		}, nil
	}).To(visitOut)
	d := streamstest.New(t, buildOrFatal(t, &b))
	for _, k := range strings.Fields("a b c") {
		d.Send(places, k, strings.ToUpper(k))
	}
	d.Send(visits, "ann", "b")
	if got, want := d.Read(visitOut)[0].Value, "B: aA bB cC | cC bB aA | aA bB | cC bB | cC "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// 93: a global table has no dead letters; what does not decode is skipped, and the row before stays.
func TestGlobalTableSkipsWhatItCannotLetterAway(t *testing.T) {
	var b streams.Builder
	numbers := streams.Topic[string, int64]{Name: "numbers"}
	store := streams.Store[string, int64]{Name: "numbers"}
	b.GlobalTable(numbers, store)
	b.Stream(visits).To(visitOut)
	d := streamstest.New(t, buildOrFatal(t, &b), streams.Config{OnError: letters})
	d.Send(numbers, "a", 1)
	d.SendRaw("numbers", []byte("a"), []byte("short"))
	if n, ok := d.Store(store).Get("a"); n != 1 || !ok {
		t.Errorf("the row is %d, %t; want 1", n, ok)
	}
	if got := d.ReadRaw("dlq"); len(got) != 0 {
		t.Errorf("%d dead letters", len(got))
	}
	if d.Dropped().Skipped != 1 {
		t.Errorf("dropped: %+v", d.Dropped())
	}
}

func TestGlobalTableMistakes(t *testing.T) {
	var b streams.Builder
	b.GlobalTable(places, streams.Store[string, string]{})
	b.GlobalTable(streams.Topic[string, string]{Pattern: "p.*"}, placesIn)
	b.GlobalTable(places, placesIn)
	b.Table(visits, placesIn)
	_, err := b.Build()
	if err == nil {
		t.Fatal("no mistakes")
	}
	for _, want := range []string{"has no store", "reads one topic", "holds the table of two operators"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no mistake says %q: %v", want, err)
		}
	}
}
