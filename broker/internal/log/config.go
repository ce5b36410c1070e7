package log

import (
	"fmt"
	"io"
	"log/slog"
	"math"
	"time"

	"github.com/leatstream/leat/broker/internal/record"
)

// FlushPolicy says when appended records count as safe: when WaitSynced returns and the high watermark moves.
type FlushPolicy int8

// The flush policies.
const (
	FlushAlways FlushPolicy = iota // after fdatasync: nothing acknowledged is lost by a power cut
	FlushOS                        // after write: nothing is lost by the death of the process
)

// Config is what a log needs to know. A zero field is its default.
type Config struct {
	// Name is "topic-partition", for errors and log lines. Default: the directory's name.
	Name string
	// TopicID is kept in partition.metadata; zero writes none.
	TopicID [16]byte

	SegmentBytes       int64         // roll before a segment grows beyond it; default 1 GiB, at most 2 GiB - 1
	SegmentAge         time.Duration // roll when the first record of a segment is older; default 7 days
	IndexIntervalBytes int           // one index entry for so many bytes; default 4096
	MaxBatchBytes      int           // largest batch; default 1 MiB + 12
	Flush              FlushPolicy   // when records count as safe
	Preallocate        bool          // write zeros ahead from the first sync on, not only once much was synced

	// Generation is the leader epoch that begins when the log is opened, unless it has had that or a larger one. Under FlushOS
	// give another one at every start (see NextGeneration): a power cut may take records that readers have seen, and every
	// trace of an epoch, and what was never given before is what no client has heard of. A new log needs none. Where it is
	// zero, an epoch begins only where records may have gone, and takes a sync.
	Generation int32
	// EntrySynced says that the log's directory, if there is one, is durable in its parent: who opens many logs syncs that once.
	EntrySynced bool

	// Recode stores the batches of clients in Codec, whatever they came in.
	Recode bool
	Codec  record.Codec

	// LogAppendTime stamps batches with the broker's clock instead of keeping the producers' times.
	LogAppendTime bool
	// MaxTimestampAhead is how far a producer's time may be in the future, MaxTimestampBehind in the past.
	// Default 1 hour ahead, any time behind; negative means any.
	MaxTimestampAhead, MaxTimestampBehind time.Duration

	// Compact asks for the latest record of each key, Delete for retention; both may be set. Neither means Delete.
	// On a log with Compact, records of clients must have keys.
	Compact, Delete bool

	// CheckRecord says why a record of a client's is refused; empty if it is not. It is called under the log's lock, and must
	// neither wait nor keep the record. Nil refuses none.
	CheckRecord func(r *record.Record) string

	// A log with Compact is compacted when more than MinDirtyRatio of its closed segments never was (default 0.5; negative:
	// whenever there is anything), or when records of these are older than MaxCompactionLag (zero or negative: never for
	// that). Segments with records younger than MinCompactionLag are left alone. TombstoneRetention is how long a tombstone
	// stays after the first compaction that met it; default 24 hours, negative: not at all.
	MinDirtyRatio                      float64
	MinCompactionLag, MaxCompactionLag time.Duration
	TombstoneRetention                 time.Duration

	// Whole has Open refuse, with ErrCorrupt, a log that lacks at its end what was on disk once; any other goes on with what is left.
	// Serial says that every batch was synced before the next one was written, so that a whole batch behind a damaged one tells of
	// damage, which is refused, and not of a crash, whose remains are cut off.
	Whole, Serial bool

	RetentionBytes int64         // with Delete: keep about so many bytes; zero or negative: any amount
	RetentionAge   time.Duration // with Delete: keep records so long; zero or negative: for ever

	// ProducerExpiry forgets an idle producer after so long; default 24 hours. Never while it has a transaction open.
	ProducerExpiry time.Duration
	// MaxProducers is how many producers are remembered: one more takes the place of those idle longest; default 100,000.
	MaxProducers int
	// MaxDecompressedBytes bounds one batch's records where they must be looked at; default 64 MiB.
	MaxDecompressedBytes int

	// Logger gets recoveries and failures. Nil: discarded.
	Logger *slog.Logger
}

func (c Config) withDefaults(dir string) Config {
	if c.Name == "" {
		c.Name = dir
	}
	if c.SegmentBytes <= 0 {
		c.SegmentBytes = 1 << 30
	}
	if c.SegmentAge <= 0 {
		c.SegmentAge = 7 * 24 * time.Hour
	}
	if c.IndexIntervalBytes <= 0 {
		c.IndexIntervalBytes = 4096
	}
	if c.MaxBatchBytes <= 0 {
		c.MaxBatchBytes = 1<<20 + 12
	}
	if c.MaxTimestampAhead == 0 {
		c.MaxTimestampAhead = time.Hour
	}
	if c.ProducerExpiry <= 0 {
		c.ProducerExpiry = 24 * time.Hour
	}
	if c.MaxProducers <= 0 {
		c.MaxProducers = 100_000
	}
	if c.MinDirtyRatio == 0 {
		c.MinDirtyRatio = 0.5
	}
	if c.TombstoneRetention == 0 {
		c.TombstoneRetention = 24 * time.Hour
	}
	if !c.Compact {
		c.Delete = true
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	return c
}

func (c Config) validate() error {
	if c.SegmentBytes > math.MaxInt32 {
		return fmt.Errorf("log %s: SegmentBytes is %d, at most %d can be addressed by an index entry", c.Name, c.SegmentBytes, math.MaxInt32)
	}
	return nil
}
