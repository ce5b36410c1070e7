package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/session"
)

// replay is one store on its way from next to end of its changelog. It asks the log for exactly the offset that it needs
// next, so every answer is about that offset: what came out of it cannot belong to another replay, and an answer without
// records says that there are none.
type replay struct {
	store *taskStore
	task  string
	at    tp
	next  int64 // below it everything was read
	end   int64

	of *progress // the task's

	// since is the age of what the store has: a delete that was written later is still in the log. It is that of the position
	// that the replay began from, until it has reached the end, which was asked for at asked.
	since, asked time.Time
}

// chunk is a part of a replay on its way into the shard.
type chunk struct {
	recs []state.Restored
	next int64 // where they bring the shard to
}

const (
	chunkRecords = 512 << 10 // large chunks are written as sorted tables, and the larger the fewer of them overlap
	chunkBytes   = 32 << 20
	fetchBytes   = 8 << 20
)

// replay reads and writes side by side until the store is there. When it returns, nothing is written any more.
func (r *restorer) replay(ctx context.Context, rp *replay) error {
	select {
	case r.slots <- struct{}{}:
		defer func() { <-r.slots }()
	case <-ctx.Done():
		return ctx.Err()
	}
	began, count := time.Now(), 0
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	chunks, free, wrote := make(chan chunk), make(chan []state.Restored, 1), make(chan error, 1)
	go func() {
		var err error
		for c := range chunks {
			if err == nil && ctx.Err() == nil {
				if err = r.write(rp, c); err != nil {
					cancel() // nothing more needs to be read
				}
				count += len(c.recs)
			}
			clear(c.recs)
			select {
			case free <- c.recs[:0]:
			default:
			}
		}
		wrote <- err
	}()
	err := r.read(ctx, rp, chunks, free)
	close(chunks)
	err = cmp.Or(<-wrote, err)
	switch {
	case errors.Is(err, kerr.OffsetOutOfRange):
		r.cfg.Logger.Warn("store is rebuilt from its changelog: the log was cut while it was read", "task", rp.task, "changelog", rp.at.String())
		return cmp.Or(rp.store.store.Shard().Wipe(), err)
	case err != nil:
		return err
	}
	r.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "restored", slog.String("task", rp.task), slog.String("store", rp.store.store.Name()),
		slog.Int("records", count), slog.Duration("took", time.Since(began).Round(time.Millisecond)))
	return nil
}

// write puts a chunk into its shard.
func (r *restorer) write(rp *replay, c chunk) error {
	s := rp.store
	rp.of.read(c.next-s.next, c.recs)
	s.next = c.next
	r.replayed.Add(int64(len(c.recs)))
	at := rp.since
	if c.next >= rp.end {
		at = rp.asked
	}
	return s.store.Shard().Restore(c.recs, state.Position{TopicID: s.topicID, Offset: c.next, At: at})
}

// read hands over all records up to the end, in chunks.
func (r *restorer) read(ctx context.Context, rp *replay, chunks chan<- chunk, free <-chan []state.Restored) error {
	var recs []state.Restored
	bytes := 0
	for rp.next < rp.end {
		got, next, err := r.fetch(ctx, rp)
		if err != nil {
			return err
		}
		for _, rec := range got {
			if rec.Offset >= rp.end {
				break // of a source topic, it has not been processed
			}
			if rec.Key == nil {
				continue
			}
			if ok, err := r.admit(ctx, rp, rec); err != nil {
				return err
			} else if !ok {
				continue
			}
			recs = append(recs, state.Restored{Key: rec.Key, Value: rec.Value, Time: rec.Timestamp.UnixMilli()})
			bytes += len(rec.Key) + len(rec.Value)
		}
		rp.next = min(next, rp.end)
		if rp.next < rp.end && len(recs) < chunkRecords && bytes < chunkBytes {
			continue
		}
		select {
		case chunks <- chunk{recs: recs, next: rp.next}:
		case <-ctx.Done():
			return ctx.Err()
		}
		recs, bytes = nil, 0
		select {
		case recs = <-free:
		default:
		}
	}
	return nil
}

// admit reports whether a record goes into the store: what the store cannot read is for the error policy, as it is when
// records are processed.
func (r *restorer) admit(ctx context.Context, rp *replay, rec *kgo.Record) (bool, error) {
	sh, check := rp.store.store.Shard(), rp.store.check
	if check == nil && sh.CheckKey(rec.Key) == nil {
		return true, nil
	}
	re := &engine.RecordError{Node: rp.store.store.Name(), Task: rp.task, Phase: engine.Decoding, Store: rp.store.store.Name(),
		Topic: rp.at.topic, Partition: rp.at.p, Offset: rec.Offset, Key: rec.Key, Value: rec.Value}
	return engine.Admit(ctx, r.cfg.OnError, r.cfg.Logger, func(d time.Duration) error { return sleep(ctx, d) }, re, func() error {
		if err := sh.CheckKey(rec.Key); err != nil || check == nil {
			return err
		}
		return check(rec)
	})
}

