//go:build cgo

package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/confluentinc/confluent-kafka-go/v2/kafka"
)

// checkConfluent runs confluent-kafka-go with the librdkafka that it brings along, under both group protocols.
func checkConfluent(ctx context.Context, addr string) error {
	admin, err := kafka.NewAdminClient(&kafka.ConfigMap{"bootstrap.servers": addr})
	if err != nil {
		return err
	}
	defer admin.Close()
	created, err := admin.CreateTopics(ctx, []kafka.TopicSpecification{{Topic: "confluent", NumPartitions: 4, ReplicationFactor: 1},
		{Topic: "confluent-txn", NumPartitions: 1, ReplicationFactor: 1}})
	if err != nil {
		return err
	}
	for _, t := range created {
		if t.Error.Code() != kafka.ErrNoError {
			return t.Error
		}
	}
	names := []string{"none", "gzip", "snappy", "lz4", "zstd"}
	for _, name := range names {
		if err := confluentProduce(addr, name); err != nil {
			return fmt.Errorf("produce with %s: %w", name, err)
		}
	}
	want := wanted(names)
	for _, protocol := range []string{"classic", "consumer"} {
		group := "confluent-" + protocol
		got, err := confluentRead(ctx, addr, group, protocol, len(want))
		if err != nil {
			return fmt.Errorf("%s: %w", group, err)
		}
		if err := same(got, want, group); err != nil {
			return err
		}
		if err := confluentReset(ctx, admin, group); err != nil {
			return err
		}
		if got, err = confluentRead(ctx, addr, group, protocol, len(want)); err != nil {
			return fmt.Errorf("%s after the reset: %w", group, err)
		}
		if err := same(got, want, group+" after the reset"); err != nil {
			return err
		}
		if err := confluentRebalance(ctx, addr, group, protocol); err != nil {
			return err
		}
	}
	return confluentTransactions(ctx, addr)
}

// confluentDeliver produces and waits for the acknowledgements.
func confluentDeliver(p *kafka.Producer, topic string, values ...string) error {
	acks := make(chan kafka.Event, len(values))
	for i, v := range values {
		m := &kafka.Message{TopicPartition: kafka.TopicPartition{Topic: &topic, Partition: kafka.PartitionAny}, Key: []byte(fmt.Sprint(i)), Value: []byte(v)}
		if err := p.Produce(m, acks); err != nil {
			return err
		}
	}
	for range values {
		if m, ok := (<-acks).(*kafka.Message); ok && m.TopicPartition.Error != nil {
			return m.TopicPartition.Error
		}
	}
	return nil
}

func confluentProduce(addr, codec string) error {
	p, err := kafka.NewProducer(&kafka.ConfigMap{"bootstrap.servers": addr, "compression.type": codec, "enable.idempotence": true})
	if err != nil {
		return err
	}
	defer p.Close()
	var values []string
	for i := range perCodec {
		values = append(values, value(codec, i))
	}
	return confluentDeliver(p, "confluent", values...)
}

func confluentMember(addr, group, protocol, topic string) (*kafka.Consumer, error) {
	c, err := kafka.NewConsumer(&kafka.ConfigMap{"bootstrap.servers": addr, "group.id": group, "group.protocol": protocol,
		"auto.offset.reset": "earliest", "enable.auto.commit": false})
	if err != nil {
		return nil, err
	}
	return c, c.SubscribeTopics([]string{topic}, nil)
}

// confluentRead is a member of the group until it has read want records, and commits.
func confluentRead(ctx context.Context, addr, group, protocol string, want int) (got []string, err error) {
	c, err := confluentMember(addr, group, protocol, "confluent")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, c.Close()) }()
	for len(got) < want {
		if ctx.Err() != nil {
			return nil, fmt.Errorf("read %d of %d records: %w", len(got), want, ctx.Err())
		}
		switch e := c.Poll(100).(type) {
		case *kafka.Message:
			if e.TopicPartition.Error != nil {
				return nil, e.TopicPartition.Error
			}
			got = append(got, string(e.Value))
		case kafka.Error:
			if e.IsFatal() {
				return nil, e
			}
		}
	}
	_, err = c.Commit()
	return got, err
}

func confluentReset(ctx context.Context, admin *kafka.AdminClient, group string) error {
	topic := "confluent"
	var back []kafka.TopicPartition
	for p := range int32(4) {
		back = append(back, kafka.TopicPartition{Topic: &topic, Partition: p, Offset: 0})
	}
	resp, err := admin.AlterConsumerGroupOffsets(ctx, []kafka.ConsumerGroupTopicPartitions{{Group: group, Partitions: back}})
	if err != nil {
		return fmt.Errorf("reset offsets of %s: %w", group, err)
	}
	for _, p := range resp.ConsumerGroupsTopicPartitions[0].Partitions {
		if p.Error != nil {
			return fmt.Errorf("reset offsets of %s, partition %d: %w", group, p.Partition, p.Error)
		}
	}
	return nil
}

// confluentRebalance wants two members of the group to have two partitions each.
func confluentRebalance(ctx context.Context, addr, group, protocol string) error {
	var has [2]int
	var mu sync.Mutex
	both, failed := make(chan struct{}), make(chan error, 2)
	even := sync.OnceFunc(func() { close(both) })
	for i := range 2 {
		go func() {
			c, err := confluentMember(addr, group, protocol, "confluent")
			if err != nil {
				failed <- err
				return
			}
			for ctx.Err() == nil {
				c.Poll(50)
				mine, err := c.Assignment()
				if err != nil {
					failed <- errors.Join(err, c.Close())
					return
				}
				mu.Lock()
				if has[i] = len(mine); has == [2]int{2, 2} {
					even()
				}
				mu.Unlock()
				select {
				case <-both:
					failed <- c.Close()
					return
				default:
				}
			}
			failed <- errors.Join(fmt.Errorf("%s: the members do not have two partitions each: %w", group, ctx.Err()), c.Close())
		}()
	}
	return errors.Join(<-failed, <-failed)
}

func confluentTransactions(ctx context.Context, addr string) error {
	p, err := kafka.NewProducer(&kafka.ConfigMap{"bootstrap.servers": addr, "transactional.id": "confluent"})
	if err != nil {
		return err
	}
	defer p.Close()
	if err := p.InitTransactions(ctx); err != nil {
		return fmt.Errorf("init transactions: %w", err)
	}
	for i := range 6 {
		if err := p.BeginTransaction(); err != nil {
			return err
		}
		if err := confluentDeliver(p, "confluent-txn", fmt.Sprint(i)); err != nil {
			return err
		}
		end := p.CommitTransaction
		if i%2 == 1 {
			end = p.AbortTransaction
		}
		if err := end(ctx); err != nil {
			return fmt.Errorf("end of transaction %d: %w", i, err)
		}
	}
	c, err := confluentMember(addr, "confluent-txn", "classic", "confluent-txn")
	if err != nil {
		return err
	}
	defer c.Close()
	for _, want := range []string{"0", "2", "4"} {
		m, err := c.ReadMessage(30 * time.Second)
		if err != nil {
			return fmt.Errorf("transactions: %q does not come: %w", want, err)
		}
		if string(m.Value) != want {
			return fmt.Errorf("transactions: read %q, want %q", m.Value, want)
		}
	}
	return nil
}
