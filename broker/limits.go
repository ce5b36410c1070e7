package broker

import (
	"fmt"

	"github.com/leatstream/leat/broker/internal/record"
)

// Limits bound what clients make the broker remember, or unpack. The zero value of each field is its default. What bounds connections,
// requests, topics and times is in Config itself.
type Limits struct {
	// GroupMembers is how many members a consumer group may have; more are told GROUP_MAX_SIZE_REACHED. 0 means 10,000.
	GroupMembers int
	// Groups is how many consumer groups are kept; new ones beyond that are told COORDINATOR_NOT_AVAILABLE. 0 means 100,000.
	Groups int
	// OffsetMetadataBytes is the longest metadata of a committed offset; longer is OFFSET_METADATA_TOO_LARGE. 0 means 4096, as
	// Kafka's offset.metadata.max.bytes.
	OffsetMetadataBytes int
	// TransactionalIDs is how many transactional ids are kept; new ones beyond that are told COORDINATOR_NOT_AVAILABLE. 0 means 100,000.
	TransactionalIDs int
	// PartitionProducers is how many idempotent producers a partition remembers, at about 300 bytes each. One more makes it forget the
	// sixteenth part of them that were idle longest, as if they had expired; while all of them have transactions open, a new one is
	// told POLICY_VIOLATION. 0 means 100,000.
	PartitionProducers int
	// DecompressedBytes is how large the records of one batch may become where the broker must look at them (compacted topics, checked
	// schemas, look-ups by time); a batch beyond is refused with MESSAGE_TOO_LARGE, a stored one left as it is. 0 means 64 MiB.
	DecompressedBytes int
}

func (l *Limits) withDefaults() error {
	setDefault(&l.GroupMembers, 10_000)
	setDefault(&l.Groups, 100_000)
	setDefault(&l.OffsetMetadataBytes, 4096)
	setDefault(&l.TransactionalIDs, 100_000)
	setDefault(&l.PartitionProducers, 100_000)
	setDefault(&l.DecompressedBytes, record.DefaultMaxDecompressedBytes)
	for name, v := range map[string]int64{
		"GroupMembers": int64(l.GroupMembers), "Groups": int64(l.Groups), "OffsetMetadataBytes": int64(l.OffsetMetadataBytes),
		"TransactionalIDs":   int64(l.TransactionalIDs),
		"PartitionProducers": int64(l.PartitionProducers), "DecompressedBytes": int64(l.DecompressedBytes),
	} {
		if v < 1 {
			return fmt.Errorf("broker: Config.Limits.%s is negative", name)
		}
	}
	return nil
}
