package log

import (
	"context"
	"errors"
	"time"

	"github.com/leatstream/leat/internal/vfs"
)

var errTODO = errors.New("log: not yet")

// Log is one partition. Use [Open]. All methods are safe for use by several goroutines.
type Log struct{}

// Open opens the log in dir, creates it if there is none, and recovers it if it was not closed.
func Open(fsys vfs.FS, dir string, cfg Config, sync *Syncer) (*Log, error) { return nil, errTODO }

func (l *Log) SetConfig(cfg Config) error                             { return nil }
func (l *Log) Append(batch []byte, o AppendOptions) (Appended, error) { return Appended{}, errTODO }
func (l *Log) AppendTxn(batch []byte, o AppendOptions, verify func() error) (Appended, error) {
	return Appended{}, errTODO
}
func (l *Log) AppendMarker(producerID int64, epoch int16, commit bool, coordinatorEpoch int32) (offset int64, err error) {
	return 0, errTODO
}
func (l *Log) WaitSynced(ctx context.Context, offset int64) error { return errTODO }
func (l *Log) Bounds() Bounds                                     { return Bounds{} }
func (l *Log) Read(o ReadOptions) (ReadResult, error)             { return ReadResult{}, errTODO }
func (l *Log) Watch(w *Waiter)                                    {}
func (l *Log) Unwatch(w *Waiter)                                  {}

// OffsetForTime finds the first record at or after ts (milliseconds).
func (l *Log) OffsetForTime(ts int64, committed bool) (t TimeOffset, found bool, err error) {
	return t, false, errTODO
}

// MaxTimestamp finds the record with the largest timestamp.
func (l *Log) MaxTimestamp() (t TimeOffset, found bool, err error) { return t, false, errTODO }

// EpochEnd returns the largest leader epoch <= epoch and where it ends; -1, -1 if there is none.
func (l *Log) EpochEnd(epoch int32) (int32, int64) { return -1, -1 }

// LeaderEpoch returns the current leader epoch; it grows when a restart may have lost records.
func (l *Log) LeaderEpoch() int32 { return 0 }

// DeleteRecords moves the log start; -1 means the high watermark.
func (l *Log) DeleteRecords(to int64) (logStart int64, err error) { return 0, errTODO }
func (l *Log) Producers() []ProducerInfo                          { return nil }
func (l *Log) OpenTxns() []OpenTxn                                { return nil }

// Available estimates how many bytes a reader at from could read now; exact up to an index interval.
func (l *Log) Available(from int64, committed bool) int64 { return 0 }

// Size returns the bytes of all segments.
func (l *Log) Size() int64 { return 0 }

// Retain deletes segments that retention lets go, and rolls the active one when it is due.
func (l *Log) Retain(now time.Time) (segments int, err error) { return 0, nil }
func (l *Log) Close() error                                   { return nil }
func (l *Log) Delete() error                                  { return nil }

// Waiter wakes one goroutine when any of the logs it watches has something new: C gets a value (at most one is kept) when
// the high watermark or the last stable offset moved, or the log was closed or deleted. Read the bounds again after it.
type Waiter struct{ C chan struct{} }

// NewWaiter returns a Waiter that watches nothing yet.
func NewWaiter() *Waiter { return &Waiter{C: make(chan struct{}, 1)} }

// SyncerOptions configure a Syncer; a zero field is its default.
type SyncerOptions struct {
	Parallel int // files synced at the same time; default 4
}

// Syncer makes logs durable.
type Syncer struct{}

// NewSyncer returns a Syncer that works once Run is called.
func NewSyncer(o SyncerOptions) *Syncer { return &Syncer{} }

// Run syncs until ctx is done, then once more everything that is dirty. Close the logs first.
func (s *Syncer) Run(ctx context.Context) error { return nil }
