package session_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// downgrade has the cluster run transactions of the kind before version 2, where partitions and groups are added by requests of
// their own.
func (c cluster) downgrade(t *testing.T) {
	t.Helper()
	cl, err := kgo.NewClient(c.opts...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	req := kmsg.NewPtrUpdateFeaturesRequest()
	f := kmsg.NewUpdateFeaturesRequestFeatureUpdate()
	f.Feature, f.MaxVersionLevel, f.UpgradeType = "transaction.version", 0, 2
	req.FeatureUpdates = append(req.FeatureUpdates, f)
	resp, err := req.RequestWith(t.Context(), cl)
	if err == nil {
		err = kerr.ErrorForCode(resp.ErrorCode)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A coordinator that is busy with the transaction before is asked again, with patience, whether it takes less time than a
// transaction may or more: nothing is lost, nothing doubled, and there is no storm of requests.
func TestConcurrentTransactionsAreWaitedFor(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		key     kmsg.Key
		v2      bool
		timeout time.Duration
	}{
		{kmsg.InitProducerID, true, 0},
		{kmsg.AddPartitionsToTxn, false, 0},
		{kmsg.AddPartitionsToTxn, false, 300 * time.Millisecond},
		{kmsg.AddOffsetsToTxn, false, 0},
		{kmsg.AddOffsetsToTxn, false, 300 * time.Millisecond},
		{kmsg.TxnOffsetCommit, true, 0},
		{kmsg.TxnOffsetCommit, true, 300 * time.Millisecond},
		{kmsg.Produce, true, 0},
		{kmsg.Produce, true, 300 * time.Millisecond},
		{kmsg.EndTxn, true, 0},
		{kmsg.EndTxn, true, 300 * time.Millisecond},
	} {
		t.Run(fmt.Sprint(c.key.Name(), " ", c.timeout), func(t *testing.T) {
			t.Parallel()
			cl := startFake(t)
			if !c.v2 {
				cl.downgrade(t)
			}
			tr := newTrial(t, cl)
			tr.timeout = c.timeout
			fault := kfake.Fault{Keys: []kmsg.Key{c.key}, Err: kerr.ConcurrentTransactions, Count: -1, When: func(r kmsg.Request) bool {
				switch r := r.(type) { // not those of the input's producer
				case *kmsg.ProduceRequest:
					return r.TransactionID != nil
				case *kmsg.InitProducerIDRequest:
					return r.TransactionalID != nil
				}
				return true
			}}
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			var storm *kfake.FaultHandle
			if c.key == kmsg.InitProducerID {
				storm = cl.fake.Fault(fault)
			}
			wg.Go(func() { tr.run(ctx, "a", nil) })
			tr.feed(200, time.Millisecond)
			if storm == nil {
				wait(t, func() bool { return tr.commits.Load() > 0 })
				storm = cl.fake.Fault(fault)
			}
			tr.feedFrom(200, 400, time.Millisecond)
			if err := storm.Wait(t.Context(), 1); err != nil {
				t.Fatal(err)
			}
			began, before := time.Now(), storm.Hits()
			<-time.After(900 * time.Millisecond) // the storm itself
			storm.Remove()
			asked, took := storm.Hits()-before, time.Since(began)
			if most := 50 + int(took/(5*time.Millisecond)); asked > most {
				t.Errorf("%d requests in %s, want %d at most", asked, took, most)
			}
			t.Logf("%d requests in %s", asked, took)
			tr.feedFrom(400, 600, time.Millisecond)
			tr.verify(600, time.Minute)
			stop()
			wg.Wait()
		})
	}
}
