package broker

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/internal/txnclient"
)

// random is so many bytes that do not compress.
func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// A compacted topic keeps the latest record of each key, is small, and is read by a client from its start to its end and
// from the midst of what is gone.
func TestCompactedTopic(t *testing.T) {
	both(t, func(t *testing.T, b *Broker, opts []kgo.Opt) {
		req := kmsg.NewPtrCreateTopicsRequest()
		ct := kmsg.NewCreateTopicsRequestTopic()
		ct.Topic, ct.NumPartitions, ct.ReplicationFactor = "t", 1, 1
		for name, value := range map[string]string{
			"cleanup.policy": "compact", "segment.bytes": "20000", "min.cleanable.dirty.ratio": "0", "delete.retention.ms": "0",
		} {
			ct.Configs = append(ct.Configs, kmsg.CreateTopicsRequestTopicConfig{Name: name, Value: kmsg.StringPtr(value)})
		}
		req.Topics = append(req.Topics, ct)
		if resp := do[*kmsg.CreateTopicsResponse](dialRaw(t, b), req, 7); resp.Topics[0].ErrorCode != 0 {
			t.Fatal(*resp.Topics[0].ErrorMessage)
		}
		cl := newClient(t, opts, kgo.TransactionalID("x"), kgo.DefaultProduceTopic("t"))
		ctx := within(t, time.Minute)
		want := map[string]string{}
		for round := range 100 {
			if err := cl.BeginTransaction(); err != nil {
				t.Fatal(err)
			}
			commit := round%3 != 1
			for i := range 10 {
				k, v := fmt.Sprint("key ", (i*7+round)%25), fmt.Sprintf("round %d: %x", round, random(200))
				cl.Produce(ctx, &kgo.Record{Key: []byte(k), Value: []byte(v)}, nil)
				if commit {
					want[k] = v
				}
			}
			if err := cl.Flush(ctx); err != nil {
				t.Fatal(err)
			}
			if err := txnclient.End(ctx, cl, kgo.TransactionEndTry(commit)); err != nil {
				t.Fatal(err)
			}
		}
		settledLSO(t, b, "t")
		l, _ := b.partition("t", 0)
		before := l.Size()
		for l.Size() > before/2 { // the last segments are only compacted when they are synced and sealed, in the background
			b.compactAll(time.Now())
			tick := time.NewTimer(time.Millisecond)
			select {
			case <-tick.C:
			case <-ctx.Done():
				t.Fatalf("%d bytes of %d are left", l.Size(), before)
			}
		}
		for _, from := range []int64{0, 1, 13, 100} {
			rd := newClient(t, opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()),
				kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"t": {0: kgo.NewOffset().At(from)}}))
			got := map[string]string{}
			for end := l.Bounds().End - 2; ; {
				fs := rd.PollFetches(ctx)
				if err := fs.Err(); err != nil {
					t.Fatal(err)
				}
				done := false
				fs.EachRecord(func(r *kgo.Record) {
					got[string(r.Key)] = string(r.Value)
					done = done || r.Offset >= end
				})
				if done {
					break
				}
			}
			for k, v := range want {
				if got[k] != v {
					t.Errorf("from %d: %s is %q, want %q", from, k, got[k], v)
				}
			}
		}
	})
}
