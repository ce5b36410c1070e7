package group

import (
	"math"
	"slices"

	"github.com/leatstream/leat/broker/internal/journal"
)

// rewriteBatch is how many records are rewritten in one batch, under the mutex of their group.
const rewriteBatch = 500

// Rewrite appends all that is live to the journal once more. end is where the journal ends before; what is returned is the offset
// below which, once the rewritten records are on disk, nothing is needed any more: end, or less where a transaction is open whose
// outcome decides between records that must keep their order. records is how many were written.
func (c *Coordinator) Rewrite(end int64) (needed int64, records int, err error) {
	needed = end
	for _, g := range c.all() {
		n, n0, err := g.rewrite()
		if err != nil {
			return 0, records, err
		}
		records += n
		needed = min(needed, n0)
	}
	return needed, records, nil
}

// rewrite does one group. needed is the offset of its oldest record that is not rewritten.
func (g *group) rewrite() (records int, needed int64, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	needed = math.MaxInt64
	if g.state == stateDead {
		return 0, needed, nil
	}
	open := map[topicPartition]bool{}
	for _, offsets := range g.pending {
		for tp, o := range offsets {
			open[tp] = true
			needed = min(needed, o.at)
		}
	}
	if g.consumer != nil {
		g.consumer.SaveAll()
		records += len(g.consumer.Unsaved())
		if err := g.saveConsumerLocked(); err != nil {
			return 0, 0, err
		}
	}
	switch {
	case g.storedAt < 0:
	case g.state == statePreparing || g.state == stateCompleting: // what is stored is the rebalance before, and has to stay so
		needed = min(needed, g.storedAt)
	default:
		if err := g.persistLocked(); err != nil {
			return 0, 0, err
		}
		records++
	}
	var tps []topicPartition
	for tp, o := range g.offsets {
		if open[tp] { // rewritten, it would be later than the transaction's and win over it
			needed = min(needed, o.at)
			continue
		}
		tps = append(tps, tp)
	}
	for chunk := range slices.Chunk(tps, rewriteBatch) {
		entries := make([]journal.Entry, len(chunk))
		for i, tp := range chunk {
			entries[i] = journal.Entry{Key: offsetKey(g.id, tp), Value: offsetValue(g.offsets[tp])}
		}
		end, err := g.append(entries)
		if err != nil {
			return 0, 0, err
		}
		for i, tp := range chunk {
			o := g.offsets[tp]
			o.at = end - int64(len(chunk)-i)
			g.offsets[tp] = o
		}
		records += len(chunk)
	}
	return records, needed, nil
}
