package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// P12: our broker beside Apache Kafka, both warm, with the same client.

// rivals are brokers that run side by side through a whole target.
type rivals struct {
	ours, kafka *brokerProcess
	runs        int
}

func startRivals(ctx context.Context) (*rivals, error) {
	ours, err := startBroker(ctx, "leat")
	if err != nil {
		return nil, err
	}
	kafka, err := startBroker(ctx, "kafka")
	if err != nil {
		ours.stop()
		return nil, err
	}
	return &rivals{ours: ours, kafka: kafka}, nil
}

func (r *rivals) stop() {
	r.ours.stop()
	r.kafka.stop()
}

// P12
func besideKafka(ctx context.Context, s settings) error {
	if err := startingTimes(ctx, s); err != nil {
		return err
	}
	r, err := startRivals(ctx)
	if err != nil {
		return err
	}
	defer r.stop()
	if err := pause(ctx, 5*time.Second); err != nil {
		return err
	}
	r.memory("P12.memory-idle", "<= 0.10")
	for _, c := range []struct {
		figure, role, prepare string
		size, n               int
	}{
		{"P12.produce-100", "produce", "", 100, s.records},
		{"P12.produce-1k", "produce", "", 1000, s.records / 2},
		{"P12.consume-100", "consume", "produce", 100, s.records},
		{"P12.consume-1k", "consume", "produce", 1000, s.records / 2},
	} {
		j := job{N: c.n, Size: c.size}
		ours, kafka := r.side("leat", r.ours, c.role, c.prepare, j), r.side("Apache Kafka", r.kafka, c.role, c.prepare, j)
		if _, err := interleave(ctx, 1, ours, kafka); err != nil { // a JVM has to get warm
			return err
		}
		got, err := interleave(ctx, s.rounds, ours, kafka)
		if err != nil {
			return err
		}
		printRatio(c.figure, ">= 1.00", "leat", "Apache Kafka", got[0], got[1])
		o, k := median(got[0], brokerNs), median(got[1], brokerNs)
		fmt.Printf("%-18s %5.2f (target <= 1.00)  broker CPU leat %.0f ns, Apache Kafka %.0f ns a record\n", c.figure+"-cpu", o/k, o, k)
	}
	r.memory("P12.memory-loaded", "<= 0.20")
	return nil
}

// memory compares what the brokers hold at this moment.
func (r *rivals) memory(figure, goal string) {
	o, k := residentMB(r.ours.pid), residentMB(r.kafka.pid)
	fmt.Printf("%-18s %5.2f (target %s)  resident leat %.0f MB, Apache Kafka %.0f MB\n", figure, o/k, goal, o, k)
}

// side makes a side that works on a topic of its own, which is deleted after it.
func (r *rivals) side(name string, b *brokerProcess, role, prepare string, j job) side {
	return side{name, func(ctx context.Context, round int) (s sample, err error) {
		r.runs++
		j := j
		j.Addr, j.Broker, j.Topic = b.addr, b.pid, fmt.Sprint("bench-", r.runs, "-")
		if prepare != "" {
			_, err = work(ctx, prepare, j)
		}
		if err == nil {
			s, err = work(ctx, role, j)
		}
		err = errors.Join(err, deleteTopics(ctx, b.addr, j.Topic))
		return s, errors.Join(err, pause(ctx, deletedFiles))
	}}
}

// deletedFiles is how long it takes until Apache Kafka has removed the files of a deleted topic (kafkalab sets
// log.segment.delete.delay.ms): memory that one side has just given back serves the other faster than memory that the system
// has to find.
const deletedFiles = 3 * time.Second

// startingTimes measures from the start of a broker's process, with no data, to the first acknowledged record.
func startingTimes(ctx context.Context, s settings) error {
	one := func(kind string) side {
		return side{kind, func(ctx context.Context, round int) (sample, error) {
			b, err := newBroker(ctx, kind)
			if err != nil {
				return sample{}, err
			}
			defer b.stop()
			took, err := b.first(ctx)
			return sample{P50: float64(took.Microseconds()) / 1e3}, err
		}}
	}
	got, err := interleave(ctx, s.rounds, one("leat"), one("kafka"))
	if err != nil {
		return err
	}
	fmt.Printf("%-18s %.0f ms from process start to the first acknowledged record (target <= 100)  spread %s ms  Apache Kafka %.0f ms\n",
		"P12.start", median(got[0], p50), spreadOf(got[0], p50), median(got[1], p50))
	return nil
}

// first starts a broker that has no data, makes a topic, and returns how long it took to the first acknowledged record.
func (b *brokerProcess) first(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	if err := b.start(ctx); err != nil {
		return 0, err
	}
	if err := createTopics(ctx, b.addr, 1, "first"); err != nil {
		return 0, err
	}
	err := writeOne(ctx, b.addr, "first")
	return time.Since(began), err
}
