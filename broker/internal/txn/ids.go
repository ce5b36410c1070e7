package txn

import (
	"fmt"
	"sync"

	"github.com/leatstream/leat/broker/internal/journal"
)

// blockSize is how many producer ids are reserved at a time, as in Kafka.
const blockSize = 1000

// idBlock hands out producer ids, each once in the life of the data directory. It reserves them in blocks: the journal knows
// where the next block begins, ids of a block that were not used when the broker stopped are never used.
//
// The reservation is a record under the empty transactional id (which no client can have) whose producer id is the first of the
// next block.
type idBlock struct {
	journal Journal

	mu sync.Mutex
	// next is the id to hand out, limit the first that is not reserved, end where the journal says so.
	next, limit int64
	end         int64
}

// take returns a new id; it may be told to a client once the journal is on disk up to end.
func (b *idBlock) take() (id, end int64, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.next == b.limit {
		r := record{producerID: b.limit + blockSize, prevID: none, nextID: none, startMs: none}
		end, err := b.journal.Append([]journal.Entry{{Key: encodeKey(""), Value: r.encode()}})
		if err != nil {
			return 0, 0, fmt.Errorf("reserve producer ids from %d: %w", b.limit, err)
		}
		b.limit += blockSize
		b.end = end
	}
	id = b.next
	b.next++
	return id, b.end, nil
}

// loaded takes the reservation back at start.
func (b *idBlock) loaded(r record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.next = max(b.next, r.producerID)
	b.limit = b.next
}
