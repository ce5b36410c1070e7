package streams_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/internal/txnclient"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/internal/failpoint"
)

// sayKey writes a record of that key in a transaction, which is committed or aborted.
func (b *bench) sayKey(key string, end kgo.TransactionEndTry) {
	b.t.Helper()
	cl := b.client(kgo.DefaultProduceTopic(b.in), kgo.TransactionalID(b.app+"-input"))
	defer cl.Close()
	err := cl.BeginTransaction()
	if err == nil {
		err = cl.ProduceSync(b.t.Context(), &kgo.Record{Key: []byte(key), Value: []byte("x")}).FirstErr()
	}
	if err = errors.Join(err, txnclient.End(b.t.Context(), cl, end)); err != nil {
		b.t.Fatal(err)
	}
}

// caughtUp waits until the group's offsets are the ends of the input's partitions, markers included.
func (b *bench) caughtUp() {
	b.t.Helper()
	admin := kadm.NewClient(b.client())
	ends, err := admin.ListEndOffsets(b.t.Context(), b.in)
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(b.t.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for behind := true; behind; <-tick.C {
		at, err := admin.FetchOffsets(ctx, b.app)
		if err != nil {
			b.t.Fatal(err)
		}
		behind = false
		ends.Each(func(e kadm.ListedOffset) {
			o, ok := at.Lookup(e.Topic, e.Partition)
			behind = behind || e.Offset > 0 && (!ok || o.At < e.Offset)
		})
	}
}

// A store without a changelog is kept over restarts, and over crashes before the transaction's end: it stands where the
// group's offsets do. One of its inputs never has a record, and the other one's position is moved by markers, too.
func TestStoreWithoutChangelogIsKeptOverRestarts(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		silent := b.in + "-silent"
		if _, err := kadm.NewClient(b.client()).CreateTopics(t.Context(), 3, 1, nil, silent); err != nil {
			t.Fatal(err)
		}
		var bl streams.Builder
		bl.Stream(streams.Topic[string, string]{Name: b.in, Also: []string{silent}}).
			GroupByKey().
			Count(streams.Store[string, int64]{Name: "counts", NoChangelog: true}).
			ToStream().To(streams.Topic[string, int64]{Name: b.out})
		topology, err := bl.Build()
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int64{}
		out := b.results()
		for _, crash := range []string{"", "", failpoint.CommitBegin, failpoint.StoresFlushed, failpoint.ProducerFlushed, failpoint.OffsetsAdded, ""} {
			points := &failpoint.Set{}
			app := b.run(topology, b.config("a"), points)
			b.sayKey("one", kgo.TryCommit)
			want["one"]++
			out.expect(want)
			b.sayKey("one", kgo.TryAbort)
			b.caughtUp()
			if crash == "" {
				app.stop()
				if err := app.wait(t); err != nil {
					t.Fatal(err)
				}
				continue
			}
			points.Arm(crash, 1, func() error { return errCrash })
			b.sayKey("one", kgo.TryCommit)
			want["one"]++
			if err := app.wait(t); !errors.Is(err, errCrash) {
				t.Fatalf("Run returned %v, want the crash", err)
			}
		}
	})
}
