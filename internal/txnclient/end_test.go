package txnclient

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Each transaction is the first of its client, and writes to a topic that is new to it.
func TestWhatWasWrittenToANewTopicIsCommitted(t *testing.T) {
	fake, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer fake.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	client := func(opts ...kgo.Opt) *kgo.Client {
		cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(fake.ListenAddrs()...))...)
		if err != nil {
			t.Fatal(err)
		}
		return cl
	}
	for _, value := range []string{"aborted", "committed", "committed", "aborted", "committed"} {
		cl := client(kgo.TransactionalID("x"))
		err := errors.Join(cl.BeginTransaction(), cl.ProduceSync(ctx, &kgo.Record{Topic: "out", Value: []byte(value)}).FirstErr(),
			End(ctx, cl, value == "committed"))
		cl.Close()
		if err != nil {
			t.Fatal(err)
		}
	}
	reader := client(kgo.ConsumeTopics("out"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	defer reader.Close()
	for n := 0; n < 3; {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("%d records are committed (%v), want 3", n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			n++
			if string(r.Value) != "committed" {
				t.Errorf("an %s record is visible", r.Value)
			}
		})
	}
}
