package streamstest_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// Each test cites the number of the semantics in docs/semantics.md that it shows. The golden vectors show most of them
// against Apache Kafka Streams' own results (TestVectors); here are those that vectors cannot show, and where Leat
// decides otherwise.

var (
	plain    = streams.Topic[string, string]{Name: "A"}
	plainOut = streams.Topic[string, string]{Name: "out"}
	countOut = streams.Topic[string, int64]{Name: "out"}
)

func at(ms int64) streamstest.Option { return streamstest.At(time.UnixMilli(ms)) }

// driver builds a topology and its driver.
func driver(t *testing.T, build func(b *streams.Builder), cfg ...streams.Config) *streamstest.Driver {
	t.Helper()
	var b streams.Builder
	build(&b)
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return streamstest.New(t, topology, cfg...)
}

// show writes records as k=v@ms.
func show[K, V any](records []streams.Record[K, V]) []string {
	out := []string{}
	for _, r := range records {
		var k, v any = r.Key, r.Value
		switch p := v.(type) {
		case *string:
			v = text(p)
		case *int64:
			if v = "null"; p != nil {
				v = *p
			}
		}
		if w, ok := k.(streams.Windowed[string]); ok {
			k = fmt.Sprintf("%s[%d,%d)", w.Key, w.Start.UnixMilli(), w.End.UnixMilli())
		}
		out = append(out, fmt.Sprintf("%v=%v@%d", k, v, r.Time.UnixMilli()))
	}
	return out
}

