package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
)

func checkSegmentio(ctx context.Context, addr string) error {
	client := &kafka.Client{Addr: kafka.TCP(addr), Timeout: 10 * time.Second}
	created, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{Topic: "segmentio", NumPartitions: 3, ReplicationFactor: 1}}})
	if err = errors.Join(err, created.Errors["segmentio"]); err != nil {
		return err
	}
	codecs := map[string]kafka.Compression{"none": 0, "gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd}
	var names []string
	for name, codec := range codecs {
		names = append(names, name)
		w := &kafka.Writer{Addr: kafka.TCP(addr), Topic: "segmentio", Balancer: kafka.Murmur2Balancer{}, RequiredAcks: kafka.RequireAll, Compression: codec, BatchTimeout: 10 * time.Millisecond}
		var messages []kafka.Message
		for i := range perCodec {
			messages = append(messages, kafka.Message{Key: []byte(fmt.Sprint(i)), Value: []byte(value(name, i)), Headers: []kafka.Header{{Key: "codec", Value: []byte(name)}}})
		}
		if err := errors.Join(w.WriteMessages(ctx, messages...), w.Close()); err != nil {
			return fmt.Errorf("produce with %s: %w", name, err)
		}
	}
	want := wanted(names)
	got, err := segmentioRead(ctx, addr, len(want))
	if err != nil {
		return err
	}
	if err := same(got, want, "group"); err != nil {
		return err
	}
	back, err := client.OffsetCommit(ctx, &kafka.OffsetCommitRequest{GroupID: "segmentio", GenerationID: -1,
		Topics: map[string][]kafka.OffsetCommit{"segmentio": {{Partition: 0}, {Partition: 1}, {Partition: 2}}}})
	if err != nil {
		return fmt.Errorf("reset offsets: %w", err)
	}
	for _, p := range back.Topics["segmentio"] {
		if p.Error != nil {
			return fmt.Errorf("reset offsets of partition %d: %w", p.Partition, p.Error)
		}
	}
	if got, err = segmentioRead(ctx, addr, len(want)); err != nil {
		return err
	}
	return same(got, want, "after the reset")
}

// segmentioRead reads in the group and commits.
func segmentioRead(ctx context.Context, addr string, want int) (got []string, err error) {
	r := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{addr}, GroupID: "segmentio", Topic: "segmentio", StartOffset: kafka.FirstOffset, MaxWait: 200 * time.Millisecond})
	defer func() { err = errors.Join(err, r.Close()) }()
	var last []kafka.Message
	for len(got) < want {
		m, err := r.FetchMessage(ctx)
		if err != nil {
			return nil, fmt.Errorf("read %d of %d records: %w", len(got), want, err)
		}
		got = append(got, string(m.Value))
		last = append(last, m)
	}
	return got, r.CommitMessages(ctx, last...)
}
