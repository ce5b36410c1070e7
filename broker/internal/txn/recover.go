package txn

import (
	"fmt"
	"time"

	"github.com/leatstream/leat/broker/internal/journal"
)

// Visitor takes the journal's records back at start, before Start. Nothing else may run meanwhile.
func (c *Coordinator) Visitor() journal.Visitor {
	return journal.Visitor{Record: c.load}
}

func (c *Coordinator) load(_, offset int64, key, value []byte) error {
	id, known, err := decodeKey(key)
	if err != nil {
		return fmt.Errorf("transaction record at %d: %w", offset, err)
	}
	if !known {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if value == nil {
		delete(c.mu.txns, id)
		return nil
	}
	r, err := decodeValue(value)
	if err != nil {
		return fmt.Errorf("transaction record at %d: %w", offset, err)
	}
	if id == "" {
		c.ids.loaded(r)
		return nil
	}
	t := c.mu.txns[id]
	if t == nil {
		t = newTransaction(c, id)
		c.mu.txns[id] = t
	}
	t.rec, t.stored, t.end = r, r, offset+1
	return nil
}

// Start compares what the journal says with what the partitions hold, and goes on from there: decided transactions are
// completed, ongoing ones go on until their timeout. It returns once the state is consistent in memory; completion goes on.
//
// Of a transaction of version 2 only its records tell, so partitions may hold records of transactions that the journal does not
// know. By epoch:
//
//   - The producer still owns its id (same epoch): the partition is added to the transaction, or a transaction is begun with it.
//     The client's repetition finds its records there (by sequence), and the timeout ends it if there is no client.
//   - The journal ends with a Prepare*, the partition's open transaction has the epoch that this Prepare* has bumped to: it is the
//     next one, which follows the decision's marker there. The decision must not touch it; when the other markers are written
//     it is adopted. Where the Prepare* has used up the epochs, the next one has the producer id that takes over, and epoch 0.
//   - Anything else is from a producer that has been fenced: aborted.
func (c *Coordinator) Start() {
	open := map[int64][]OpenTxn{}
	for _, o := range c.partitions.Open() {
		open[o.ProducerID] = append(open[o.ProducerID], o)
	}
	for _, t := range c.all() {
		t.mu.Lock()
		mine, next := open[t.rec.producerID], open[t.rec.nextID] // nobody has the id none
		delete(open, t.rec.producerID)
		delete(open, t.rec.nextID)
		id, epoch := t.rec.producerID, t.rec.epoch
		stale := t.resumeLocked(mine, next)
		t.mu.Unlock()
		for _, o := range stale {
			if o.ProducerID == id {
				o.Epoch = max(epoch, o.Epoch)
			}
			c.abortStale(o, o.Epoch)
		}
	}
	for _, os := range open {
		for _, o := range os {
			c.abortStale(o, o.Epoch)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mu.closed {
		c.mu.expiry = time.AfterFunc(c.cfg.ExpiryInterval, c.expireAndRearm)
	}
}

// resumeLocked goes on with one id: open is of its producer id, next of the one that takes over. It returns what is to be aborted.
func (t *transaction) resumeLocked(open, next []OpenTxn) (stale []OpenTxn) {
	var adopt []TopicPartition
	skip := map[TopicPartition]bool{}
	for _, o := range next {
		if t.rec.state.preparing() && o.Epoch == 0 {
			adopt = append(adopt, o.TopicPartition)
		} else {
			stale = append(stale, o)
		}
	}
	for _, o := range open {
		switch {
		case t.rec.state.preparing() && o.Epoch == t.rec.epoch && t.rec.version >= 2:
			skip[o.TopicPartition] = true
			adopt = append(adopt, o.TopicPartition)
		case t.rec.state.preparing() && t.rec.has(o.TopicPartition):
			// decided: its marker comes
		case !t.rec.state.preparing() && o.Epoch == t.rec.epoch:
			adopt = append(adopt, o.TopicPartition)
		default:
			stale = append(stale, o)
		}
	}
	if t.rec.state.preparing() {
		t.completeLocked(skip, adopt)
		return stale
	}
	t.adoptLocked(adopt)
	if t.rec.state == Ongoing && t.timer == nil {
		left := time.Until(time.UnixMilli(t.rec.startMs).Add(t.rec.timeout))
		t.armTimerLocked(min(max(0, left), t.rec.timeout)) // the clock may have been set back meanwhile
	}
	return stale
}

// adoptLocked adds partitions whose records tell of a transaction that the journal does not know of. They go on telling.
func (t *transaction) adoptLocked(tps []TopicPartition) {
	if len(tps) > 0 {
		t.ongoingLocked(tps, t.rec.version)
		t.c.logger.Info("a transaction goes on whose records are there", "transactionalId", t.id, "producerId", t.rec.producerID, "partitions", len(tps))
	}
}

func (c *Coordinator) abortStale(o OpenTxn, epoch int16) {
	c.logger.Warn("aborting records of a transaction that nobody can end any more", "producerId", o.ProducerID, "epoch", o.Epoch, "topic", o.Topic, "partition", o.Partition)
	m, err := c.partitions.AppendMarker(o.TopicPartition, o.ProducerID, epoch, false)
	if err == nil {
		m.Hasten()
	} else {
		c.logger.Error("an abandoned transaction could not be aborted; read_committed consumers of the partition wait behind it", "topic", o.Topic, "partition", o.Partition, "error", err)
	}
}

func (c *Coordinator) expireAndRearm() {
	c.expire(time.Now())
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.mu.closed {
		c.mu.expiry.Reset(c.cfg.ExpiryInterval)
	}
}

// expire forgets ids that have had no transaction for long.
func (c *Coordinator) expire(now time.Time) {
	for _, t := range c.all() {
		t.mu.Lock()
		idle := t.ended == nil && t.settled == nil && t.rec.state != Ongoing && now.Sub(time.UnixMilli(t.rec.updatedMs)) >= c.cfg.IDExpiration
		if idle && !t.gone {
			if _, err := c.journal.Append([]journal.Entry{{Key: encodeKey(t.id)}}); err == nil {
				t.gone = true
			}
		}
		gone := t.gone
		t.mu.Unlock()
		if gone {
			c.mu.Lock()
			if c.mu.txns[t.id] == t {
				delete(c.mu.txns, t.id)
			}
			c.mu.Unlock()
		}
	}
}
