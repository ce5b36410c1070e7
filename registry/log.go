package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// schemaLog is the `_schemas` topic: one goroutine reads it into the state, one writer at a time appends to it. A write
// is done when the log's own reader has applied it, so that whoever was answered finds what was written.
type schemaLog struct {
	client   *kgo.Client
	producer *producer
	topic    string
	state    *state
	logger   *slog.Logger
	timeout  time.Duration // of one write, until it is applied

	writer chan struct{} // holds one token: the right to decide and write
	// unsure says that a write ended without a known outcome; it belongs to the holder of the token.
	unsure bool

	cancel context.CancelFunc
	done   chan struct{} // closed when the reader has ended

	mu struct {
		sync.Mutex
		applied int64         // offset after the last applied record
		moved   chan struct{} // closed and replaced when applied moves
	}
}

// openLog connects, creates the topic where it is missing, and reads it to its end. While the brokers cannot be reached
// it retries until ctx ends, and logs what it waits for.
func openLog(ctx context.Context, c Config, st *state) (*schemaLog, error) {
	opts := append([]kgo.Opt{
		kgo.SeedBrokers(c.Brokers...),
		kgo.ClientID("leat-registry"),
		kgo.MetadataMinAge(100 * time.Millisecond),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
	}, c.ClientOpts...)
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("registry: configure the Kafka client: %w", err)
	}
	if seeds, ok := client.OptValue(kgo.SeedBrokers).([]string); ok {
		c.Brokers = seeds // ClientOpts may name others, and messages should tell the truth
	}
	// The log outlives the start: it ends with close.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &schemaLog{client: client, producer: newProducer(life, c), topic: c.Topic, state: st, logger: c.Logger, timeout: c.WriteTimeout,
		writer: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{}), unsure: true}
	l.mu.moved = make(chan struct{})
	l.writer <- struct{}{}
	if err := l.prepare(ctx, c); err != nil {
		cancel()
		client.Close()
		return nil, err
	}
	// Only now that the topic is there: to a client that asked for it before, it would be missing for a while.
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{c.Topic: {0: kgo.NewOffset().AtStart()}})
	go l.read(life)
	if err := l.catchUp(ctx); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// prepare retries ensureTopic until it succeeds, fails for good, or ctx ends.
func (l *schemaLog) prepare(ctx context.Context, c Config) error {
	return retry(ctx, func(err error, wait time.Duration) {
		l.logger.Warn("the schema registry waits for its broker", "brokers", c.Brokers, "topic", l.topic, "retry_in", wait, "err", err)
	}, func() error { return l.ensureTopic(ctx, c.Replication) })
}

// permanentError marks an error that retrying does not mend.
type permanentError struct{ error }

func (e permanentError) Unwrap() error { return e.error }

// retry calls f until it succeeds or fails for good, with a pause that grows from 100 ms to 5 s.
func retry(ctx context.Context, waiting func(error, time.Duration), f func() error) error {
	wait := 100 * time.Millisecond
	for {
		err := f()
		var permanent permanentError
		if err == nil {
			return nil
		} else if errors.As(err, &permanent) {
			return permanent.error
		}
		if ctx.Err() != nil {
			return fmt.Errorf("registry: gave up: %w; last: %w", context.Cause(ctx), err)
		}
		waiting(err, wait)
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return fmt.Errorf("registry: gave up: %w; last: %w", context.Cause(ctx), err)
		case <-timer.C:
		}
		wait = min(2*wait, 5*time.Second)
	}
}

// ensureTopic creates the topic, or checks that the one there can hold schemas: with several partitions there is no
// order, and without compaction schemas are lost after a week.
func (l *schemaLog) ensureTopic(ctx context.Context, replication int16) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	adm := kadm.NewClient(l.client)
	topics, err := adm.ListTopics(ctx, l.topic)
	if err != nil {
		return fmt.Errorf("ask for topic %s: %w", l.topic, err)
	}
	t := topics[l.topic]
	if errors.Is(t.Err, kerr.UnknownTopicOrPartition) {
		return l.createTopic(ctx, adm, replication)
	}
	if t.Err != nil {
		return fmt.Errorf("ask for topic %s: %w", l.topic, t.Err)
	}
	if n := len(t.Partitions); n != 1 {
		return permanentError{fmt.Errorf("registry: topic %s has %d partitions and must have one, or the order of its records is lost: name another topic, or recreate this one", l.topic, n)}
	}
	configs, err := adm.DescribeTopicConfigs(ctx, l.topic)
	if err != nil {
		return fmt.Errorf("ask for the configuration of topic %s: %w", l.topic, err)
	}
	for _, c := range configs {
		if c.Err != nil {
			return fmt.Errorf("ask for the configuration of topic %s: %w", l.topic, c.Err)
		}
		for _, entry := range c.Configs {
			if entry.Key == "cleanup.policy" && entry.MaybeValue() != "compact" {
				return permanentError{fmt.Errorf("registry: topic %s has cleanup.policy=%s and must have compact, or schemas are deleted with age: alter the topic's configuration", l.topic, entry.MaybeValue())}
			}
		}
	}
	return nil
}

