package broker

import (
	"fmt"
	"time"

	"github.com/leatstream/leat/broker/internal/log"
	"github.com/leatstream/leat/broker/internal/meta"
	"github.com/leatstream/leat/broker/internal/record"
)

// metaJournal keeps the metadata in a partition log.
type metaJournal struct {
	b   *Broker
	log *log.Log
}

const replayChunkBytes = 1 << 20

// Replay implements meta.Journal.
func (j *metaJournal) Replay(f func(meta.Entry) error) error {
	return replayLog(j.log, func(r *record.Record) error { return f(meta.Entry{Key: r.Key, Value: r.Value}) })
}

// Append implements meta.Journal: the entries are one batch.
func (j *metaJournal) Append(entries ...meta.Entry) error {
	now := time.Now().UnixMilli()
	records := make([]record.Record, len(entries))
	for i, e := range entries {
		records[i] = record.Record{Key: e.Key, Value: e.Value, Timestamp: now}
	}
	at, err := j.log.Append(record.Build(record.NoProducer(), records), log.AppendOptions{Origin: log.FromCoordinator})
	if err != nil {
		return fmt.Errorf("write metadata: %w", err)
	}
	// Not the connection's context: whether the change happened must not depend on the client staying.
	if err := j.log.WaitSynced(j.b.ctx, at.LastOffset+1); err != nil {
		return fmt.Errorf("sync metadata: %w", err)
	}
	return nil
}

// replayLog calls f for every record of a log that nobody writes to yet. The record is f's during the call only.
func replayLog(l *log.Log, f func(*record.Record) error) error {
	var d record.Decompressor
	var it record.Iterator
	buf := make([]byte, 0, replayChunkBytes)
	bounds := l.Bounds()
	for next := bounds.LogStart; next < bounds.End; {
		res, err := l.Read(log.ReadOptions{From: next, MaxBytes: replayChunkBytes, MinOne: true, Buf: buf})
		if err != nil {
			return err
		}
		if len(res.Batches) == 0 {
			return fmt.Errorf("no batch at offset %d, although the log ends at %d", next, bounds.End)
		}
		for rest := res.Batches; len(rest) > 0; {
			batch, err := record.Parse(rest)
			if err != nil {
				return err
			}
			rest = rest[len(batch):]
			it.Reset(batch, &d)
			for it.Next() {
				if err := f(it.Record()); err != nil {
					return err
				}
			}
			if it.Err() != nil {
				return it.Err()
			}
			next = batch.LastOffset() + 1
		}
	}
	return nil
}
