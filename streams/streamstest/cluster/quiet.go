package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/registry"
)

// quiet waits until everything that was sent is processed and committed: the group stands at the end of each topic that the
// application reads, markers included, and the ends stay where they are.
func (w *world) quiet(admin *kadm.Client) error {
	sources, err := w.sources()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(w.ctx, healedAfter)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	behind := errors.New("the broker was never asked")
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("the application does not get to the end of its input: %w", behind)
		case <-tick.C:
		}
		if err := w.failure(); err != nil {
			return err
		}
		if behind = w.behind(ctx, admin, sources); behind == nil {
			w.trace.note("everything is processed")
			return nil
		}
	}
}

// sources are the topics that the application reads as a group.
func (w *world) sources() ([]string, error) {
	t, err := w.s.build(new(registry.Client))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, sub := range t.Engine().Subs {
		for _, src := range sub.Sources {
			for _, topic := range src.Topics {
				if !sub.Global {
					names = append(names, topic.In(appID))
				}
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// behind says what is not processed, nil if everything is.
func (w *world) behind(ctx context.Context, admin *kadm.Client, sources []string) error {
	w.mu.Lock()
	open := w.mu.open
	w.mu.Unlock()
	if open > 0 {
		return fmt.Errorf("%d records of the input are not acknowledged", open)
	}
	before, err := ends(ctx, admin, sources)
	if err != nil {
		return err
	}
	committed, err := admin.FetchOffsets(ctx, appID)
	if err != nil {
		return err
	}
	for _, o := range before.Offsets().Sorted() {
		at := int64(0)
		if c, ok := committed.Lookup(o.Topic, o.Partition); ok {
			at = c.At
		}
		if at != o.At {
			return fmt.Errorf("%s/%d is committed to %d, and ends at %d", o.Topic, o.Partition, at, o.At)
		}
	}
	after, err := ends(ctx, admin, sources)
	if err != nil {
		return err
	}
	for _, o := range before.Offsets().Sorted() {
		if e, _ := after.Lookup(o.Topic, o.Partition); e.Offset != o.At {
			return fmt.Errorf("%s/%d is being written", o.Topic, o.Partition)
		}
	}
	return nil
}

func ends(ctx context.Context, admin *kadm.Client, topics []string) (kadm.ListedOffsets, error) {
	l, err := admin.ListEndOffsets(ctx, topics...)
	return l, errors.Join(err, l.Error())
}

// readAll reads what every topic holds, committed records alone, in the order of partitions and offsets.
func (w *world) readAll(admin *kadm.Client) error {
	ctx, cancel := context.WithTimeout(w.ctx, healedAfter)
	defer cancel()
	all, err := admin.ListTopics(ctx)
	if err != nil {
		return err
	}
	w.logs = map[string][]*kgo.Record{}
	for _, name := range all.Names() {
		if strings.HasPrefix(name, "__") {
			continue
		}
		if w.logs[name], err = w.read(ctx, admin, name); err != nil {
			return fmt.Errorf("read %s: %w", name, err)
		}
	}
	return nil
}

func (w *world) read(ctx context.Context, admin *kadm.Client, topic string) ([]*kgo.Record, error) {
	high, err := ends(ctx, admin, []string{topic})
	if err != nil {
		return nil, err
	}
	left := map[int32]int64{}
	high.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err = errors.Join(err, starts.Error()); err != nil {
		return nil, err
	}
	starts.Each(func(o kadm.ListedOffset) {
		if left[o.Partition] == o.Offset {
			delete(left, o.Partition)
		}
	})
	cl, err := kgo.NewClient(kgo.SeedBrokers("leat.invalid:9092"), kgo.Dialer(w.own.dial), kgo.ConsumeTopics(topic), kgo.KeepControlRecords(),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	var out []*kgo.Record
	for len(left) > 0 {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("a transaction stays open: partitions %v are not readable to their ends", left)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if r.Offset+1 >= left[r.Partition] {
				delete(left, r.Partition)
			}
			if !r.Attrs.IsControl() {
				out = append(out, r)
			}
		})
	}
	slices.SortStableFunc(out, func(a, b *kgo.Record) int {
		if a.Partition != b.Partition {
			return int(a.Partition - b.Partition)
		}
		return int(a.Offset - b.Offset)
	})
	return out, nil
}
