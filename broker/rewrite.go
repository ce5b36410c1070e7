package broker

import (
	"context"
	"time"

	"github.com/leatstream/leat/broker/internal/log"
)

// The metadata journal and the coordinators' topics grow with every change and commit while what is live stays small. So that a start
// does not have to read all that ever happened, what is live is written once more at the end from time to time, and the log begins there.
const (
	rewriteEvery = time.Minute
	// A log is rewritten when it holds so many records, and so many times what is live.
	rewriteRecords = 100_000
	rewriteFactor  = 4
)

// rewriter is the log of the metadata or of one coordinator.
type rewriter struct {
	topic   string
	log     *log.Log
	live    int // records that the last rewriting took
	rewrite func(end int64) (needed int64, records int, err error)
}

func (b *Broker) rewriters() []*rewriter {
	metadata, _ := b.partition(metadataTopic, 0)
	offsets, _ := b.partition(offsetsTopic, 0)
	return []*rewriter{
		{topic: metadataTopic, log: metadata, rewrite: func(end int64) (int64, int, error) {
			records, err := b.meta.Rewrite()
			return end, records, err
		}},
		{topic: offsetsTopic, log: offsets, rewrite: b.groups.Rewrite},
		{topic: transactionsTopic, log: b.txnLog, rewrite: func(end int64) (int64, int, error) {
			records, err := b.txns.Rewrite()
			return end, records, err
		}},
	}
}

// rewriteLogs keeps these logs short until the broker closes.
func (b *Broker) rewriteLogs() {
	logs := b.rewriters()
	tick := time.NewTicker(rewriteEvery)
	defer tick.Stop()
	for {
		for _, r := range logs {
			if err := r.run(b.ctx, rewriteRecords); err != nil && b.ctx.Err() == nil {
				b.logger.Error("an internal topic could not be shortened; it grows", "topic", r.topic, "error", err)
			}
		}
		select {
		case <-tick.C:
		case <-b.ctx.Done():
			return
		}
	}
}

// run rewrites the log if it is long.
func (r *rewriter) run(ctx context.Context, atLeast int64) error {
	before := r.log.Bounds()
	if before.End-before.LogStart < max(atLeast, int64(rewriteFactor*r.live)) {
		return nil
	}
	needed, records, err := r.rewrite(before.End)
	if err != nil {
		return err
	}
	r.live = records
	if err := r.log.WaitSynced(ctx, r.log.Bounds().End); err != nil {
		return err
	}
	_, err = r.log.DeleteRecords(min(needed, before.LastStable))
	return err
}
