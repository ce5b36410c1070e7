// Package consume is the plain, at-least-once consumer that the order service and the e-mail service share: it reads
// the decisions in a group, hands them over, and commits what was handled. Whoever handles them recognises a decision
// that comes again.
package consume

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/examples/ordersPipeline/shop"
	"github.com/leatstream/leat/serde"
)

// Decisions is a consumer of the topic "order-decisions".
type Decisions struct {
	Opts  []kgo.Opt // how to reach the cluster
	Group string
	// Instance makes this a static member of the group: a process that was killed is back at once under the same
	// instance id, instead of after its predecessor's session has timed out. It must be unique within the group.
	Instance string
	// Max is how many decisions are handed over at once; after each handful the offsets are committed.
	Max    int
	Handle func(ctx context.Context, ds []shop.Decision) error
	Logger *slog.Logger
}

// Run consumes until ctx is done, and returns nil then. What Handle refuses is handed over again, with back-off.
func (c *Decisions) Run(ctx context.Context) error {
	client, err := kgo.NewClient(append(c.Opts[:len(c.Opts):len(c.Opts)],
		kgo.ConsumeTopics(shop.TopicDecisions), kgo.ConsumerGroup(c.Group), kgo.InstanceID(c.Instance),
		kgo.SessionTimeout(10*time.Second), kgo.HeartbeatInterval(time.Second), kgo.RebalanceTimeout(10*time.Second),
		kgo.DisableAutoCommit(), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		// Transaction markers are consumed, too: without them the position would stay before the last marker, and the
		// lag of an idle group at one per partition.
		kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchMaxWait(500*time.Millisecond),
		kgo.ClientID(c.Group))...)
	if err != nil {
		return fmt.Errorf("%s: %w", c.Group, err)
	}
	defer client.Close()
	for {
		fetches := client.PollRecords(ctx, max(1, c.Max))
		if ctx.Err() != nil {
			return nil
		}
		fetches.EachError(func(topic string, partition int32, err error) {
			c.Logger.Warn("fetch failed: will retry", "group", c.Group, "topic", topic, "partition", partition, "err", err)
		})
		records := fetches.Records()
		if len(records) == 0 {
			continue
		}
		if err := c.handle(ctx, client, records); err != nil {
			return nil // ctx is done
		}
	}
}

// handle hands records over and commits them; its error is ctx's.
func (c *Decisions) handle(ctx context.Context, client *kgo.Client, records []*kgo.Record) error {
	ds := make([]shop.Decision, 0, len(records))
	for _, r := range records {
		if r.Attrs.IsControl() {
			continue
		}
		var d shop.Decision
		err := retry(ctx, c.Logger, c.Group+": decode", func() (err error) {
			d, err = decode(r)
			if errors.Is(err, serde.ErrUnavailable) {
				return err // the registry is away: wait for it
			}
			return nil
		})
		if err != nil {
			return err
		}
		if d.OrderID == "" {
			c.Logger.Error("undecodable decision passed over", "group", c.Group, "partition", r.Partition, "offset", r.Offset)
			continue
		}
		ds = append(ds, d)
	}
	if len(ds) > 0 {
		if err := retry(ctx, c.Logger, c.Group, func() error { return c.Handle(ctx, ds) }); err != nil {
			return err
		}
	}
	commit, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := client.CommitRecords(commit, records...); err != nil {
		c.Logger.Warn("commit failed: some decisions will come again", "group", c.Group, "err", err)
	}
	return ctx.Err()
}

// decode reads a record. The zero decision with a nil or final error stands for one that is no decision.
func decode(r *kgo.Record) (shop.Decision, error) {
	if r.Value == nil {
		return shop.Decision{}, nil
	}
	return shop.Decisions.Value.Decode(serde.Place{Topic: r.Topic}, r.Value)
}

// retry calls f until it succeeds, with back-off, or ctx is done.
func retry(ctx context.Context, logger *slog.Logger, what string, f func() error) error {
	var wait time.Duration
	for {
		err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		wait = min(max(2*wait, 100*time.Millisecond), 5*time.Second)
		logger.Warn("will retry", "what", what, "err", err, "in", wait)
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}
