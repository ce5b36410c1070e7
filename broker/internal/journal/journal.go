package journal

import (
	"context"
	"fmt"
	"time"

	"github.com/leatstream/leat/broker/internal/log"
	"github.com/leatstream/leat/broker/internal/record"
)

// Journal is one partition log as a coordinator's memory. It is safe for concurrent use; the log stays its owner's, who closes
// it after the coordinator has stopped.
type Journal struct {
	log *log.Log
}

// New makes a journal of a log.
func New(l *log.Log) *Journal { return &Journal{log: l} }

// Append appends the entries as one batch and returns the offset after it, without waiting for the disk. Errors are those of
// log.Append.
func (j *Journal) Append(entries []Entry) (end int64, err error) {
	at, err := j.log.Append(build(record.NoProducer(), entries), log.AppendOptions{Origin: log.FromCoordinator})
	if err != nil {
		return 0, err
	}
	return at.LastOffset + 1, nil
}

// AppendTxn is Append inside of a producer's transaction; the batch has no sequence. verify runs under the log's lock: no marker
// comes between it and the append.
func (j *Journal) AppendTxn(p Producer, entries []Entry, verify func() error) (end int64, err error) {
	info := record.NoProducer()
	info.Transactional, info.ProducerID, info.ProducerEpoch = true, p.ID, p.Epoch
	at, err := j.log.AppendTxn(build(info, entries), log.AppendOptions{Origin: log.FromCoordinator}, verify)
	if err != nil {
		return 0, err
	}
	return at.LastOffset + 1, nil
}

func build(info record.BatchInfo, entries []Entry) []byte {
	now := time.Now().UnixMilli()
	records := make([]record.Record, len(entries))
	for i, e := range entries {
		records[i] = record.Record{Key: e.Key, Value: e.Value, Timestamp: now}
	}
	return record.Build(info, records)
}

// WaitSynced waits until everything below end is as durable as the broker promises. Errors are those of log.WaitSynced.
func (j *Journal) WaitSynced(ctx context.Context, end int64) error {
	return j.log.WaitSynced(ctx, end)
}

const chunkBytes = 1 << 20

// Replay calls v for everything in the log, in order. It stops at the first error, v's or the log's.
func (j *Journal) Replay(v Visitor) error {
	var d record.Decompressor
	var it record.Iterator
	buf := make([]byte, 0, chunkBytes)
	bounds := j.log.Bounds()
	for next := bounds.LogStart; next < bounds.End; {
		res, err := j.log.Read(log.ReadOptions{From: next, MaxBytes: chunkBytes, MinOne: true, Buf: buf})
		if err != nil {
			return err
		}
		if len(res.Batches) == 0 {
			return fmt.Errorf("no batch at offset %d, although the log ends at %d", next, bounds.End)
		}
		for rest := res.Batches; len(rest) > 0; {
			batch, err := record.Parse(rest)
			if err != nil {
				return fmt.Errorf("batch at offset %d: %w", next, err)
			}
			rest = rest[len(batch):]
			if err := visit(batch, &it, &d, v); err != nil {
				return err
			}
			next = batch.LastOffset() + 1
		}
	}
	return nil
}

func visit(batch record.Batch, it *record.Iterator, d *record.Decompressor, v Visitor) error {
	if batch.Control() {
		m, known, err := record.ParseMarker(batch)
		if err != nil {
			return fmt.Errorf("marker at offset %d: %w", batch.BaseOffset(), err)
		}
		if !known || v.Marker == nil {
			return nil
		}
		return v.Marker(batch.ProducerID(), m.Commit)
	}
	if v.Record == nil {
		return nil
	}
	producerID := int64(-1)
	if batch.Transactional() {
		producerID = batch.ProducerID()
	}
	it.Reset(batch, d)
	for it.Next() {
		r := it.Record()
		if err := v.Record(producerID, r.Offset, r.Key, r.Value); err != nil {
			return err
		}
	}
	return it.Err()
}
