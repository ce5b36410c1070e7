package broker

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Four thousand partitions are made, take records, give them out and are there again after a restart, each in seconds even on a slow
// and busy machine.
func TestFourThousandPartitions(t *testing.T) {
	if testing.Short() {
		t.Skip("thousands of files")
	}
	const partitions, slow = 4000, 45 * time.Second
	cfg := Config{Dir: t.TempDir(), Flush: FlushOS}
	b, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	timed := func(what string, f func()) {
		began := time.Now()
		f()
		took := time.Since(began)
		t.Logf("%s: %v", what, took.Round(time.Millisecond))
		if took > slow {
			t.Errorf("%s took %v", what, took)
		}
	}
	opts := func() []kgo.Opt {
		return []kgo.Opt{kgo.SeedBrokers(b.Addr()), kgo.Dialer(b.Dialer()), kgo.RecordPartitioner(kgo.RoundRobinPartitioner())}
	}
	cl := newClient(t, opts())
	timed("create", func() {
		if _, err := kadm.NewClient(cl).CreateTopic(within(t, time.Minute), partitions, 1, nil, "many"); err != nil {
			t.Fatal(err)
		}
	})
	timed("produce", func() { produce(t, cl, "many", 2*partitions, func(i int) string { return fmt.Sprint(i) }) })
	cl.Close()
	timed("close", func() {
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
	timed("start", func() {
		if b, err = Start(t.Context(), cfg); err != nil {
			t.Fatal(err)
		}
	})
	t.Cleanup(func() { b.Close() })
	cl = newClient(t, opts(), kgo.ConsumeTopics("many"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	seen := map[int32]bool{}
	timed("consume", func() {
		for _, r := range consume(t, cl, 2*partitions) {
			seen[r.Partition] = true
		}
	})
	if len(seen) != partitions {
		t.Errorf("records came from %d partitions", len(seen))
	}
	cl.Close()
}
