package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/examples/ordersPipeline/orders"
	"github.com/leatstream/leat/examples/ordersPipeline/shop"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

// waitForCluster returns when a broker answers. A cluster that cannot be reached is waited for, and that is said.
func waitForCluster(ctx context.Context, p *platform, logger *slog.Logger) error {
	client, err := kgo.NewClient(p.opts...)
	if err != nil {
		return fmt.Errorf("Kafka client: %w", err)
	}
	defer client.Close()
	var said time.Time
	for {
		ping, cancel := context.WithTimeout(ctx, 3*time.Second)
		err := client.Ping(ping)
		cancel()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(said) > 10*time.Second {
			said = time.Now()
			logger.Warn("waiting for the Kafka cluster", "bootstrap-server", p.kafka, "err", err)
		}
		timer := time.NewTimer(time.Second)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// ensureTopics makes the shop's topics where they are missing, and returns when the cluster knows them: Apache Kafka
// tells of a new topic a moment after it has confirmed it.
func ensureTopics(ctx context.Context, opts []kgo.Opt) error {
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("Kafka client: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	compact := "compact"
	var all []string
	for _, kind := range []struct {
		topics  []string
		configs map[string]*string
	}{
		{[]string{shop.TopicOrders, shop.TopicDecisions, shop.TopicRestocks, shop.TopicRevenue, shop.DeadLetters}, nil},
		{[]string{shop.TopicProducts, shop.TopicTotals}, map[string]*string{"cleanup.policy": &compact}},
	} {
		// Replication -1 is the cluster's default: 1 on one node, more where there are more.
		made, err := admin.CreateTopics(ctx, shop.Partitions, -1, kind.configs, kind.topics...)
		if err != nil {
			return fmt.Errorf("create topics: %w", err)
		}
		all = append(all, kind.topics...)
		for _, t := range made.Sorted() {
			if t.Err != nil && !errors.Is(t.Err, kerr.TopicAlreadyExists) {
				return fmt.Errorf("create topic %s: %w", t.Topic, t.Err)
			}
		}
	}
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		known, err := admin.ListTopics(ctx, all...)
		if err == nil {
			err = known.Error()
		}
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.Is(err, kerr.UnknownTopicOrPartition) && !errors.Is(err, kerr.LeaderNotAvailable) {
			return fmt.Errorf("topics: %w", err)
		}
		select {
		case <-again.C:
		case <-ctx.Done():
		}
	}
}

// publisher writes the outbox's events to their topics as Avro: acks=all, idempotent, in order.
type publisher struct {
	client *kgo.Client
}

func newPublisher(opts []kgo.Opt) (*publisher, error) {
	client, err := kgo.NewClient(append(opts[:len(opts):len(opts)], kgo.RequiredAcks(kgo.AllISRAcks()), kgo.ProducerLinger(0), kgo.ClientID("shop-orders"))...)
	if err != nil {
		return nil, fmt.Errorf("outbox relay: %w", err)
	}
	return &publisher{client}, nil
}

func (p *publisher) close() { p.client.Close() }

// Publish implements orders.Publisher.
func (p *publisher) Publish(ctx context.Context, events []orders.Event) ([]bool, error) {
	acked := make([]bool, len(events))
	results := make(chan error, len(events))
	sent := 0
	var failed error
	for i, e := range events {
		value, err := encode(e)
		if err != nil {
			// What comes after it may depend on it: it waits.
			failed = fmt.Errorf("event %s for %s: %w", e.ID, e.Topic, err)
			break
		}
		sent++
		p.client.Produce(ctx, &kgo.Record{
			Topic: e.Topic, Key: []byte(e.Key), Value: value, Timestamp: e.At,
			Headers: []kgo.RecordHeader{{Key: shop.EventIDHeader, Value: []byte(e.ID)}},
		}, func(_ *kgo.Record, err error) {
			acked[i] = err == nil
			results <- err
		})
	}
	for range sent {
		failed = errors.Join(failed, <-results)
	}
	return acked, failed
}

// encode turns the JSON of the outbox into what the topic carries.
func encode(e orders.Event) ([]byte, error) {
	switch e.Topic {
	case shop.TopicOrders:
		return as(e, shop.Orders)
	case shop.TopicRestocks:
		return as(e, shop.Restocks)
	case shop.TopicProducts:
		return as(e, shop.Products)
	}
	return nil, fmt.Errorf("the outbox has an event for a topic that it does not know")
}

func as[V any](e orders.Event, t streams.Topic[string, V]) ([]byte, error) {
	var v V
	if err := json.Unmarshal(e.Payload, &v); err != nil {
		return nil, err
	}
	return t.Value.Append(make([]byte, 0, 256), serde.Place{Topic: t.Name}, v)
}
