package streams_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// The program of docs/async.md, so that the page stays true.

var (
	asyncPayments = streams.Topic[string, int64]{Name: "payments", Partitions: 4}
	asyncScored   = streams.Topic[string, string]{Name: "scored-payments", Partitions: 4}
	asyncReports  = streams.Topic[string, []string]{Name: "reports", Value: serde.JSON[[]string](), Partitions: 4}
	asyncSeen     = streams.WindowStore[string, time.Time]{Name: "payments-seen", Retention: 24 * time.Hour}
)

func asyncTopology(score func(context.Context, string, int64) (string, error)) (*streams.Topology, error) {
	var b streams.Builder
	scored := b.Stream(asyncPayments).
		Deduplicate(asyncSeen, func(account string, cents int64) string { return fmt.Sprint(account, "/", cents) }).
		MapAsync(streams.Async{Name: "score", Parallel: 32, Timeout: 2 * time.Second, Retries: 3}, score)
	scored.To(asyncScored)
	streams.Batch(scored, "reports", 100, time.Minute).To(asyncReports)
	return b.Build()
}

func TestAsyncGuide(t *testing.T) {
	top, err := asyncTopology(func(ctx context.Context, _ string, cents int64) (string, error) {
		return fmt.Sprint(cents, " is fine"), streamstest.Sleep(ctx, time.Second)
	})
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, top)
	for _, cents := range []int64{5, 7, 5} {
		d.Send(asyncPayments, "ada", cents)
	}
	if got := d.Read(asyncScored); len(got) != 0 {
		t.Errorf("results %v before their calls have ended", got)
	}
	d.Advance(2 * time.Second) // one key: one call after the other
	if got := d.Read(asyncScored); len(got) != 1 {
		t.Errorf("%d results after the first call, want 1", len(got))
	}
	d.Advance(time.Second)
	d.Advance(time.Minute)
	got := d.Read(asyncReports)
	if len(got) != 1 || !slices.Equal(got[0].Value, []string{"5 is fine", "7 is fine"}) {
		t.Errorf("reports %v, want one of the two payments", got)
	}
}
