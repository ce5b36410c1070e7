package faulttest

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/internal/failpoint"
)

func (w *world) view() *streams.View[string, int64] {
	w.t.Helper()
	remote, err := streams.NewRemote(streams.RemoteConfig{AppID: appID, Brokers: []string{w.addr}, Queries: streams.QueryConfig{Timeout: patience}})
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(remote.Close)
	v, err := remote.View(counts)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

// seen is what a subscriber was told of a row.
type seen struct {
	snapshot bool
	n        int64
}

// subscriber notes what it is told.
type subscriber struct {
	t    *testing.T
	stop context.CancelFunc
	done chan struct{}
	mu   sync.Mutex
	all  map[string][]seen
}

func (w *world) subscribe() *subscriber {
	ctx, stop := context.WithCancel(w.t.Context())
	s := &subscriber{t: w.t, stop: stop, done: make(chan struct{}), all: map[string][]seen{}}
	view := w.view()
	go func() {
		defer close(s.done)
		for u, err := range view.Subscribe(ctx, nil, nil) {
			if err != nil || u.Deleted {
				w.t.Errorf("the subscription yields %+v, %v", u, err)
				return
			}
			s.mu.Lock()
			s.all[u.Key] = append(s.all[u.Key], seen{u.Snapshot, u.Value})
			s.mu.Unlock()
		}
	}()
	w.t.Cleanup(func() { s.end() })
	return s
}

// now are the rows as the subscriber knows them.
func (s *subscriber) now() map[string]int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]int64{}
	for k, all := range s.all {
		out[k] = all[len(all)-1].n
	}
	return out
}

func (s *subscriber) end() map[string][]seen {
	s.stop()
	<-s.done
	return s.all
}

// A subscriber whose rows came from an instance that is killed, in any step of its commits, has each change that is
// committed by whoever comes next, once and in order.
func TestSubscribersOutliveTheOwner(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	owner := w.spawn("")
	w.say(some(20)...)
	w.committed()
	sub := w.subscribe()
	until(t, "the rows", func() bool { return maps.Equal(sub.now(), w.said) })
	w.say(some(10)...)
	owner.kill()
	for _, point := range []string{failpoint.ProducerFlushed, failpoint.TxnEnded} {
		owner := w.spawn(point + ":2")
		for i := 0; !owner.done.Load(); i++ {
			w.say(some(5 + i%5)...)
			<-time.After(5 * time.Millisecond) // or there is more to do for whoever comes next
		}
	}
	app := w.start()
	w.say(some(20)...)
	want := w.committed()
	until(t, "the changes", func() bool { return maps.Equal(sub.now(), w.said) })
	app.end()
	got := sub.end()
	for key, all := range got {
		committed := want[key]
		for i, s := range all {
			if s.snapshot != (i == 0) {
				t.Fatalf("%q: %v: a row comes first, and changes behind it", key, all)
			}
		}
		from := slices.Index(committed, all[0].n)
		tail := committed[max(from, 0):]
		if from < 0 || len(tail) < len(all) {
			t.Errorf("%q: %v, of %v", key, all, committed)
			continue
		}
		for i, s := range all {
			if s.n != tail[i] {
				t.Errorf("%q: %v, want %v", key, all, tail)
				break
			}
		}
	}
}

// A changelog that is made anew, before its changes are read or while they are, ends the subscription, though the new one has
// the old one's offsets.
func TestAChangelogMadeAnewCutsSubscribersOff(t *testing.T) {
	t.Parallel()
	for name, early := range map[string]bool{"before changes are read": true, "while they are": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			app := w.start()
			w.say(some(20)...)
			w.committed()
			anew := func() {
				w.remove(changelog)
				w.create(changelog)
				for p := range int32(partitions) { // the old offsets are there again
					var recs []*kgo.Record
					for range 100 {
						recs = append(recs, &kgo.Record{Topic: changelog, Partition: p, Key: []byte("w1"), Value: make([]byte, 8)})
					}
					if err := w.client(kgo.RecordPartitioner(kgo.ManualPartitioner())).ProduceSync(t.Context(), recs...).FirstErr(); err != nil {
						t.Fatal(err)
					}
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			rows := 0
			var err error
			for u, e := range w.view().Subscribe(ctx, nil, nil) {
				if err = e; err != nil {
					break
				}
				rows++
				switch {
				case u.Value == 0:
					t.Fatalf("%+v is a change of another topic", u)
				case early && rows == 1, !early && !u.Snapshot && rows == 21:
					anew()
				case !early && rows == 20:
					w.say("w3")
				}
			}
			if !errors.Is(err, streams.ErrCutOff) {
				t.Errorf("after %d rows the subscription ended with %v, want ErrCutOff", rows, err)
			}
			app.stop()
			<-app.done // with what it thinks of that
		})
	}
}
