package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/leatstream/leat/internal/kafkalab"
	"github.com/twmb/franz-go/pkg/kgo"
)

// P16: what many partitions cost a broker.

const manyPartitions = 4000

// upkeep is what one broker with many partitions took.
type upkeep struct {
	clean, killed time.Duration // from the start of the process to the first acknowledged record
	resident      float64       // megabytes, after the restart
	idle          float64       // part of a core
}

// P16
func holding(ctx context.Context, s settings) error {
	kinds := []string{"leat", "kafka"}
	if err := kafkalab.Require("java", "default-jdk-headless"); err != nil {
		fmt.Printf("# P16 without Apache Kafka: %v\n", err)
		kinds = kinds[:1]
	}
	got := make(map[string][]sample)
	var failed error // Apache Kafka's failure costs its own figures only
	for r := range s.rounds {
		for _, kind := range kinds {
			u, err := keepUp(ctx, kind)
			if err != nil && kind == "kafka" && ctx.Err() == nil {
				failed, kinds = fmt.Errorf("Apache Kafka, round %d: %w", r+1, err), kinds[:1]
				break
			}
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", kind, r+1, err)
			}
			got[kind] = append(got[kind], sample{P50: u.clean.Seconds(), P99: u.killed.Seconds(), Resident: u.resident, Extra: 100 * u.idle})
		}
	}
	line := func(figure, goal, unit string, of func(sample) float64) {
		fmt.Printf("%-18s %.2f %s (target %s)  spread %s", figure, median(got["leat"], of), unit, goal, spreadOf(got["leat"], of))
		if k := got["kafka"]; len(k) > 0 {
			fmt.Printf("  Apache Kafka %.2f, ratio %.3f", median(k, of), median(got["leat"], of)/median(k, of))
		}
		fmt.Println()
	}
	line("P16.restart-clean", "< 1", "s", p50)
	line("P16.restart-kill", "< 3", "s", p99)
	line("P16.memory", "<= 0.25 of Apache Kafka's", "MB", resident)
	line("P16.idle", "0", "% of a core", extra)
	all, one := job{N: s.records, Size: 100, Parts: manyPartitions}, job{N: s.records, Size: 100, Parts: 1}
	for _, c := range []struct{ figure, goal, kind string }{{"P16.produce", ">= 0.80", "leat"}, {"P16.produce-synced", "none: reported", "leat-sync"}} {
		err := compare(ctx, c.figure, c.goal, s.rounds, plain(fmt.Sprint(manyPartitions, " partitions"), c.kind, "produce", all, ""),
			plain("one", c.kind, "produce", one, ""))
		if err != nil {
			return errors.Join(err, failed)
		}
	}
	return failed
}

// keepUp starts a broker, writes into many partitions, leaves it alone for a while, and starts it again after a clean stop and
// after SIGKILL.
func keepUp(ctx context.Context, kind string) (u upkeep, err error) {
	b, err := startBroker(ctx, kind)
	if err != nil {
		return u, err
	}
	defer b.stop()
	if err := createTopics(ctx, b.addr, manyPartitions, "many"); err != nil {
		return u, err
	}
	if err := writeAll(ctx, b.addr, "many", 10); err != nil {
		return u, err
	}
	b.halt(false)
	if u.clean, err = b.again(ctx, "many"); err != nil {
		return u, err
	}
	if u.idle, err = b.idle(ctx, 10*time.Second); err != nil {
		return u, err
	}
	u.resident = residentMB(b.pid)
	if err := writeAll(ctx, b.addr, "many", 10); err != nil {
		return u, err
	}
	b.halt(true)
	u.killed, err = b.again(ctx, "many")
	return u, err
}

// again starts a broker that was halted, and returns how long it took to its first acknowledged record.
func (b *brokerProcess) again(ctx context.Context, topic string) (time.Duration, error) {
	began := time.Now()
	if err := b.start(ctx); err != nil {
		return 0, err
	}
	err := writeOne(ctx, b.addr, topic)
	return time.Since(began), err
}

// writeOne writes a record and waits until it is acknowledged.
func writeOne(ctx context.Context, addr, topic string) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ProducerLinger(0), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer cl.Close()
	return cl.ProduceSync(ctx, kgo.StringRecord("first")).FirstErr()
}

// idle is the part of a core that the broker uses while nobody asks it for anything, after as long for what is left to do.
func (b *brokerProcess) idle(ctx context.Context, over time.Duration) (float64, error) {
	if err := pause(ctx, over/2); err != nil {
		return 0, err
	}
	before := processCPU(b.pid)
	if err := pause(ctx, over); err != nil {
		return 0, err
	}
	return float64(processCPU(b.pid)-before) / float64(over), nil
}

// pause waits for nothing but time.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// writeAll writes so many records into each of a topic's partitions.
func writeAll(ctx context.Context, addr, topic string, each int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(topic), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.MaxBufferedRecords(each*manyPartitions))
	if err != nil {
		return err
	}
	defer cl.Close()
	var rs []*kgo.Record
	for i := range each * manyPartitions {
		rs = append(rs, &kgo.Record{Partition: int32(i % manyPartitions), Value: make([]byte, 100)})
	}
	var failed error
	for _, r := range cl.ProduceSync(ctx, rs...) {
		failed = errors.Join(failed, r.Err)
	}
	return failed
}
