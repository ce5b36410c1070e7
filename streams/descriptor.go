package streams

import (
	"errors"
	"fmt"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
)

// Topic describes a topic: its name and what its records are. Serdes that are left out come from upstream where the
// type is the same, else from serde.For.
type Topic[K, V any] struct {
	Name  string
	Key   serde.Serde[K]
	Value serde.Serde[V]
	// Also names further topics that a source reads together with Name.
	Also []string
	// Pattern makes a source read every topic whose whole name matches this regular expression; Name and Also are left empty.
	// An application that runs looks every 30 s for topics that have come or gone, and has the group give them out anew. No
	// pattern's are the topics that another source names, the application's internal ones, and those that begin with "__";
	// one that matches two patterns ends the application. With stores or repartitions behind the pattern, a topic of more
	// partitions than there were at first ends it, too (ErrInternalTopic).
	Pattern string
	// Time gives the event time of a source's records, if it is not their own timestamp. partition is the latest time of
	// the records before r in its partition, or the zero time. A time before 1970 drops the record.
	Time func(r Record[K, V], partition time.Time) (time.Time, error)
	// Partitions is the partition count that a source's or sink's topic is created with when the application starts and
	// finds it missing; 0: a source's topic must exist, a sink's is left to the brokers, which may create it on the first
	// record. Of a repartition topic it is the count; 0: as many as its upstream or its join partner has.
	Partitions int
	// Partitioner chooses the partitions a sink writes a record to; an empty result drops it. nil: Kafka's own choice,
	// murmur2 of the key's bytes.
	Partitioner func(k K, v V, partitions int) []int
}

// Store describes a key-value store: the state of a table, or of a processor. Its name is part of the names of its
// changelog topic, and of the repartition topic before it, if there is one.
type Store[K, V any] struct {
	Name  string
	Key   serde.Serde[K]
	Value serde.Serde[V]
	// InMemory keeps the data in memory; it is restored from the changelog after every start.
	InMemory bool
	// NoChangelog keeps no changelog: what the instance's disk loses is lost.
	NoChangelog bool
	// Versioned keeps the row's versions of that much stream time, each in the place of its time, and the latest however old:
	// for Table, ToTable and processors (Task.VersionedStore). Every update is passed on at once. 0: the latest alone.
	Versioned time.Duration
	// MaxEntries bounds the rows in each task's part of the store, that is, of each partition: one more deletes the row that
	// was read or written the longest ago, from the changelog and the table too. Reads of processors and joins count as use,
	// iterations and views do not. The order is kept in memory; after a restart rows go by their times. 0: any number.
	MaxEntries int
	// TTL deletes a row when it has not been written for that long, from the changelog and the table too: when the task's
	// stream time, or with TTLClock the wall clock, is TTL after the row's time. The delete has that time. Writing the same
	// value again counts, so it is also passed on again. 0: rows stay.
	TTL time.Duration
	// TTLClock is the clock that TTL goes by: StreamTime, before the record that moves it is processed, or WallClock, within
	// a second.
	TTLClock Clock
	// NoBuffer passes every update on at once, not only the last one before a commit.
	NoBuffer bool
	// KeepUnchanged writes, logs and passes on updates that change nothing.
	KeepUnchanged bool
	// Changelog overrides topic configs of the changelog topic.
	Changelog map[string]string
	// Traced keeps with each row the span's context of the record that wrote it, if it was sampled (Config.TracerProvider): what
	// is later made of the row has a link to that span. The contexts are in a store of their own, <Name>-traces, of the last
	// 10,000 in each partition, with a changelog; of a global table in memory.
	Traced bool
	// Indexes are secondary indexes: see [Index].
	Indexes []StoreIndex[K, V]
	// Engine keeps the data in a storage engine of your own; nil: Pebble.
	Engine *state.OwnEngine
}

