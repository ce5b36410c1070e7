package log

import (
	"errors"
	"math"
	"time"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Append adds one batch, which it changes in place: offsets, leader epoch and, under LogAppendTime, times and CRC. The
// bytes are not kept. A batch that an idempotent producer sent before is not added again; its place of the first time
// is returned, with Duplicate set. When Append returns, the batch is written, not yet synced: see WaitSynced.
//
// Errors wrap a *kerr.Error: CorruptMessage, InvalidRecord (maybe as *InvalidRecordsError), MessageTooLarge,
// RecordListTooLarge, UnsupportedCompressionType, InvalidTimestamp, InvalidProducerEpoch, OutOfOrderSequenceNumber,
// InvalidTxnState, KafkaStorageError; NotLeaderForPartition with ErrClosed, UnknownTopicOrPartition with ErrDeleted.
func (l *Log) Append(batch []byte, o AppendOptions) (Appended, error) {
	return l.append(batch, o, nil)
}

// AppendTxn is Append for a batch of a transaction. Unless the partition already holds records of that transaction, or
// the batch is a duplicate or refused for its own sake, verify is called under the partition's lock, so that no marker
// can get between its answer and the append; its error refuses the batch. verify must be quick and must not wait for
// anything that appends to this log.
func (l *Log) AppendTxn(batch []byte, o AppendOptions, verify func() error) (Appended, error) {
	return l.append(batch, o, verify)
}

func (l *Log) append(batch []byte, o AppendOptions, verify func() error) (Appended, error) {
	cfg := l.cfg.Load()
	now := nowMillis(o.Now)
	b := record.Batch(batch)
	err := l.validate(b, cfg, o, now)
	if err == nil && cfg.Recode && o.Origin == FromClient && b.Codec() != cfg.Codec {
		b, err = l.recode(b, cfg)
	}
	if err != nil {
		return Appended{AppendTime: -1, BaseOffset: -1, LastOffset: -1, LogStart: l.start.Load()}, err
	}
	l.mu.Lock()
	res, moved, err := l.appendLocked(b, cfg, now, verify)
	rolled := len(l.mu.rolled) > 0
	added := err == nil && !res.Duplicate
	if added {
		l.mu.asked = l.end.Load()
	}
	l.mu.Unlock()
	if added {
		l.afterAppend(cfg, moved, rolled)
	}
	return res, err
}

// afterAppend starts what an append makes necessary, without the lock.
func (l *Log) afterAppend(cfg *Config, moved, rolled bool) {
	if moved {
		l.watch.wake()
	}
	if cfg.Flush == FlushAlways || rolled {
		l.syncer.dirty(l)
	}
}

// appendLocked checks b against the producer's state and writes it. moved says that a bound for readers moved.
func (l *Log) appendLocked(b record.Batch, cfg *Config, now int64, verify func() error) (res Appended, moved bool, err error) {
	res = Appended{AppendTime: -1, BaseOffset: -1, LastOffset: -1, LogStart: l.start.Load()}
	if err := l.usableLocked(); err != nil {
		return res, false, err
	}
	ps := l.mu.producers
	if b.ProducerID() >= 0 {
		dup, err := ps.check(b, l.end.Load() == 0)
		if err != nil {
			return res, false, err
		}
		if dup != nil {
			res.BaseOffset, res.LastOffset, res.Duplicate = dup.lastOffset-int64(dup.delta), dup.lastOffset, true
			if cfg.LogAppendTime {
				res.AppendTime = dup.ts
			}
			return res, false, nil
		}
		if verify != nil && !ps.inTxn(b) {
			if err := verify(); err != nil {
				return res, false, err
			}
		}
		if !ps.hasRoom(b.ProducerID(), cfg.MaxProducers) {
			return res, false, refuse(kerr.PolicyViolation, "all of the %d producers that the partition remembers have transactions open", cfg.MaxProducers)
		}
	}
	end := l.end.Load()
	b.SetBaseOffset(end)
	b.SetLeaderEpoch(l.epoch.Load())
	if cfg.LogAppendTime {
		b.SetLogAppendTime(now)
		res.AppendTime = now
	}
	if err := l.writeLocked(b, cfg, now); err != nil {
		return res, false, err
	}
	ps.append(b, now)
	res.BaseOffset, res.LastOffset = end, b.LastOffset()
	l.end.Store(res.LastOffset + 1)
	return res, l.publishLocked(), nil
}

// writeLocked puts a batch with its final header at the end of the log, into a new segment if that is due.
func (l *Log) writeLocked(b record.Batch, cfg *Config, now int64) error {
	if l.rollDueLocked(b, cfg) {
		if err := l.rollLocked(cfg, now); err != nil {
			return l.writeFailedLocked("start a segment", err)
		}
	}
	s := l.mu.active
	if err := s.write(b); err != nil {
		return l.writeFailedLocked("write "+s.name, err)
	}
	s.note(b, s.size.Load(), cfg.IndexIntervalBytes)
	return nil
}

// writeFailedLocked makes the error of a write and poisons the log unless the disk is merely full.
func (l *Log) writeFailedLocked(op string, err error) error {
	name := l.cfg.Load().Name
	if vfs.IsFull(err) {
		return storageError(name, op+" (free some space; appends work again then)", err)
	}
	l.poisonLocked(op, err)
	return storageError(name, op, err)
}

// poisonLocked stops the log: see Log.
func (l *Log) poisonLocked(op string, err error) {
	if l.mu.failed != nil {
		return
	}
	l.mu.failed = err
	cfg := l.cfg.Load()
	if op == opSync {
		noteLostSync(l.fsys, l.dir)
	}
	cfg.Logger.Error("partition stopped: the disk failed; restart the broker after checking it",
		"partition", cfg.Name, "operation", op, "error", err)
	l.failWaitsLocked(storageError(cfg.Name, op, err))
}

func (l *Log) rollDueLocked(b record.Batch, cfg *Config) bool {
	s := l.mu.active
	size := s.size.Load()
	if size == 0 {
		return false
	}
	age := cfg.SegmentAge.Milliseconds()
	return size+int64(len(b)) > cfg.SegmentBytes ||
		b.LastOffset()-s.base > math.MaxInt32 ||
		s.firstTS >= 0 && b.MaxTimestamp() >= 0 && b.MaxTimestamp()-s.firstTS > age
}

// rollLocked closes the active segment for appends and starts a new one at the end of the log. The old one is synced
// and sealed in the background.
func (l *Log) rollLocked(cfg *Config, now int64) error {
	old, end := l.mu.active, l.end.Load()
	if l.mu.dirsDirty {
		// The first segment's own entry must not be lost while the second's survives: the log would seem to begin there.
		for _, dir := range l.takeDirsLocked() {
			if err := l.fsys.SyncDir(dir); err != nil {
				return err
			}
		}
	}
	next, err := createSegment(l.fsys, l.dir, end)
	if err != nil {
		return err
	}
	l.mu.dirDirty = true
	if old.alloc > old.size.Load() {
		if err := old.mu.file.Truncate(old.size.Load()); err != nil {
			return errors.Join(err, next.drop())
		}
		old.alloc = old.size.Load()
	}
	l.mu.producers.expire(now - cfg.ProducerExpiry.Milliseconds())
	old.snapshot = l.mu.producers.encode()
	l.mu.rolled = append(l.mu.rolled, old)
	l.mu.active = next
	segs := *l.view.Load()
	segs = append(segs[:len(segs):len(segs)], next)
	l.view.Store(&segs)
	return nil
}

// AppendMarker ends the transaction of a producer in this partition and returns the marker's offset; wait for offset+1.
// It may be repeated: where no transaction is open the marker is written all the same and changes nothing but the
// epochs. Errors: InvalidProducerEpoch, TransactionCoordinatorFenced, KafkaStorageError, ErrClosed, ErrDeleted.
func (l *Log) AppendMarker(producerID int64, epoch int16, commit bool, coordinatorEpoch int32) (offset int64, err error) {
	offset, err = l.AppendMarkerLazily(producerID, epoch, commit, coordinatorEpoch)
	if err == nil {
		l.Hasten(offset + 1)
	}
	return offset, err
}

// AppendMarkerLazily is AppendMarker, but the marker is not on its way to the disk yet: it goes with the next append, or when
// Hasten says so. Until then no reader sees it.
func (l *Log) AppendMarkerLazily(producerID int64, epoch int16, commit bool, coordinatorEpoch int32) (offset int64, err error) {
	cfg := l.cfg.Load()
	now := nowMillis(time.Time{})
	b := record.ControlMarker(producerID, epoch, commit, coordinatorEpoch, now)
	m := record.Marker{Commit: commit, CoordinatorEpoch: coordinatorEpoch}
	l.mu.Lock()
	offset, moved, err := l.appendMarkerLocked(b, m, cfg, now)
	l.mu.Unlock()
	if moved {
		l.watch.wake()
	}
	return offset, err
}

// Hasten sends everything below offset on its way to the disk if it is not there, nor under way. WaitSynced waits for it.
func (l *Log) Hasten(offset int64) {
	l.mu.Lock()
	ask := offset > l.mu.asked
	if ask {
		l.mu.asked = l.end.Load()
	}
	rolled := len(l.mu.rolled) > 0
	l.mu.Unlock()
	if ask {
		l.afterAppend(l.cfg.Load(), false, rolled)
	}
}

func (l *Log) appendMarkerLocked(b record.Batch, m record.Marker, cfg *Config, now int64) (int64, bool, error) {
	if err := l.usableLocked(); err != nil {
		return -1, false, err
	}
	ps := l.mu.producers
	if err := ps.checkMarker(b.ProducerID(), b.ProducerEpoch(), m.CoordinatorEpoch); err != nil {
		return -1, false, err
	}
	offset := l.end.Load()
	b.SetBaseOffset(offset)
	b.SetLeaderEpoch(l.epoch.Load())
	if err := l.writeLocked(b, cfg, now); err != nil {
		return -1, false, err
	}
	if t, ended := ps.marker(b, m, now); ended {
		l.mu.decided = append(l.mu.decided, t)
		if !m.Commit {
			l.mu.active.aborted.add(abortedEntry{t, ps.firstOpen(offset + 1)})
		}
	}
	l.end.Store(offset + 1)
	return offset, l.publishLocked(), nil
}

// validate checks all of a batch that does not depend on the state of the log.
func (l *Log) validate(b record.Batch, cfg *Config, o AppendOptions, now int64) error {
	if len(b) < record.HeaderBytes {
		return refuse(kerr.CorruptMessage, "%d bytes are less than a batch header", len(b))
	}
	if b.Magic() != 2 {
		return refuse(kerr.InvalidRecord, "record format v%d, want v2", b.Magic())
	}
	if n, err := record.Size(b); err != nil || n > len(b) {
		return refuse(kerr.CorruptMessage, "the batch says it has %d bytes, %d came", n, len(b))
	} else if n < len(b) {
		return refuse(kerr.InvalidRecord, "more than one batch for a partition")
	}
	// Not for the broker's own: somebody who lets clients write little must be able to say otherwise later, which is a record, too.
	if o.Origin == FromClient && len(b) > cfg.MaxBatchBytes {
		return refuse(kerr.MessageTooLarge, "batch of %d bytes; the limit (max.message.bytes) is %d", len(b), cfg.MaxBatchBytes)
	}
	if int64(len(b)) > cfg.SegmentBytes {
		return refuse(kerr.RecordListTooLarge, "batch of %d bytes; a segment (segment.bytes) has %d", len(b), cfg.SegmentBytes)
	}
	if b.Count() <= 0 || int64(b.Count()) != int64(b.LastOffsetDelta())+1 {
		return refuse(kerr.InvalidRecord, "%d records at %d offsets", b.Count(), int64(b.LastOffsetDelta())+1)
	}
	if o.Origin != FromClient {
		return nil
	}
	return l.validateClient(b, cfg, o, now)
}

func (l *Log) validateClient(b record.Batch, cfg *Config, o AppendOptions, now int64) error {
	switch {
	case b.Control():
		return refuse(kerr.InvalidRecord, "clients may not write control records")
	case b.Attributes()&record.AttrDeleteHorizon != 0:
		return refuse(kerr.InvalidRecord, "clients may not set a delete horizon")
	case b.BaseOffset() != 0:
		return refuse(kerr.InvalidRecord, "base offset is %d, want 0", b.BaseOffset())
	case b.Codec() > record.Zstd:
		return refuse(kerr.UnsupportedCompressionType, "codec %d", b.Codec())
	case b.Codec() == record.Zstd && o.ProduceVersion != 0 && o.ProduceVersion < 7:
		return refuse(kerr.UnsupportedCompressionType, "zstd needs produce version 7, this is %d", o.ProduceVersion)
	case b.ProducerID() >= 0 && (b.BaseSequence() < 0 || b.ProducerEpoch() < 0):
		return refuse(kerr.InvalidRecord, "producer %d with sequence %d, epoch %d", b.ProducerID(), b.BaseSequence(), b.ProducerEpoch())
	case b.Transactional() && b.ProducerID() < 0:
		return refuse(kerr.InvalidRecord, "transactional batch without a producer id")
	}
	if !cfg.LogAppendTime {
		ts := b.MaxTimestamp()
		if b.LogAppendTime() {
			return refuse(kerr.InvalidTimestamp, "the batch claims log append time, the topic has create time")
		}
		if ahead := cfg.MaxTimestampAhead; ahead >= 0 && ts > now+ahead.Milliseconds() {
			return refuse(kerr.InvalidTimestamp, "timestamp %d is more than %s ahead of the broker's %d (message.timestamp.after.max.ms)", ts, ahead, now)
		}
		if behind := cfg.MaxTimestampBehind; behind > 0 && ts >= 0 && ts < now-behind.Milliseconds() {
			return refuse(kerr.InvalidTimestamp, "timestamp %d is more than %s behind the broker's %d (message.timestamp.before.max.ms)", ts, behind, now)
		}
	}
	if err := b.CheckCRC(); err != nil {
		return refuse(kerr.CorruptMessage, "%v", err)
	}
	if cfg.Compact || cfg.CheckRecord != nil {
		return l.validateRecords(b, cfg)
	}
	return nil
}

// recode makes of a client's batch one in the codec of the log.
func (l *Log) recode(b record.Batch, cfg *Config) (record.Batch, error) {
	r, ok := l.recoders.Get().(*record.Rebuilder)
	if !ok {
		r = new(record.Rebuilder)
	}
	defer l.recoders.Put(r)
	out, err := r.Recode(b, cfg.Codec, &l.dec)
	switch {
	case errors.Is(err, record.ErrTooLarge):
		return nil, refuse(kerr.MessageTooLarge, "%v", err)
	case err != nil:
		return nil, refuse(kerr.CorruptMessage, "%v", err)
	case len(out) > cfg.MaxBatchBytes:
		return nil, refuse(kerr.MessageTooLarge, "batch of %d bytes in the topic's codec (compression.type); the limit (max.message.bytes) is %d", len(out), cfg.MaxBatchBytes)
	case int64(len(out)) > cfg.SegmentBytes:
		return nil, refuse(kerr.RecordListTooLarge, "batch of %d bytes in the topic's codec (compression.type); a segment (segment.bytes) has %d", len(out), cfg.SegmentBytes)
	}
	return out, nil
}

// validateRecords refuses, on a compacted topic, records without a key, which compaction could not tell apart, and what
// CheckRecord does not let pass.
func (l *Log) validateRecords(b record.Batch, cfg *Config) error {
	var bad InvalidRecordsError
	it := record.NewIterator(b, &l.dec)
	for i := int32(0); it.Next(); i++ {
		why := ""
		switch {
		case cfg.Compact && it.Record().Key == nil:
			why = "a compacted topic needs keys"
		case cfg.CheckRecord != nil:
			why = cfg.CheckRecord(it.Record())
		}
		if why != "" && len(bad.Records) < maxInvalidRecords {
			bad.Records = append(bad.Records, InvalidRecord{Index: i, Message: why})
		}
	}
	switch {
	case errors.Is(it.Err(), record.ErrTooLarge):
		return refuse(kerr.MessageTooLarge, "%v", it.Err())
	case it.Err() != nil:
		return refuse(kerr.CorruptMessage, "%v", it.Err())
	case len(bad.Records) > 0:
		return &bad
	}
	return nil
}
