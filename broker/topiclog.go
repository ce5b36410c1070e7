package broker

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"strconv"
	"time"

	"github.com/leatstream/leat/broker/internal/log"
	"github.com/leatstream/leat/broker/internal/meta"
	"github.com/leatstream/leat/broker/internal/record"
)

func (b *Broker) partitionDir(name string, p int32) string {
	return filepath.Join(b.cfg.Dir, name+"-"+strconv.Itoa(int(p)))
}

// openLog opens a partition's log, at a start those that were there before.
func (b *Broker) openLog(m meta.Topic, p int32, start bool) (*log.Log, error) {
	cfg := b.logConfig(m, p)
	if start {
		cfg.Generation, cfg.EntrySynced = b.generation, true
	}
	l, err := log.Open(b.cfg.FS, b.partitionDir(m.Name, p), cfg, b.syncer)
	if err != nil {
		return nil, b.advise(fmt.Errorf("open partition %s-%d: %w", m.Name, p, err), m.Name, p)
	}
	return l, nil
}

// logConfig is what a topic's configuration says to one of its logs.
func (b *Broker) logConfig(m meta.Topic, p int32) log.Config {
	s := b.settings(m)
	codec, recode := storedCodec(s.Text("compression.type"))
	return log.Config{
		Recode: recode, Codec: codec,
		Name:         m.Name + "-" + strconv.Itoa(int(p)),
		TopicID:      m.ID,
		MaxProducers: b.cfg.Limits.PartitionProducers, MaxDecompressedBytes: b.cfg.Limits.DecompressedBytes,
		SegmentBytes:       cmp.Or(s.Long("internal.segment.bytes"), s.Long("segment.bytes")),
		SegmentAge:         milliseconds(s.Long("segment.ms")),
		IndexIntervalBytes: int(s.Long("index.interval.bytes")),
		MaxBatchBytes:      int(s.Long("max.message.bytes")),
		Flush:              b.cfg.Flush.policy(),
		Whole:              m.Internal && b.cfg.Flush == FlushAlways,
		Serial:             m.Name == metadataTopic && b.cfg.Flush == FlushAlways,
		Preallocate:        s.Text("preallocate") == "true",
		LogAppendTime:      s.Text("message.timestamp.type") == "LogAppendTime",
		MaxTimestampAhead:  milliseconds(s.Long("message.timestamp.after.max.ms")),
		MaxTimestampBehind: milliseconds(s.Long("message.timestamp.before.max.ms")),
		Compact:            s.Has("cleanup.policy", "compact"),
		Delete:             s.Has("cleanup.policy", "delete"),
		MinDirtyRatio:      dirtyRatio(s),
		MinCompactionLag:   milliseconds(s.Long("min.compaction.lag.ms")),
		MaxCompactionLag:   milliseconds(s.Long("max.compaction.lag.ms")),
		TombstoneRetention: max(milliseconds(s.Long("delete.retention.ms")), 1),
		RetentionBytes:     s.Long("retention.bytes"),
		RetentionAge:       milliseconds(s.Long("retention.ms")),
		ProducerExpiry:     b.current().ProducerIDExpiration,
		CheckRecord:        b.recordCheck(m.Name, s.Text("leat.key.schema.validation") == "true", s.Text("leat.value.schema.validation") == "true"),
		Logger:             b.logger,
	}
}

// storedCodec is the codec that compression.type names; false for producer, which keeps what each batch came in.
func storedCodec(name string) (record.Codec, bool) {
	switch name {
	case "uncompressed":
		return record.None, true
	case "gzip":
		return record.Gzip, true
	case "snappy":
		return record.Snappy, true
	case "lz4":
		return record.LZ4, true
	case "zstd":
		return record.Zstd, true
	}
	return record.None, false
}

// dirtyRatio is min.cleanable.dirty.ratio; 0, which is Kafka's word for always, is negative to a log.
func dirtyRatio(s meta.Settings) float64 {
	r, err := strconv.ParseFloat(s.Text("min.cleanable.dirty.ratio"), 64)
	if err == nil && r <= 0 {
		return -1
	}
	return r
}

// milliseconds converts a configured time; what is too long for a Duration is for ever.
func milliseconds(ms int64) time.Duration {
	const longest = int64(1<<63-1) / int64(time.Millisecond)
	if ms < 0 {
		return -1
	}
	return time.Duration(min(ms, longest)) * time.Millisecond
}

// settings are a topic's configurations over the broker's.
func (b *Broker) settings(m meta.Topic) meta.Settings {
	s := meta.Settings(maps.Clone(b.cfg.TopicDefaults))
	if s == nil {
		s = meta.Settings{}
	}
	if b.meta != nil { // nil while the journal itself is opened
		dynamic := b.meta.BrokerConfigs()
		for _, d := range meta.Definitions() {
			if v, ok := dynamic[d.Broker]; ok {
				s[d.Name] = v
			}
		}
	}
	maps.Copy(s, m.Configs)
	return s
}
