package state

import (
	"errors"
	"time"
)

var (
	// ErrLocked is wrapped by the error of Open for a directory that another process uses.
	ErrLocked = errors.New("state: directory is in use")
	// ErrVersion is wrapped by the error of Open for a directory that a later version of Leat wrote.
	ErrVersion = errors.New("state: unknown format version")
	// ErrClosed is returned by what is used after Close.
	ErrClosed = errors.New("state: closed")
	// ErrCorrupt is wrapped by errors about bytes that cannot be what was written.
	ErrCorrupt = errors.New("state: corrupt data")
)

// Medium says where a shard's data lives.
type Medium uint8

const (
	// Disk is the zero value: on disk, with the changelog as its log.
	Disk Medium = iota
	// Memory keeps the data in memory; after a restart the position is gone and all is restored.
	Memory
	// Logged is on disk with a log of its own, synced at each batch: for stores without a changelog.
	Logged
)

// ShardOptions describe the data of a shard.
type ShardOptions struct {
	Medium Medium
	// Windowed is set for the shards of window stores: changelog keys end in 8 bytes of start and 4 of sequence.
	Windowed bool
}

// Position says up to where a shard holds its changelog.
type Position struct {
	// TopicID is the changelog topic's id.
	TopicID [16]byte
	// Offset is the next changelog offset to read.
	Offset int64
	// At is the wall-clock time of the batch, in milliseconds.
	At time.Time
	// Inputs are the positions of the input partitions, in a form of the caller's, for shards without a changelog.
	Inputs []byte
}

// Restored is one record of a changelog. A nil Value deletes.
type Restored struct {
	Key, Value []byte
	// Time is the record's timestamp in milliseconds.
	Time int64
}

// Shard is one partition's part of one store. Its methods are safe for use by several goroutines, but Wipe and Restore
// must not run while a typed store of the shard is processing.
type Shard struct{}

// Store returns the store's name.
func (s *Shard) Store() string { panic("not built yet") }

// Partition returns the partition's number.
func (s *Shard) Partition() int32 { panic("not built yet") }

// Position returns where the applied data stands; false if nothing was ever written, or all was wiped.
func (s *Shard) Position() (Position, bool) { panic("not built yet") }

// Wipe removes data and position.
func (s *Shard) Wipe() error { panic("not built yet") }

// Restore writes changelog records, of which the last one of each key counts, and the position that they bring the
// shard to, atomically. Large calls (tens of thousands of records) are faster: they are ingested as sorted tables. recs
// is not kept, but is reordered.
func (s *Shard) Restore(recs []Restored, pos Position) error { panic("not built yet") }