func (l *schemaLog) createTopic(ctx context.Context, adm *kadm.Client, replication int16) error {
	if replication == 0 {
		brokers, err := adm.ListBrokers(ctx)
		if err != nil {
			return fmt.Errorf("ask for the brokers: %w", err)
		}
		replication = int16(max(1, min(3, len(brokers))))
	}
	compact := "compact"
	_, err := adm.CreateTopic(ctx, 1, replication, map[string]*string{"cleanup.policy": &compact}, l.topic)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("topic %s was just created by someone else", l.topic) // retried, and then checked
	}
	if err != nil {
		return fmt.Errorf("create topic %s: %w", l.topic, err)
	}
	l.logger.Info("created the topic of the schema registry", "topic", l.topic, "replication", replication)
	return nil
}

// read applies the log's records until it is closed. It is the log's one goroutine; close waits for it.
func (l *schemaLog) read(ctx context.Context) {
	defer close(l.done)
	for {
		fetches := l.client.PollFetches(ctx)
		if ctx.Err() != nil {
			return
		}
		failed := false
		fetches.EachError(func(topic string, partition int32, err error) {
			failed = true
			l.logger.Warn("cannot read the schema registry's topic", "topic", topic, "partition", partition, "err", err)
		})
		if failed { // what the client does not retry itself would come back at once
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
		end := int64(-1)
		fetches.EachRecord(func(r *kgo.Record) {
			l.state.apply(r.Offset, r.Key, r.Value, r.Timestamp)
			end = r.Offset + 1
		})
		if end >= 0 {
			l.mu.Lock()
			l.mu.applied = end
			close(l.mu.moved)
			l.mu.moved = make(chan struct{})
			l.mu.Unlock()
		}
	}
}

// waitApplied returns when the record at offset has been applied.
func (l *schemaLog) waitApplied(ctx context.Context, offset int64) error {
	for {
		l.mu.Lock()
		applied, moved := l.mu.applied, l.mu.moved
		l.mu.Unlock()
		if applied > offset {
			return nil
		}
		select {
		case <-moved:
		case <-l.done:
			return ErrClosed
		case <-ctx.Done():
			return fmt.Errorf("read %s up to offset %d, waiting for %d: %w", l.topic, applied, offset, context.Cause(ctx))
		}
	}
}

// lock waits for the right to write; the caller must unlock.
func (l *schemaLog) lock(ctx context.Context) error {
	select {
	case <-l.writer:
	case <-l.done:
		return ErrClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if l.unsure {
		if err := l.catchUpLocked(ctx); err != nil {
			l.unlock()
			return err
		}
	}
	return nil
}

func (l *schemaLog) unlock() { l.writer <- struct{}{} }

// catchUp reads to the end of the log as it is now.
func (l *schemaLog) catchUp(ctx context.Context) error {
	return retry(ctx, func(err error, wait time.Duration) {
		l.logger.Warn("the schema registry waits to read its topic to the end", "topic", l.topic, "retry_in", wait, "err", err)
	}, func() error {
		if err := l.lock(ctx); err != nil {
			return err
		}
		l.unlock()
		return nil
	})
}

// catchUpLocked writes a record that means nothing and waits until it has been read: everything before it, our own
// write of unknown outcome too, has been read then. Asking for the end offset instead would wait forever for an offset
// that compaction or a transaction marker has taken.
func (l *schemaLog) catchUpLocked(ctx context.Context) error {
	return l.writeLocked(ctx, record{key: noopKey()})
}

// record is one record to write; a nil value is a tombstone.
type record struct{ key, value []byte }

// writeLocked appends the records in order and waits until the last one has been applied. The caller holds the lock.
// All of them are written or none. It does not end with the caller's request: a write that was begun is waited for, up to
// the timeout.
func (l *schemaLog) writeLocked(ctx context.Context, records ...record) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.timeout)
	defer cancel()
	batch := make([]*kgo.Record, len(records))
	for i, r := range records {
		batch[i] = &kgo.Record{Topic: l.topic, Partition: 0, Key: r.key, Value: r.value}
	}
	l.unsure = true
	last, err := l.producer.write(ctx, batch)
	if err != nil {
		return fmt.Errorf("write to %s: %w", l.topic, err)
	}
	if err := l.waitApplied(ctx, last); err != nil {
		return err
	}
	l.unsure = false
	return nil
}

// close ends the reader, the writer and the client, and waits for them.
func (l *schemaLog) close() {
	l.cancel()
	<-l.done
	<-l.writer // and is not given back: the producer is the writer's until then, and nobody's after
	l.producer.close()
	l.client.Close()
}

// clusterID asks the brokers who they are.
func (l *schemaLog) clusterID(ctx context.Context) (string, error) {
	m, err := kadm.NewClient(l.client).BrokerMetadata(ctx)
	if err != nil {
		return "", fmt.Errorf("ask for the cluster's id: %w", err)
	}
	return m.Cluster, nil
}
