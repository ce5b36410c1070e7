package dsltest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

var texts = streams.Topic[string, string]{Name: "texts"}

func concat(a, b string) (string, error) { return a + b, nil }

// reads compares the texts that were written.
func reads(t *testing.T, got []streams.Record[string, string], want ...string) {
	t.Helper()
	var have []string
	for _, r := range got {
		have = append(have, fmt.Sprintf("%s=%s@%d", r.Key, r.Value, r.Time.UnixMilli()))
	}
	if fmt.Sprint(have) != fmt.Sprint(want) {
		t.Errorf("%q, want %q", have, want)
	}
}

func TestCountWindows(t *testing.T) {
	d := drive(t, func(b *streams.Builder) {
		b.Stream(words).GroupByKey().WindowedByCount(streams.CountWindows(3)).Reduce(streams.Store[string, string]{Name: "n"}, concat).To(texts)
	})
	h := streams.Header{Key: "last", Value: []byte("yes")}
	for i, w := range []string{"a", "b", "c", "d"} {
		d.Send(words, "k", w, at(int64(50-10*i)))
		d.Send(words, "other", w, at(7))
		if i == 1 {
			d.Restart()
		}
	}
	reads(t, d.Read(texts), "k=abc@50", "other=abc@7")
	d.Send(words, "k", "e", at(1))
	d.Crash(func() { d.Send(words, "k", "f", at(60), streamstest.Headers(h)) })
	got := d.Read(texts)
	reads(t, got, "k=def@60")
	if len(got) == 1 && (len(got[0].Headers) != 1 || got[0].Headers[0].Key != "last") {
		t.Errorf("headers %v, want those of the record that filled the window", got[0].Headers)
	}
	if _, deletes := logged(d, "n"); deletes != 3 {
		t.Errorf("%d deletes are logged: a key whose windows are all full needs no row", deletes)
	}
}

func TestOverlappingCountWindows(t *testing.T) {
	d := drive(t, func(b *streams.Builder) {
		w := b.Stream(words).GroupByKey().WindowedByCount(streams.CountWindows(4).Every(2))
		w.Aggregate(streams.Store[string, string]{Name: "n"}, func() string { return ">" },
			func(_, v, sum string) (string, error) { return sum + v, nil }).To(texts)
		w.Count(streams.Store[string, int64]{Name: "c"}).MapValues(func(_ string, n int64) (*int64, error) { return &n, nil }).To(results)
	})
	for i, w := range strings.Split("abcdefgh", "") {
		d.Send(words, "k", w, at(int64(i)))
	}
	reads(t, d.Read(texts), "k=>abcd@3", "k=>cdef@5", "k=>efgh@7")
	wants(t, d, "k=4@3", "k=4@5", "k=4@7")
}

// Whatever crashes and restarts there are: the windows are those of a list.
func TestCountWindowsAgainstAModel(t *testing.T) {
	for seed := range uint64(6) {
		r := rand.New(rand.NewPCG(seed, 9))
		size := 1 + r.IntN(6)
		every := 1 + r.IntN(size)
		d := drive(t, func(b *streams.Builder) {
			b.Stream(words).GroupBy(func(k, _ string) string { return k[:1] }).
				WindowedByCount(streams.CountWindows(size).Every(every)).Reduce(streams.Store[string, string]{Name: "n"}, concat).To(texts)
		})
		d.SetPartitions("words", 3)
		all, want := map[string]string{}, map[string][]string{}
		send := func() {
			k, v := string(rune('a'+r.IntN(4))), string(rune('A'+r.IntN(26)))
			d.Send(words, k+"x", v, at(1))
			all[k] += v
			if n := len(all[k]); n >= size && (n-size)%every == 0 {
				want[k] = append(want[k], all[k][n-size:])
			}
		}
		for range 80 {
			switch r.IntN(8) {
			case 0:
				d.Restart()
			case 1:
				d.Crash(send)
			case 2:
				d.Together(func() { send(); send(); send() })
			default:
				send()
			}
		}
		got := map[string][]string{}
		for _, rec := range d.Read(texts) {
			got[rec.Key] = append(got[rec.Key], rec.Value)
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("seed %d, size %d every %d:\n%v, want\n%v", seed, size, every, got, want)
		}
	}
}

// A record that cannot be added takes its place; null values have none; a nil aggregate is no result.
func TestWhatIsNotInACountWindow(t *testing.T) {
	in := streams.Topic[string, *string]{Name: "in"}
	d := drive(t, func(b *streams.Builder) {
		b.Stream(in).GroupByKey().WindowedByCount(streams.CountWindows(2)).
			Aggregate(streams.Store[string, *int64]{Name: "n"}, func() *int64 { return new(int64) }, func(_ string, v *string, n *int64) (*int64, error) {
				switch *v {
				case "bad":
					return nil, errors.New("bad")
				case "nil":
					return nil, nil
				}
				sum := *n + int64(len(*v))
				return &sum, nil
			}).To(results)
	}, streams.Config{OnError: func(context.Context, *streams.RecordError) streams.Decision { return streams.Skip() }})
	for i, v := range []string{"bad", "xx", "", "nil", "nil", "nil", "w"} {
		p := &v
		if v == "" {
			p = nil
		}
		d.Send(in, "k", p, at(int64(i)))
	}
	wants(t, d, "k=2@1", "k=1@6")
	if n := d.Dropped().Null; n != 1 {
		t.Errorf("%d records were dropped for a null, want 1", n)
	}
}

// A key that has become silent is forgotten, with its unfinished window.
func TestSilentCountWindowsAreForgotten(t *testing.T) {
	d := drive(t, func(b *streams.Builder) {
		b.Stream(words).GroupByKey().WindowedByCount(streams.CountWindows(2)).
			Reduce(streams.Store[string, string]{Name: "n", TTL: 100 * time.Millisecond}, concat).To(texts)
	})
	d.Send(words, "a", "1", at(0))
	d.Send(words, "b", "1", at(50))
	d.Send(words, "a", "2", at(100))
	d.Send(words, "b", "2", at(140))
	d.Send(words, "a", "3", at(150))
	reads(t, d.Read(texts), "b=12@140", "a=23@150")
}

func TestMistakenCountWindows(t *testing.T) {
	var b streams.Builder
	g := b.Stream(words).GroupByKey()
	g.WindowedByCount(streams.CountWindows(0)).Count(streams.Store[string, int64]{Name: "a"})
	g.WindowedByCount(streams.CountWindows(3).Every(4)).Count(streams.Store[string, int64]{Name: "b"})
	g.WindowedByCount(streams.CountWindows(5000).Every(1)).Count(streams.Store[string, int64]{Name: "c"})
	g.WindowedByCount(streams.CountWindows(1)).Count(streams.Store[string, int64]{Name: "d", Versioned: time.Hour})
	_, err := b.Build()
	if err == nil {
		t.Fatal("the topology is accepted")
	}
	for _, part := range []string{"of 0 records", "at most the size", "fall into 5000 of them", "count windows have none"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q is not in:\n%v", part, err)
		}
	}
}
