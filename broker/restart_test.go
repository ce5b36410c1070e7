package broker

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The metadata journal is shortened to what is in force, so that changing it for years does not make a start long.
func TestMetadataIsShortened(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Flush: FlushOS}
	b, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	createTopic(t, b, "t", 2)
	id, _ := b.topicID("t")
	for i := range 200 {
		if err := b.setConfigs("t", map[string]string{"retention.ms": fmt.Sprint(i)}); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range b.rewriters() {
		if err := r.run(t.Context(), 100); err != nil {
			t.Fatal(err)
		}
	}
	if l, _ := b.partition(metadataTopic, 0); l.Bounds().End-l.Bounds().LogStart > 20 {
		t.Errorf("the journal holds offsets %d to %d", l.Bounds().LogStart, l.Bounds().End)
	}
	cluster := b.meta.ClusterID()
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	b = startWith(t, cfg)
	again, _ := b.topicID("t")
	if m := b.topic("t"); b.meta.ClusterID() != cluster || again != id || m.Partitions != 2 || m.Configs["retention.ms"] != "199" {
		t.Errorf("cluster %s, topic %+v", b.meta.ClusterID(), m)
	}
}

// A restart under FlushOS begins a new leader epoch in every partition that was there, as an election does in Kafka: a consumer goes
// on where it was, and finds no record twice or not at all.
func TestConsumerGoesOnInTheNextLeaderEpoch(t *testing.T) {
	cfg := Config{Dir: t.TempDir(), Flush: FlushOS}
	var at atomic.Pointer[Broker]
	opts := []kgo.Opt{kgo.SeedBrokers("leat:9092"), kgo.Dialer(func(ctx context.Context, _, _ string) (net.Conn, error) { return at.Load().Dial(ctx) })}
	var cl *kgo.Client
	for round := range int32(3) {
		b, err := Start(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		at.Store(b)
		if round == 0 {
			createTopic(t, b, "t", 1)
			cl = newClient(t, opts, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
		}
		l, _ := b.partition("t", 0)
		epoch := l.LeaderEpoch()
		if epoch == 0 != (round == 0) {
			t.Errorf("start %d: leader epoch %d", round+1, epoch)
		}
		producer := newClient(t, opts)
		produce(t, producer, "t", 5, func(i int) string { return fmt.Sprint(5*int(round) + i) })
		producer.Close()
		for i, r := range consume(t, cl, 5) {
			if want := fmt.Sprint(5*int(round) + i); string(r.Value) != want || r.LeaderEpoch != epoch {
				t.Errorf("start %d: record %q of epoch %d, want %q of %d", round+1, r.Value, r.LeaderEpoch, want, epoch)
			}
		}
		if round == 2 {
			cl.Close()
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
