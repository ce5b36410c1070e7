package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/IBM/sarama"
)

func config() *sarama.Config {
	c := sarama.NewConfig()
	c.Version = sarama.V3_6_0_0
	c.Producer.Return.Successes = true
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	return c
}

func checkSarama(ctx context.Context, addr string) error {
	addrs := []string{addr}
	admin, err := sarama.NewClusterAdmin(addrs, config())
	if err != nil {
		return err
	}
	defer admin.Close()
	for topic, partitions := range map[string]int32{"sarama": 4, "sarama-txn": 1} {
		if err := admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false); err != nil {
			return err
		}
	}
	codecs := map[string]sarama.CompressionCodec{"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
		"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD}
	var names []string
	for name, codec := range codecs {
		names = append(names, name)
		if err := saramaProduce(addrs, name, codec); err != nil {
			return fmt.Errorf("produce with %s: %w", name, err)
		}
	}
	want := wanted(names)
	got, err := saramaRead(ctx, addrs, len(want), nil)
	if err != nil {
		return err
	}
	if err := same(got, want, "group"); err != nil {
		return err
	}
	back := map[string]map[int32]sarama.OffsetAndMetadata{"sarama": {}}
	for p := range int32(4) {
		back["sarama"][p] = sarama.OffsetAndMetadata{Offset: 0, LeaderEpoch: -1}
	}
	if _, err := admin.AlterConsumerGroupOffsets("sarama", back, nil); err != nil {
		return fmt.Errorf("reset offsets: %w", err)
	}
	if got, err = saramaRead(ctx, addrs, len(want), nil); err != nil {
		return err
	}
	if err := same(got, want, "after the reset"); err != nil {
		return err
	}
	if err := saramaRebalance(ctx, addrs); err != nil {
		return err
	}
	return saramaTransactions(ctx, addrs)
}

func saramaProduce(addrs []string, name string, codec sarama.CompressionCodec) error {
	c := config()
	c.Producer.Compression, c.Producer.Idempotent, c.Producer.RequiredAcks, c.Net.MaxOpenRequests = codec, true, sarama.WaitForAll, 1
	p, err := sarama.NewSyncProducer(addrs, c)
	if err != nil {
		return err
	}
	defer p.Close()
	var messages []*sarama.ProducerMessage
	for i := range perCodec {
		messages = append(messages, &sarama.ProducerMessage{Topic: "sarama", Key: sarama.StringEncoder(fmt.Sprint(i)), Value: sarama.StringEncoder(value(name, i))})
	}
	return p.SendMessages(messages)
}

// member collects what a member of a group reads, until there are enough; setup is told what it was assigned.
type member struct {
	want   int
	enough context.CancelFunc
	setup  func(partitions int)

	mu  sync.Mutex
	got []string
}

func (m *member) Setup(s sarama.ConsumerGroupSession) error {
	if m.setup != nil {
		m.setup(len(s.Claims()["sarama"]))
	}
	return nil
}

func (m *member) Cleanup(sarama.ConsumerGroupSession) error { return nil }

func (m *member) ConsumeClaim(s sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case <-s.Context().Done():
			return nil
		case r, ok := <-claim.Messages():
			if !ok {
				return nil
			}
			s.MarkMessage(r, "")
			m.mu.Lock()
			m.got = append(m.got, string(r.Value))
			enough := len(m.got) == m.want
			m.mu.Unlock()
			if enough {
				s.Commit()
				m.enough()
			}
		}
	}
}

// saramaRead is a member of the group until it has read enough.
func saramaRead(ctx context.Context, addrs []string, want int, setup func(int)) ([]string, error) {
	group, err := sarama.NewConsumerGroup(addrs, "sarama", config())
	if err != nil {
		return nil, err
	}
	defer group.Close()
	reading, enough := context.WithCancel(ctx)
	defer enough()
	m := &member{want: want, enough: enough, setup: setup}
	for reading.Err() == nil {
		if err := group.Consume(reading, []string{"sarama"}, m); err != nil && reading.Err() == nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read %d of %d records: %w", len(m.got), want, err)
	}
	return m.got, nil
}

// saramaRebalance wants two members of the group to have two partitions each.
func saramaRebalance(ctx context.Context, addrs []string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	shares := make(chan [2]int, 16)
	var members sync.WaitGroup
	for i := range 2 {
		members.Go(func() {
			_, _ = saramaRead(ctx, addrs, 0, func(partitions int) { shares <- [2]int{i, partitions} }) // ends when it is stopped
		})
	}
	defer members.Wait()
	defer stop()
	var has [2]int
	for has != [2]int{2, 2} {
		select {
		case s := <-shares:
			has[s[0]] = s[1]
		case <-ctx.Done():
			return fmt.Errorf("rebalance: the members have %v partitions: %w", has, ctx.Err())
		}
	}
	return nil
}

func saramaTransactions(ctx context.Context, addrs []string) error {
	c := config()
	c.Producer.Idempotent, c.Producer.RequiredAcks, c.Net.MaxOpenRequests, c.Producer.Transaction.ID = true, sarama.WaitForAll, 1, "sarama"
	p, err := sarama.NewSyncProducer(addrs, c)
	if err != nil {
		return err
	}
	defer p.Close()
	for i := range 6 {
		if err := p.BeginTxn(); err != nil {
			return err
		}
		if _, _, err := p.SendMessage(&sarama.ProducerMessage{Topic: "sarama-txn", Value: sarama.StringEncoder(fmt.Sprint(i))}); err != nil {
			return err
		}
		end := p.CommitTxn
		if i%2 == 1 {
			end = p.AbortTxn
		}
		if err := end(); err != nil {
			return fmt.Errorf("end of transaction %d: %w", i, err)
		}
	}
	c = config()
	c.Consumer.IsolationLevel = sarama.ReadCommitted
	consumer, err := sarama.NewConsumer(addrs, c)
	if err != nil {
		return err
	}
	defer consumer.Close()
	claim, err := consumer.ConsumePartition("sarama-txn", 0, sarama.OffsetOldest)
	if err != nil {
		return err
	}
	defer claim.Close()
	for _, want := range []string{"0", "2", "4"} {
		select {
		case r := <-claim.Messages():
			if string(r.Value) != want {
				return fmt.Errorf("transactions: read %q, want %q", r.Value, want)
			}
		case <-ctx.Done():
			return fmt.Errorf("transactions: %q does not come: %w", want, ctx.Err())
		}
	}
	return nil
}
