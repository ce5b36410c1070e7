package broker

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// copyOnce copies in to out, a transaction per poll, until ctx ends or a transaction cannot be ended. It stops without a word, as a killed program does.
func copyOnce(ctx context.Context, t *testing.T, b *Broker, id string, opts []kgo.Opt) {
	s, err := kgo.NewGroupTransactSession(append(append(inProcessOpts(b), kgo.TransactionalID(id), kgo.ConsumerGroup("copy"), kgo.ConsumeTopics("in"),
		kgo.TransactionTimeout(time.Second), // what a killed member leaves open holds up the offsets of its partitions so long
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.RequireStableFetchOffsets(),
		kgo.HeartbeatInterval(100*time.Millisecond), kgo.FetchMaxWait(50*time.Millisecond)), opts...)...)
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Close()
	for ctx.Err() == nil {
		fs := s.PollRecords(ctx, 50)
		if ctx.Err() != nil {
			return
		}
		if err := s.Begin(); err != nil {
			return
		}
		fs.EachRecord(func(r *kgo.Record) { s.Produce(ctx, &kgo.Record{Topic: "out", Key: r.Value, Value: r.Value}, nil) })
		if _, err := s.End(ctx, kgo.TryCommit); err != nil {
			return
		}
	}
}

// Several members copy a topic exactly once while members come and go in the middle of their transactions.
func TestExactlyOnceWithRebalances(t *testing.T) {
	const partitions, records = 4, 4000
	bothVersions(t, func(t *testing.T, opts []kgo.Opt) {
		t.Parallel()
		seed := rand.Uint64()
		t.Logf("seed %d", seed)
		b := start(t, nil)
		createTopic(t, b, "in", partitions)
		createTopic(t, b, "out", partitions)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		churn, settle := context.WithCancel(ctx)
		for i := range 3 {
			r := rand.New(rand.NewPCG(seed, uint64(i)))
			wg.Go(func() {
				for churn.Err() == nil {
					once, stop := context.WithTimeout(churn, time.Duration(50+r.IntN(300))*time.Millisecond)
					id := fmt.Sprintf("copier-%d", i) // the same id again: it settles what the last life left open
					copyOnce(once, t, b, id, opts)
					stop()
				}
			})
		}
		wg.Go(func() {
			for ctx.Err() == nil { // again where a transaction has timed out
				copyOnce(ctx, t, b, "steady", opts)
			}
		})
		input := time.NewTicker(60 * time.Millisecond)
		defer input.Stop()
		for from := 0; from < records; from += records / 20 {
			produceEach(t, b, "in", partitions, from, records/20)
			<-input.C
		}
		settle() // on a slow machine nobody gets anything done before the next one comes or goes
		r := dialRaw(t, b)
		eventually(t, "all is copied", func() bool {
			sum := int64(0)
			for p := range int32(partitions) {
				sum += max(0, fetchOffset(r, "copy", "in", p))
			}
			return sum == records
		})
		cancel()
		wg.Wait()
		for _, id := range []string{"copier-0", "copier-1", "copier-2", "steady"} { // end what the last members left open
			if _, _, err := txnClient(t, b, id, opts...).ProducerID(within(t, time.Minute)); err != nil {
				t.Error(err)
			}
		}
		settledLSO(t, b, "out")
		times := map[string]int{}
		for _, v := range readAll(t, b, "out", kgo.ReadCommitted()) {
			times[v]++
		}
		for i := range records {
			if n := times[fmt.Sprint(i)]; n != 1 {
				t.Fatalf("record %d was copied %d times", i, n)
			}
		}
	})
}