// WindowStore describes a window store: the state of a windowed aggregate. See [Store] for the fields of the same name.
type WindowStore[K, V any] struct {
	Name  string
	Key   serde.Serde[K]
	Value serde.Serde[V]
	// Size is the windows' size; 0: that of the windows it is used with.
	Size time.Duration
	// Retention is how long a window is kept after its start, in stream time; 0: as long as it can still change.
	Retention     time.Duration
	InMemory      bool
	NoChangelog   bool
	NoBuffer      bool
	KeepUnchanged bool
	Traced        bool
	Changelog     map[string]string
	Engine        *state.OwnEngine
}

// StoreRef is any store descriptor, where a processor says what it uses. Only this package's descriptors are ones.
type StoreRef interface{ declare(b *Builder) *storeDef }

// Header is a record header. Its value may be nil.
type Header = serde.Header

// Record is a record as MapRecord, Topic.Time and processors see it. Time is in UTC, with millisecond precision.
type Record[K, V any] struct {
	Key     K
	Value   V
	Time    time.Time
	Headers []Header
}

// Change is an update of a table: nil stands for no row. Old is the row before.
type Change[V any] struct {
	Old, New *V
}

// Windowed is a key within a window.
type Windowed[K any] = serde.WindowedKey[K]

// WindowedKey is the key of a windowed table as it is: ToStream(streams.WindowedKey).
func WindowedKey[K any](w Windowed[K]) Windowed[K] { return w }

// NewValue gives the new value of a change, nil for a delete: Changes(streams.NewValue).
func NewValue[K, V any](_ K, c Change[V]) (*V, error) { return c.New, nil }

// Pure lifts a function that cannot fail to the shape of operators.
func Pure[K, V, R any](f func(K, V) R) func(K, V) (R, error) {
	return func(k K, v V) (R, error) { return f(k, v), nil }
}

// Source says how a source is read. The zero value is the default of every field.
type Source struct {
	// Reset says where to begin without a committed offset. A topic that a Pattern finds while the application runs is read
	// from its start: all of it has come since.
	Reset Reset
	// ResetBy is Reset by duration: without a committed offset the source begins at the first record that is no older than
	// this, by the clock of the instance that begins, and at the log's end if there is none. 0: Reset counts.
	ResetBy time.Duration
	// MaxAhead is how far ahead of the wall clock a record's time may be, as Topic.Time gives it if there is that. A record that
	// is further ahead is an error of its own ([ErrFutureTime], in phase Timing) that Config.OnError decides on: skipped, sent
	// to a dead letter topic, or waited for by Retry until it is its time. Whatever the decision, it does not move stream
	// time, which would make every record after it late. 0: any time is taken; brokers may have their own limit
	// (message.timestamp.after.max.ms).
	MaxAhead time.Duration
	// Idle is how long a task waits, by the wall clock, for a partition of this source that has nothing while another one of
	// its partitions has a record, before it takes the smallest timestamp of what is there. 0: only while the log has records
	// of the partition that have not come yet, for up to a second. More: after that also as long as this, once; until the
	// partition has had records again it is not waited for any more. Negative: not at all. Longer waits bring joined inputs
	// closer to the order of their timestamps, and cost latency. Repartition topics have the default.
	Idle time.Duration
}

func (s Source) check() error {
	switch {
	case s.Reset < engine.ResetDefault || s.Reset > engine.ResetNone:
		return fmt.Errorf("Source.Reset is %d: Earliest, Latest or None", s.Reset)
	case s.MaxAhead < 0:
		return fmt.Errorf("Source.MaxAhead is %v: how far ahead a record may be, 0 for any", s.MaxAhead)
	case s.ResetBy < 0:
		return fmt.Errorf("Source.ResetBy is %v: how far back, more than 0", s.ResetBy)
	case s.ResetBy > 0 && s.Reset != engine.ResetDefault:
		return errors.New("Source has both Reset and ResetBy: leave one of them out")
	}
	return nil
}

// Reset says where a source begins that has no committed offset. The zero value is the application's default, earliest.
type Reset = engine.Reset

const (
	// Earliest begins at the start of the log.
	Earliest = engine.ResetEarliest
	// Latest begins at its end: what is written from now on.
	Latest = engine.ResetLatest
	// None refuses to start without a committed offset.
	None = engine.ResetNone
)
