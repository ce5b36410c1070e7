package broker

import (
	"fmt"

	"github.com/leatstream/leat/broker/internal/journal"
	"github.com/leatstream/leat/broker/internal/meta"
)

// metaJournal keeps the metadata in a partition log.
type metaJournal struct {
	b   *Broker
	log *journal.Journal
}

// Replay implements meta.Journal.
func (j *metaJournal) Replay(f func(meta.Entry) error) error {
	return j.log.Replay(journal.Visitor{Record: func(_, _ int64, key, value []byte) error {
		return f(meta.Entry{Key: key, Value: value})
	}})
}

// Append implements meta.Journal: the entries are one batch.
func (j *metaJournal) Append(entries ...meta.Entry) error {
	records := make([]journal.Entry, len(entries))
	for i, e := range entries {
		records[i] = journal.Entry(e)
	}
	var end int64
	err := j.b.makingRoom(func() (err error) { end, err = j.log.Append(records); return err })
	if err != nil {
		return fmt.Errorf("write metadata: %w", err)
	}
	// Not the connection's context: whether the change happened must not depend on the client staying.
	if err := j.log.WaitSynced(j.b.ctx, end); err != nil {
		return fmt.Errorf("sync metadata: %w", err)
	}
	return nil
}
