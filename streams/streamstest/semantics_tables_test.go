package streamstest_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// 34: an update of a grouped table's row goes to the repartition topic as one record with both values if they are in one
// group (KIP-904), else as two, the old one first; all of it Kafka's bytes.
func TestGroupedRecordsEqualKafkas(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(vectorsDir(), "formats.json"))
	if err != nil {
		t.Fatal(err)
	}
	var formats struct {
		Repartition struct {
			Vectors map[string][]struct {
				Input, Topic, Key, Value string
				TS                       int64 `json:"ts"`
				Headers                  [][]string
			}
		}
	}
	if err := json.Unmarshal(raw, &formats); err != nil {
		t.Fatal(err)
	}
	_, topology := buildVector(t, func(x *vector) {
		x.Table(strs("A"), x.kv[str, str]("a")).GroupBy(func(_, v str) (str, str, error) { return p((*v)[:1]), v, nil }).Count(x.kv[str, int64]("n"))
	})
	d := streamstest.New(t, topology, streams.Config{AppID: "v"})
	var sent string
	var wanted, got []string
	for _, v := range formats.Repartition.Vectors["table-change"] {
		wanted = append(wanted, fmt.Sprintf("%s %s=%s@%d %v", v.Topic, v.Key, v.Value, v.TS, v.Headers))
		if v.Input == sent {
			continue // the second record of one update
		}
		sent = v.Input
		in := strings.Split(v.Input, "|")
		ts, _ := strconv.ParseInt(in[3], 10, 64)
		opts := []streamstest.Option{at(ts)}
		for _, h := range in[4:] {
			name, value, _ := strings.Cut(h, "=")
			opts = append(opts, streamstest.Headers(streams.Header{Key: name, Value: []byte(value)}))
		}
		value := []byte(in[2])
		if in[2] == "~" {
			value = nil
		}
		d.SendRaw("A", []byte(in[1]), value, opts...)
		for _, r := range d.ReadRaw(v.Topic) {
			var hs [][]string
			for _, h := range r.Headers {
				hs = append(hs, []string{h.Key, hex.EncodeToString(h.Value)})
			}
			got = append(got, fmt.Sprintf("%s %x=%x@%d %v", v.Topic, r.Key, r.Value, r.Timestamp.UnixMilli(), hs))
		}
	}
	if len(wanted) < 5 {
		t.Fatal("no vectors")
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// 34, 35: rows move between groups, over partitions, whatever the buffering; what comes out in the end is what the table
// holds.
func TestGroupsAreWhatTheTableHolds(t *testing.T) {
	for _, partitions := range []int{1, 4} {
		for _, together := range []bool{false, true} {
			sums := streams.Store[string, int64]{Name: "sums"}
			d := driver(t, func(b *streams.Builder) {
				b.Table(plain, streams.Store[string, string]{Name: "a"}).GroupBy(func(_, v string) (string, int64, error) {
					n, err := strconv.ParseInt(v[1:], 10, 64)
					return v[:1], n, err
				}).Aggregate(sums, func() int64 { return 0 }, func(_ string, v, a int64) (int64, error) { return a + v, nil },
					func(_ string, v, a int64) (int64, error) { return a - v, nil })
			})
			d.SetPartitions("A", partitions)
			rows := map[string]string{}
			send := func() {
				for i := range 200 {
					k, v := strconv.Itoa(i*7%23), fmt.Sprintf("%c%d", 'a'+rune(i*i%5), i)
					rows[k] = v
					d.Send(plain, k, v, at(int64(i)))
				}
			}
			if together {
				d.Together(send)
			} else {
				send()
			}
			model := map[string]int64{}
			for _, v := range rows {
				n, _ := strconv.ParseInt(v[1:], 10, 64)
				model[v[:1]] += n
			}
			got := map[string]int64{}
			for _, r := range d.Store(sums).All() {
				if r.Value != 0 {
					got[r.Key] = r.Value
				}
			}
			if diff := cmp.Diff(model, got); diff != "" {
				t.Errorf("%d partitions, together %v (-want +got):\n%s", partitions, together, diff)
			}
		}
	}
}

// 29, as Leat decides: grouping needs the rows before, and says so instead of keeping them unasked.
func TestGroupByNeedsAStore(t *testing.T) {
	var b streams.Builder
	b.Table(plain, streams.Store[string, string]{}).GroupBy(func(k, v string) (string, string, error) { return v, k, nil }).
		Count(streams.Store[string, int64]{Name: "n"})
	if _, err := b.Build(); err == nil || !strings.Contains(err.Error(), "keep the table in a store") {
		t.Errorf("Build says %v", err)
	}
}

// A row that add refuses is in no group; what it was before has left its group all the same.
func TestRefusedRowsLeaveTheirGroup(t *testing.T) {
	sums := streams.Store[string, string]{Name: "sums"}
	d := driver(t, func(b *streams.Builder) {
		b.Table(plain, streams.Store[string, string]{Name: "a"}).GroupBy(func(_, v string) (string, string, error) { return "all", v, nil }).
			Aggregate(sums, func() string { return "" }, func(_, v, a string) (string, error) {
				if v == "bad" {
					return a, errors.New("bad")
				}
				return a + v, nil
			}, func(_, v, a string) (string, error) { return strings.Replace(a, v, "", 1), nil })
	}, streams.Config{OnError: skipErrors})
	for i, v := range []string{"x", "y", "bad", "z"} {
		d.Send(plain, strconv.Itoa(i/3), v, at(int64(i)))
	}
	if got, _ := d.Store(sums).Get("all"); got != "z" {
		t.Errorf("the group is %q, want z", got)
	}
	if d.Dropped().Skipped != 1 {
		t.Errorf("dropped %+v", d.Dropped())
	}
}

// A table of a windowed result's stream, keyed by key and window.
func TestWindowedStreamToTable(t *testing.T) {
	tab := streams.Store[streams.Windowed[string], int64]{Name: "t"}
	d := driver(t, func(b *streams.Builder) {
		b.Stream(plain).GroupByKey().WindowedBy(streams.Tumbling(10 * milli)).Count(streams.WindowStore[string, int64]{Name: "w"}).
			ToStream(streams.WindowedKey).ToTable(tab)
	})
	for i, k := range []string{"a", "a", "b"} {
		d.Send(plain, k, "", at(int64(i*6)))
	}
	var got []string
	for _, r := range d.Store(tab).All() {
		got = append(got, fmt.Sprint(r.Key.Key, r.Key.Start.UnixMilli(), "=", r.Value, "@", r.Time.UnixMilli()))
	}
	want(t, got, "a0=2@6", "b10=1@12")
}

// 43: a join that is not kept is subtracted from its group as it was added, although both of its sides change between two
// commits; and what comes out in the end does not depend on buffering.
func TestTableJoinsDoNotDependOnBuffering(t *testing.T) {
	left, right := streams.Topic[string, int64]{Name: "L"}, streams.Topic[string, int64]{Name: "R"}
	sums := streams.Store[string, int64]{Name: "sums"}
	kept := streams.Store[string, string]{Name: "kept"}
	run := func(together bool, partitions int) (got, joined map[string]string) {
		d := driver(t, func(b *streams.Builder) {
			l := b.Table(left, streams.Store[string, int64]{Name: "l"})
			r := b.Table(right, streams.Store[string, int64]{Name: "r"})
			l.Join(r, func(_ string, l, r int64) (int64, error) { return l * r, nil }).
				Filter(func(_ string, v int64) bool { return v%3 != 0 }).
				GroupBy(func(k string, v int64) (string, int64, error) { return k[:1], v, nil }).
				Reduce(sums, func(a, v int64) (int64, error) { return a + v, nil }, func(a, v int64) (int64, error) { return a - v, nil })
			l.OuterJoin(r, func(_ string, l, r *int64) (string, error) { return fmt.Sprint(l != nil, r != nil), nil }, kept).To(plainOut)
		})
		d.SetPartitions("L", partitions)
		d.SetPartitions("R", partitions)
		rng := rand.New(rand.NewPCG(1, 2))
		send := func() {
			for i := range 400 {
				k := fmt.Sprintf("%c%d", 'a'+rune(rng.IntN(3)), rng.IntN(4))
				to, o := left, at(int64(i))
				if rng.IntN(2) == 0 {
					to = right
				}
				if rng.IntN(5) == 0 {
					d.SendRaw(to.Name, []byte(k), nil, o)
				} else {
					d.Send(to, k, int64(rng.IntN(50)+1), o)
				}
			}
		}
		if together {
			d.Together(send)
		} else {
			send()
		}
		got, joined = map[string]string{}, map[string]string{}
		for _, r := range d.Store(sums).All() {
			got[r.Key] = fmt.Sprint(r.Value)
		}
		for _, r := range d.Store(kept).All() {
			joined[r.Key] = r.Value
		}
		return got, joined
	}
	sum, rows := run(false, 1)
	if len(sum) != 3 || len(rows) < 6 {
		t.Fatalf("too few results: %v, %v", sum, rows)
	}
	for _, partitions := range []int{1, 4} {
		s, r := run(true, partitions)
		if diff := cmp.Diff(sum, s); diff != "" {
			t.Errorf("%d partitions, sums (-each +together):\n%s", partitions, diff)
		}
		if diff := cmp.Diff(rows, r); diff != "" {
			t.Errorf("%d partitions, rows (-each +together):\n%s", partitions, diff)
		}
	}
}

// 29, 75: what is joined is kept, and lies in as many partitions.
func TestTableJoinMistakes(t *testing.T) {
	var b streams.Builder
	l := b.Table(streams.Topic[string, string]{Name: "L"}, streams.Store[string, string]{})
	r := b.Table(streams.Topic[string, string]{Name: "R"}, streams.Store[string, string]{Name: "r"})
	l.Join(r, func(_, l, r string) (string, error) { return l + r, nil })
	if _, err := b.Build(); err == nil || !strings.Contains(err.Error(), "keep both tables in stores") {
		t.Errorf("Build says %v", err)
	}
}
