// Package log is the partition log: a directory of segments in Apache Kafka's file names and formats, to which record
// batches are appended as they came and from which they are read as they lie.
//
// The types: [Log] is one partition. [Syncer] makes many logs durable, group-committed; one broker has one. [Config]
// is what a topic's configuration says to its logs. [Waiter] wakes a long poll. docs/format/log.md describes the files.
package log

import "time"

// Bounds are the four offsets that say what a partition holds: LogStart <= LastStable <= HighWatermark <= End.
type Bounds struct {
	LogStart      int64 // first offset that may be read
	LastStable    int64 // first offset that a read_committed reader may not see yet
	HighWatermark int64 // first offset that nobody may see yet; under FlushAlways everything below is on disk
	End           int64 // offset of the next record to be appended
}

// Origin says who appends: the checks differ.
type Origin int8

// The origins of a batch.
const (
	FromClient      Origin = iota // a produce request: every check applies
	FromCoordinator               // the broker's own coordinators: checks of clients' manners are skipped
)

// AppendOptions accompany one batch. The zero value is a batch from a client of the newest produce version, now.
type AppendOptions struct {
	Origin         Origin
	ProduceVersion int16     // version of the produce request; 0 means the newest
	Now            time.Time // the broker's clock; the zero time means time.Now()
}

// Appended says where a batch went.
type Appended struct {
	BaseOffset int64 // offset of its first record
	LastOffset int64 // offset of its last record; wait for LastOffset+1 with WaitSynced
	LogStart   int64 // log start offset at that moment
	AppendTime int64 // milliseconds since the epoch under LogAppendTime, else -1
	Duplicate  bool  // the batch was in the log already; the offsets are those of the first time
}

// ReadOptions ask for records.
type ReadOptions struct {
	From      int64  // first offset wanted
	MaxBytes  int    // at most so many bytes of batches are returned
	MinOne    bool   // return the first batch even where it is larger than MaxBytes
	Committed bool   // read up to the last stable offset, and say which transactions were aborted
	Buf       []byte // optional: memory to read into (its capacity counts); the caller's before and after the call
}

// ReadResult is what a read found.
type ReadResult struct {
	Batches []byte       // whole batches, in the caller's Buf where that was large enough; empty, not nil, if there is nothing
	Bounds  Bounds       // the bounds by which the read was made
	Aborted []AbortedTxn // with Committed: aborted transactions that touch Batches, by first offset
}

// AbortedTxn is a transaction whose records a read_committed reader must skip.
type AbortedTxn struct {
	ProducerID  int64
	FirstOffset int64 // first record of the transaction
	LastOffset  int64 // its abort marker
}

// TimeOffset is a record found by its time.
type TimeOffset struct {
	Offset      int64
	Timestamp   int64 // milliseconds since the epoch
	LeaderEpoch int32
}

// ProducerInfo describes a producer that has written to the partition.
type ProducerInfo struct {
	ProducerID       int64
	Epoch            int16
	LastSequence     int32 // -1: no sequence known
	LastTimestamp    int64 // milliseconds; -1: none
	CoordinatorEpoch int32 // -1: no marker seen
	TxnStartOffset   int64 // -1: no open transaction
}

// OpenTxn is a transaction without a marker yet.
type OpenTxn struct {
	ProducerID  int64
	Epoch       int16
	FirstOffset int64
}
