package main

import (
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/leatstream/leat/examples/ordersPipeline/verify"
)

// settleTime is how long the pipeline may take to work off what it has accepted.
const settleTime = 60 * time.Second

// settle ends the load, waits until every order is through, and prints whether the books agree.
func (s *shopProcess) settle(ctx context.Context, stdout io.Writer) error {
	s.load.stop()
	fmt.Fprintf(stdout, "\nAfter %v:\n", s.cfg.runFor)
	if s.gen != nil {
		fmt.Fprintf(stdout, "  load: %d orders placed, %d of them repeated by the client, %d requests failed\n",
			s.gen.Accepted.Load(), s.gen.Repeated.Load(), s.gen.Failed.Load())
	}
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	var watching sync.WaitGroup
	defer watching.Wait()
	defer cancel()
	watching.Go(func() { // a service that fails will not settle anything
		select {
		case err := <-s.failed:
			s.failed <- err // for close, which reports it
			cancel()
		case <-ctx.Done():
		}
	})
	books := verify.Books{Opts: s.platform.opts, Orders: s.store, Emails: s.ledger, Mail: s.box}
	report, err := books.Check(ctx)
	if err != nil {
		return err
	}
	report.Print(stdout)
	if !report.Agrees() {
		return errBooksDisagree
	}
	return nil
}