func want(t *testing.T, got []string, want ...string) {
	t.Helper()
	if want == nil {
		want = []string{}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// 2 of docs/semantics.md, null in the type: a stream of a plain V drops null values and counts them; a null key of a
// plain K is that record's error, whose text says what to declare.
func TestNullsOfPlainTypes(t *testing.T) {
	build := func(b *streams.Builder) { b.Stream(plain).To(plainOut) }
	d := driver(t, build)
	d.SendRaw("A", []byte("k"), nil)
	d.Send(plain, "k", "")
	want(t, show(d.Read(plainOut)), "k=@1767225600000")
	if got := d.Dropped().Null; got != 1 {
		t.Errorf("%d null values counted, want 1", got)
	}
	err := d.Fails(func() { d.SendRaw("A", nil, []byte("v")) })
	var re *streams.RecordError
	if !errors.As(err, &re) || re.Topic != "A" || re.Offset != 2 || !strings.Contains(err.Error(), "nullable") {
		t.Errorf("error %v, want one that says what to declare", err)
	}
	d = driver(t, build, streams.Config{OnError: func(context.Context, *streams.RecordError) streams.Decision { return streams.Skip() }})
	d.SendRaw("A", nil, []byte("v"))
	want(t, show(d.Read(plainOut)))
	if got := d.Dropped().Skipped; got != 1 {
		t.Errorf("%d skipped, want 1", got)
	}
}

// 19: a table drops null keys; a null value deletes, of a plain V too.
func TestTableNulls(t *testing.T) {
	d := driver(t, func(b *streams.Builder) { b.Table(plain, streams.Store[string, string]{Name: "a"}).To(plainOut) })
	d.SendRaw("A", nil, []byte("v"))
	d.Send(plain, "k", "v", at(1))
	d.Delete(plain, "k", at(2))
	want(t, show(d.Read(streams.Topic[string, *string]{Name: "out"})), "k=v@1", "k=null@2")
	if rows := d.Store(streams.Store[string, string]{Name: "a"}).All(); len(rows) != 0 {
		t.Errorf("rows %v, want none", rows)
	}
	if got := d.Dropped().Null; got != 1 {
		t.Errorf("%d null keys counted, want 1", got)
	}
}

// 16, 17: a null value is not aggregated, but counted in windows.
func TestNullValuesInAggregates(t *testing.T) {
	in := streams.Topic[string, *string]{Name: "A"}
	d := driver(t, func(b *streams.Builder) {
		g := b.Stream(in).GroupByKey()
		g.Count(streams.Store[string, int64]{Name: "n"}).To(countOut)
		g.WindowedBy(streams.Tumbling(time.Second)).Count(streams.WindowStore[string, int64]{Name: "w"})
	})
	d.Send(in, "k", nil, at(1))
	d.Send(in, "k", p("v"), at(2))
	want(t, show(d.Read(countOut)), "k=1@2")
	if n, _ := d.WindowStore(streams.WindowStore[string, int64]{Name: "w"}).Get("k", time.UnixMilli(0)); n != 2 {
		t.Errorf("the window counts %d, want 2", n)
	}
}

// 38, as Leat decides: the first update of an aggregate has no value before, so a filter of it sends no delete for a key
// that never passed.
func TestFirstUpdateHasNoOldValue(t *testing.T) {
	d := driver(t, func(b *streams.Builder) {
		n := b.Stream(plain).GroupByKey().Count(streams.Store[string, int64]{Name: "n"})
		n.Filter(func(_ string, n int64) bool { return n%2 == 0 }).To(countOut)
		n.Changes(func(_ string, c streams.Change[int64]) (string, error) {
			if c.Old == nil {
				return fmt.Sprint("nil>", *c.New), nil
			}
			return fmt.Sprint(*c.Old, ">", *c.New), nil
		}).To(streams.Topic[string, string]{Name: "changes"})
	})
	for i := range 3 {
		d.Send(plain, "k", "v", at(int64(i)))
	}
	want(t, show(d.Read(streams.Topic[string, *int64]{Name: "out"})), "k=2@1", "k=null@2")
	want(t, show(d.Read(streams.Topic[string, string]{Name: "changes"})), "k=nil>1@0", "k=1>2@1", "k=2>3@2")
}

// 84, as Leat decides: an update that changes nothing is not written, logged or passed on, unless the store asks for it.
func TestUpdatesThatChangeNothing(t *testing.T) {
	for _, keep := range []bool{false, true} {
		d := driver(t, func(b *streams.Builder) {
			b.Table(plain, streams.Store[string, string]{Name: "a", KeepUnchanged: keep}).To(plainOut)
		})
		d.Send(plain, "k", "v", at(1))
		d.Send(plain, "k", "v", at(5))
		d.Send(plain, "k", "v", at(2))
		wantOut, logged := []string{"k=v@1"}, 1
		if keep {
			wantOut, logged = []string{"k=v@1", "k=v@5", "k=v@2"}, 3
		}
		want(t, show(d.Read(plainOut)), wantOut...)
		if got := len(d.ReadRaw("test-a-changelog")); got != logged {
			t.Errorf("KeepUnchanged %v: %d changelog records, want %d", keep, got, logged)
		}
	}
}

// 41, as Leat decides: a result carries the headers of the record that made it, also when it goes out later, with others.
func TestResultsCarryTheHeadersOfTheirRecords(t *testing.T) {
	d := driver(t, func(b *streams.Builder) {
		b.Stream(plain).GroupByKey().Count(streams.Store[string, int64]{Name: "n"}).To(countOut)
	})
	d.Together(func() {
		d.Send(plain, "a", "v", streamstest.Headers(streams.Header{Key: "h", Value: []byte("1")}))
		d.Send(plain, "b", "v")
		d.Send(plain, "c", "v", streamstest.Headers(streams.Header{Key: "h", Value: []byte("2")}))
		d.Send(plain, "c", "v")
	})
	var got []string
	for _, r := range d.Read(countOut) {
		got = append(got, fmt.Sprint(r.Key, len(r.Headers)))
	}
	want(t, got, "a1", "b0", "c0")
}

// 42: at a commit each key goes out once, with its latest value, in the order of the latest writes.
func TestBufferedUpdatesGoOutInTheOrderOfTheirLatestWrite(t *testing.T) {
	build := func(noBuffer bool) *streamstest.Driver {
		return driver(t, func(b *streams.Builder) {
			b.Stream(plain).GroupByKey().Count(streams.Store[string, int64]{Name: "n", NoBuffer: noBuffer}).To(countOut)
		})
	}
	for noBuffer, wanted := range map[bool][]string{
		false: {"z=1@2", "a=2@3"},
		true:  {"a=1@1", "z=1@2", "a=2@3"},
	} {
		d := build(noBuffer)
		d.Together(func() {
			for i, k := range []string{"a", "z", "a"} {
				d.Send(plain, k, "v", at(int64(i+1)))
			}
		})
		want(t, show(d.Read(countOut)), wanted...)
		if got := len(d.ReadRaw("test-n-changelog")); got != 2 {
			t.Errorf("NoBuffer %v: %d changelog records, want 2: the changelog is written at the commit", noBuffer, got)
		}
	}
}

// 47: a window accepts records as long as its end lies after the observed time less the grace.
func TestGraceEndsExactly(t *testing.T) {
	w := streams.Topic[streams.Windowed[string], int64]{Name: "out", Key: serde.Windowed(serde.String, 10*milli)}
	for _, c := range []struct {
		observed int64
		want     []string
		late     int64
	}{{14, []string{"k[0,10)=1@9"}, 0}, {15, nil, 1}} {
		d := driver(t, func(b *streams.Builder) {
			b.Stream(plain).GroupByKey().WindowedBy(tens(5)).Count(streams.WindowStore[string, int64]{Name: "w"}).To(w)
		})
		d.Send(plain, "other", "v", at(c.observed))
		d.Read(w)
		d.Send(plain, "k", "v", at(9))
		want(t, show(d.Read(w)), c.want...)
		if got := d.Dropped().Late; got != c.late {
			t.Errorf("at %d: %d late, want %d", c.observed, got, c.late)
		}
	}
}

// 54, 55, as Leat decides: a store never hides what the grace still accepts, and final results always go out, with the
// default retention too.
func TestFinalResultsGoOutWithTheDefaultRetention(t *testing.T) {
	w := streams.Topic[streams.Windowed[string], int64]{Name: "out", Key: serde.Windowed(serde.String, 10*milli)}
	d := driver(t, func(b *streams.Builder) {
		b.Stream(plain).GroupByKey().WindowedBy(tens(5)).Final().Count(streams.WindowStore[string, int64]{Name: "w"}).To(w)
	})
	d.Send(plain, "a", "v", at(1))
	d.Send(plain, "b", "v", at(12))
	d.Send(plain, "a", "v", at(14)) // stream time 14
	d.Send(plain, "a", "late but in time", at(9))
	want(t, show(d.Read(w)))
	d.Send(plain, "x", "v", at(1000))
	want(t, show(d.Read(w)), "a[0,10)=2@9", "a[10,20)=1@14", "b[10,20)=1@12")
	d.Send(plain, "x", "v", at(5000))
	want(t, show(d.Read(w)), "x[1000,1010)=1@1000")
}

// 3, as Leat decides: what was late stays late after a restart, and final results go out once.
func TestObservedTimeSurvivesARestart(t *testing.T) {
	w := streams.Topic[streams.Windowed[string], int64]{Name: "out", Key: serde.Windowed(serde.String, 10*milli)}
	d := driver(t, func(b *streams.Builder) {
		b.Stream(plain).Filter(func(_, v string) bool { return v != "x" }).GroupByKey().WindowedBy(tens(0)).Final().
			Count(streams.WindowStore[string, int64]{Name: "w", Retention: time.Hour}).To(w)
	})
	d.Send(plain, "k", "v", at(1))
	d.Send(plain, "k", "v", at(25))
	d.Send(plain, "k", "x", at(500)) // the window does not see it (2)
	want(t, show(d.Read(w)), "k[0,10)=1@1")
	d.Restart()
	d.Send(plain, "k", "late", at(9))
	d.Send(plain, "k", "v", at(26))
	want(t, show(d.Read(w)))
	d.Send(plain, "k", "v", at(40))
	want(t, show(d.Read(w)), "k[20,30)=2@26")
	if got := d.Dropped().Late; got != 1 {
		t.Errorf("%d late, want 1", got)
	}
}

// 62: windowed results lie on the partition of the key within.
func TestWindowedResultsArePartitionedByTheInnerKey(t *testing.T) {
	w := streams.Topic[streams.Windowed[string], int64]{Name: "out", Key: serde.Windowed(serde.String, 10*milli)}
	d := driver(t, func(b *streams.Builder) {
		b.Stream(plain).GroupByKey().WindowedBy(tens(0)).Count(streams.WindowStore[string, int64]{Name: "w"}).To(w)
		b.Stream(streams.Topic[string, string]{Name: "B"}).To(plainOut2)
	})
	for _, name := range []string{"A", "B", "out", "out2"} {
		d.SetPartitions(name, 5)
	}
	for i := range 20 {
		key := fmt.Sprint("key", i)
		d.Send(plain, key, "v", at(int64(i)))
		d.Send(streams.Topic[string, string]{Name: "B"}, key, "v")
		windowed, simple := d.ReadRaw("out"), d.ReadRaw("out2")
		if len(windowed) != 1 || windowed[0].Partition != simple[0].Partition {
			t.Fatalf("key %s: windowed %v, plain on %d", key, windowed, simple[0].Partition)
		}
	}
}

var plainOut2 = streams.Topic[string, string]{Name: "out2"}

// 74, 26: operators that change the key are followed by a repartition, through the topic that the store names; those
// that do not are not. Several partitions give what one gives.
func TestRepartitioningForReal(t *testing.T) {
	run := func(partitions int) map[string]int64 {
		d := streamstest.New(t, wordCount(t))
		d.SetPartitions("lines", partitions)
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range 200 {
			d.Send(lines, fmt.Sprint(i), fmt.Sprintf("w%d w%d w%d", rng.IntN(20), rng.IntN(20), rng.IntN(5)))
		}
		last := map[string]int64{}
		for _, r := range d.Read(counts) {
			last[r.Key] = r.Value
		}
		seen := map[int32]bool{}
		byKey := map[string]int32{}
		for _, r := range d.ReadRaw("test-words-repartition") {
			seen[r.Partition] = true
			if before, ok := byKey[string(r.Key)]; ok && before != r.Partition {
				t.Errorf("word %s lies on two partitions", r.Key)
			}
			byKey[string(r.Key)] = r.Partition
		}
		if len(seen) != partitions {
			t.Errorf("%d of %d partitions of the repartition topic are used", len(seen), partitions)
		}
		return last
	}
	if diff := cmp.Diff(run(1), run(4)); diff != "" {
		t.Errorf("1 and 4 partitions differ:\n%s", diff)
	}
}

// 91: skipping a record drops it from the failing node down; what an earlier sibling did with it stays, and a later
// sibling gets it, after a panic too.
func TestSkipIsFromTheFailingNodeDown(t *testing.T) {
	d := driver(t, func(b *streams.Builder) {
		s := b.Stream(plain)
		s.To(plainOut)
		s.MapValues(func(_, v string) (string, error) {
			if v == "bad" {
				panic("bad value")
			}
			return v, nil
		}).To(plainOut2)
		s.To(streams.Topic[string, string]{Name: "out3"})
	}, streams.Config{OnError: skipErrors})
	for i, v := range []string{"bad", "good"} {
		d.Send(plain, "k", v, at(int64(i)))
	}
	want(t, show(d.Read(plainOut)), "k=bad@0", "k=good@1")
	want(t, show(d.Read(plainOut2)), "k=good@1")
	want(t, show(d.Read(streams.Topic[string, string]{Name: "out3"})), "k=bad@0", "k=good@1")
}

// The error policy knows the node, the record and the cause.
func TestRecordErrorSaysWhatAndWhere(t *testing.T) {
	boom := errors.New("boom")
	var got *streams.RecordError
	d := driver(t, func(b *streams.Builder) {
		b.Stream(plain).MapValues(func(_, v string) (string, error) { return v, boom }).Named("explode").To(plainOut)
	}, streams.Config{OnError: func(_ context.Context, e *streams.RecordError) streams.Decision { got = e; return streams.Skip() }})
	d.Send(plain, "k", "v0")
	d.Send(plain, "k", "v1")
	if got == nil || got.Node != "explode" || got.Task != "0_0" || got.Topic != "A" || got.Offset != 1 || string(got.Key) != "k" ||
		string(got.Value) != "v1" || !errors.Is(got, boom) || got.Attempt != 1 {
		t.Errorf("error %+v", got)
	}
}

// A processor's errors, and those of open, name the processor.
func TestOpenErrors(t *testing.T) {
	var b streams.Builder
	b.Stream(plain).Process("p", func(task *streams.Task, _ streams.Emit[string, string]) (streams.Processor[string, string], error) {
		task.Store(streams.Store[string, string]{Name: "other"})
		return nil, nil
	})
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	plan := topology.Engine()
	if len(plan.Subs) != 1 || len(plan.Subs[0].Sources) != 1 {
		t.Fatalf("plan %+v", plan)
	}
	rt := &recordingTB{TB: t}
	func() {
		defer func() { _ = recover() }()
		streamstest.New(rt, topology).Send(plain, "k", "v")
	}()
	if !strings.Contains(rt.fatal, `processor "p" asks for store "other"`) {
		t.Errorf("the test ended with %q", rt.fatal)
	}
}

// recordingTB keeps what a test would have ended with.
type recordingTB struct {
	testing.TB
	fatal string
}

func (r *recordingTB) Fatalf(format string, args ...any) {
	r.fatal = fmt.Sprintf(format, args...)
	panic("fatal")
}

// What goes out finally is the same with updates passed on one by one or once per commit, in one partition or several.
func TestResultsDoNotDependOnBuffering(t *testing.T) {
	run := func(together bool, partitions int) map[string]string {
		win := streams.Topic[streams.Windowed[string], int64]{Name: "win", Key: serde.Windowed(serde.String, 10*milli)}
		d := driver(t, func(b *streams.Builder) {
			g := b.Stream(plain).GroupBy(func(_, v string) string { return v[:1] })
			g.Aggregate(streams.Store[string, string]{Name: "s"}, func() string { return "" },
				func(_, v, a string) (string, error) { return a + v, nil }).To(plainOut)
			g.WindowedBy(streams.Hopping(10*milli, 5*milli).Grace(time.Second)).Count(streams.WindowStore[string, int64]{Name: "w"}).To(win)
		})
		d.SetPartitions("A", partitions)
		rng := rand.New(rand.NewPCG(7, 7))
		send := func() {
			for i := range 150 {
				v := fmt.Sprintf("%c%d;", 'a'+rune(rng.IntN(6)), i)
				d.Send(plain, v[:1], v, at(int64(i)+rng.Int64N(20)))
			}
		}
		if together {
			d.Together(send)
		} else {
			send()
		}
		last := map[string]string{}
		for _, r := range d.Read(plainOut) {
			last[r.Key] = r.Value
		}
		for _, r := range d.Read(win) {
			last[fmt.Sprint(r.Key)] = fmt.Sprint(r.Value)
		}
		return last
	}
	one := run(false, 1)
	if len(one) < 20 {
		t.Fatalf("only %d results", len(one))
	}
	for _, partitions := range []int{1, 4} {
		if diff := cmp.Diff(one, run(true, partitions)); diff != "" {
			t.Errorf("%d partitions, one commit (-each +together):\n%s", partitions, diff)
		}
	}
}

// A mutable aggregate that the function changes in place is written as it is at the commit, and its value before is the
// one before.
func TestAggregatesMayChangeInPlace(t *testing.T) {
	type tally map[string]int
	sets := streams.Store[string, tally]{Name: "sets", Value: serde.JSON[tally]()}
	changes := streams.Topic[string, string]{Name: "out"}
	d := driver(t, func(b *streams.Builder) {
		b.Stream(plain).GroupByKey().Aggregate(sets, func() tally { return tally{} }, func(_, v string, a tally) (tally, error) {
			a[v]++
			return a, nil
		}).Changes(func(_ string, c streams.Change[tally]) (string, error) {
			if c.Old == nil {
				return fmt.Sprint("nil > ", *c.New), nil
			}
			return fmt.Sprint(*c.Old, " > ", *c.New), nil
		}).To(changes)
	})
	for i, v := range []string{"x", "y", "x"} {
		d.Send(plain, "k", v, at(int64(i)))
	}
	want(t, show(d.Read(changes)), "k=nil > map[x:1]@0", "k=map[x:1] > map[x:1 y:1]@1", "k=map[x:1 y:1] > map[x:2 y:1]@2")
}

// 14, as Leat decides: each child gets the record with the headers that it came with, whatever a sibling did to them.
func TestSiblingsDoNotSeeEachOthersHeaders(t *testing.T) {
	d := driver(t, func(b *streams.Builder) {
		s := b.Stream(plain)
		s.MapRecord(func(r streams.Record[string, string]) (streams.Record[string, string], error) {
			r.Headers[0].Value = []byte("changed")
			r.Headers = append(r.Headers, streams.Header{Key: "more"})
			r.Time, r.Key = r.Time.Add(time.Second), "the key stays"
			return r, nil
		}).To(plainOut)
		s.To(plainOut2)
	})
	d.Send(plain, "k", "v", at(1), streamstest.Headers(streams.Header{Key: "h", Value: []byte("1")}))
	first, second := d.Read(plainOut), d.Read(plainOut2)
	if len(first) != 1 || len(first[0].Headers) != 2 || string(first[0].Headers[0].Value) != "changed" {
		t.Errorf("first child: %+v", first)
	}
	if len(second) != 1 || len(second[0].Headers) != 1 || string(second[0].Headers[0].Value) != "1" {
		t.Errorf("second child: %+v", second)
	}
	want(t, append(show(first), show(second)...), "k=v@1001", "k=v@1")
}

// A record that a processor emits without a time has that of the record in hand; one before 1970 is an error.
func TestEmittedTimes(t *testing.T) {
	emitted := time.Time{}
	d := driver(t, func(b *streams.Builder) {
		b.Stream(plain).Process("p", func(_ *streams.Task, emit streams.Emit[string, string]) (streams.Processor[string, string], error) {
			return func(_ context.Context, r streams.Record[string, string]) error {
				return emit(streams.Record[string, string]{Key: r.Key, Value: r.Value, Time: emitted})
			}, nil
		}).To(plainOut)
	})
	d.Send(plain, "k", "v", at(7))
	want(t, show(d.Read(plainOut)), "k=v@7")
	emitted = time.UnixMilli(-1)
	if err := d.Fails(func() { d.Send(plain, "k", "v", at(8)) }); err == nil || !strings.Contains(err.Error(), "negative timestamp -1") {
		t.Errorf("error %v", err)
	}
}

// Names make topics: stores, repartitions and joins give theirs, and no counter does.
func TestInternalTopicsAreNamedByStores(t *testing.T) {
	var b streams.Builder
	s := b.Stream(plain).Filter(func(_, v string) bool { return v != "" })
	s.GroupBy(func(_, v string) string { return v }).Count(streams.Store[string, int64]{Name: "by-value"})
	table := b.Table(streams.Topic[string, string]{Name: "T"}, streams.Store[string, string]{Name: "t", NoChangelog: true})
	s.SelectKey(func(_, v string) string { return v }).
		JoinTable(table, func(_, a, b string) (string, error) { return a + b, nil }, streams.TableJoin{Name: "enrich"}).To(plainOut)
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	l, err := topology.Engine().Layout("app", func(name string) (int32, bool) { return map[string]int32{"A": 3, "T": 2}[name], true }, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, it := range l.Internal {
		got = append(got, fmt.Sprint(it.Name, " ", it.Partitions))
	}
	want(t, got, "app-by-value-repartition 3", "app-enrich-repartition 2", "app-by-value-changelog 3")
}