// fetch returns committed records from rp.next on, and the offset up to which these are all there are, which is higher.
// It waits for brokers that are away and for transactions that are open.
func (r *restorer) fetch(ctx context.Context, rp *replay) (recs []*kgo.Record, next int64, err error) {
	const firstWait, lastWait, say = 5 * time.Millisecond, 200 * time.Millisecond, 10 * time.Second
	wait, said := firstWait, time.Now()
	for {
		var stable int64
		err := session.Retry(ctx, r.cfg.Logger, "changelog "+rp.at.String(), func() (err error) {
			if recs, next, stable, err = r.ask(ctx, rp); err != nil && ctx.Err() == nil {
				err = errors.Join(err, r.topics.load(ctx, rp.at.topic)) // another broker may lead it now
			}
			return err
		})
		// Without records, what lies below the last stable offset is gone: the cleaner took it, or it was aborted.
		if next = max(next, stable); err != nil || next > rp.next {
			return recs, next, err
		}
		if time.Since(said) > say {
			said = time.Now()
			r.cfg.Logger.Warn("restore waits for an open transaction on the changelog; it ends by itself within its timeout",
				"changelog", rp.at.String(), "stable_to", stable, "needed", rp.end)
		}
		if err := sleep(ctx, wait); err != nil {
			return nil, 0, err
		}
		wait = min(2*wait, lastWait)
	}
}

// ask makes one request. next is the offset after the last batch of the answer, whatever the batch has left; it is rp.next
// if there is none. stable is the log's last stable offset if so, else 0.
func (r *restorer) ask(ctx context.Context, rp *replay) (recs []*kgo.Record, next, stable int64, err error) {
	info, _ := r.topics.get(rp.at.topic)
	lead, ok := info.leaders[rp.at.p]
	switch {
	case !ok || lead.broker < 0:
		return nil, 0, 0, kerr.LeaderNotAvailable
	case info.id != rp.store.topicID:
		return nil, 0, 0, &session.Error{Op: "read changelog " + rp.at.String(), Err: errors.New("the topic was deleted and created again")}
	}
	resp, err := r.topics.cl.Broker(int(lead.broker)).Request(ctx, fetchRequest(rp, info.id, lead.epoch))
	if err != nil {
		return nil, 0, 0, err
	}
	p, err := onlyPartition(resp.(*kmsg.FetchResponse), rp.at.p)
	if err != nil {
		return nil, 0, 0, err
	}
	opts := kgo.ProcessFetchPartitionOpts{Topic: rp.at.topic, Partition: rp.at.p, Offset: rp.next, IsolationLevel: kgo.ReadCommitted()}
	got, next := kgo.ProcessFetchPartition(opts, p, kgo.DefaultDecompressor(), nil)
	switch {
	case next > rp.next: // what it has read is good, even if what comes behind is not
		return got.Records, next, 0, nil
	case got.Err != nil:
		return nil, 0, 0, got.Err
	case len(p.RecordBatches) > 0:
		return nil, 0, 0, fmt.Errorf("the answer holds %d bytes and no whole batch", len(p.RecordBatches))
	}
	return nil, next, p.LastStableOffset, nil
}

// namedFetch keeps to topic names, for brokers that give no topic ids.
type namedFetch struct{ *kmsg.FetchRequest }

func (namedFetch) MaxVersion() int16 { return 12 }

func fetchRequest(rp *replay, id [16]byte, epoch int32) kmsg.Request {
	req := kmsg.NewPtrFetchRequest()
	req.ReplicaID, req.MinBytes, req.MaxBytes, req.IsolationLevel = -1, 1, fetchBytes, 1
	p := kmsg.NewFetchRequestTopicPartition()
	p.Partition, p.CurrentLeaderEpoch, p.FetchOffset, p.LastFetchedEpoch, p.PartitionMaxBytes = rp.at.p, epoch, rp.next, -1, fetchBytes
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = rp.at.topic, id
	t.Partitions = append(t.Partitions, p)
	req.Topics = append(req.Topics, t)
	if id == [16]byte{} {
		return namedFetch{req}
	}
	return req
}

// onlyPartition finds the partition that was asked for. A broker that throttles answers without it.
func onlyPartition(resp *kmsg.FetchResponse, partition int32) (*kmsg.FetchResponseTopicPartition, error) {
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			if p := &resp.Topics[i].Partitions[j]; p.Partition == partition {
				return p, kerr.ErrorForCode(p.ErrorCode)
			}
		}
	}
	return nil, errors.New("the answer leaves the partition out")
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
