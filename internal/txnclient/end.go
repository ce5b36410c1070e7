package txnclient

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
)

// End ends the client's transaction. It waits for a metadata update that is under way first, until ctx ends. What was produced has to
// be flushed, or aborted, before.
//
// A client's EndTransaction looks through the topics that its producer knows for partitions that were written to. A topic that is
// written to for the first time gets there at the end of a metadata update, whose goroutine begins to send the waiting records before
// that (kgo v1.22.2, storePartitionsUpdate). If they are acknowledged before it goes on, EndTransaction finds nothing, ends nothing or,
// with version 2 transactions, aborts, and returns no error: what was written is lost when the transaction times out.
func End(ctx context.Context, cl *kgo.Client, how kgo.TransactionEndTry) error {
	known := make(chan struct{})
	go func() { // until the update is over, or the client is closed
		defer close(known)
		cl.PurgeTopicsFromProducing("") // of no topic: it is done by the goroutine that updates
	}()
	select {
	case <-known:
		return cl.EndTransaction(ctx, how)
	case <-ctx.Done():
		return fmt.Errorf("wait for the metadata of what was written: %w", ctx.Err())
	}
}
