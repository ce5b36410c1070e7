package txn

import (
	"time"

	"github.com/leatstream/leat/broker/internal/journal"
)

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
			err = t.rewriteLocked()
			records++
		}
		t.mu.Unlock()
		if err != nil {
			return records, err
		}
	}
	return records, nil
}

// rewriteLocked appends what the journal has of an id once more, or is owed: not rec, which may be ahead of it.
func (t *transaction) rewriteLocked() error {
	now := t.stored
	if t.owed {
		now = now.completed(time.Now())
	}
	end, err := t.c.journal.Append([]journal.Entry{{Key: encodeKey(t.id), Value: now.encode()}})
	if err != nil {
		return err
	}
	t.stored, t.end = now, max(t.end, end)
	t.paidLocked()
	return nil
}

func (b *idBlock) rewrite() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	r := record{producerID: b.limit, prevID: none, nextID: none, startMs: none}
	_, err := b.journal.Append([]journal.Entry{{Key: encodeKey(""), Value: r.encode()}})
	return err
}
