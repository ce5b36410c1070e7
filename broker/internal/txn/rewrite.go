package txn

import "github.com/leatstream/leat/broker/internal/journal"

// Rewrite appends all that is live to the journal once more: once that is on disk, nothing that was there before is needed. records
// is how many were written.
func (c *Coordinator) Rewrite() (records int, err error) {
	if err := c.ids.rewrite(); err != nil {
		return 0, err
	}
	records = 1
	for _, t := range c.all() {
		t.mu.Lock()
		if t.rec.producerID != none && !t.gone {
			err = t.storeLocked(t.rec)
			records++
		}
		t.mu.Unlock()
		if err != nil {
			return records, err
		}
	}
	return records, nil
}

func (b *idBlock) rewrite() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := record{producerID: b.limit, prevID: none, nextID: none, startMs: none}
	_, err := b.journal.Append([]journal.Entry{{Key: encodeKey(""), Value: r.encode()}})
	return err
}
