package log

import (
	"cmp"
	"slices"
	"sort"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/twmb/franz-go/pkg/kerr"
)

// keptBatches is how many batches of a producer are remembered for deduplication: as many as an idempotent producer may
// have in flight.
const keptBatches = 5

// batchMeta remembers a batch of a producer.
type batchMeta struct {
	firstSeq, lastSeq int32
	lastOffset        int64
	delta             int32 // lastOffset - first offset
	ts                int64 // largest timestamp
}

// producer is what the log knows of one producer id.
type producer struct {
	id        int64
	epoch     int16
	n         int8 // batches in use
	batches   [keptBatches]batchMeta
	lastTime  int64 // time of the last batch or marker as the records say
	lastSeen  int64 // broker's clock at the last append (or at open): expiry counts from it
	coordEp   int32 // -1: no marker seen
	txnFirst  int64 // -1: no open transaction
	lastStart int64 // offset of the last batch or marker, for snapshots of producers without batches
}

// last returns the latest batch.
func (p *producer) last() *batchMeta { return &p.batches[p.n-1] }

func (p *producer) remember(m batchMeta) {
	if p.n == keptBatches {
		copy(p.batches[:], p.batches[1:])
		p.n--
	}
	p.batches[p.n] = m
	p.n++
}

// duplicate finds a remembered batch with the sequences of b.
func (p *producer) duplicate(b record.Batch) *batchMeta {
	first, last := b.BaseSequence(), b.LastSequence()
	for i := range p.batches[:p.n] {
		if m := &p.batches[i]; m.firstSeq == first && m.lastSeq == last {
			return m
		}
	}
	return nil
}

// producers is the state of all producers of a partition. It is plain data: the log guards it.
type producers struct {
	byID map[int64]*producer
	open []OpenTxn // by first offset
}

func newProducers() *producers { return &producers{byID: map[int64]*producer{}} }

// check says whether b may be appended: a duplicate is returned as such, an error refuses it. virgin says that the
// partition never held a record.
func (ps *producers) check(b record.Batch, virgin bool) (*batchMeta, error) {
	id, epoch, seq := b.ProducerID(), b.ProducerEpoch(), b.BaseSequence()
	p := ps.byID[id]
	if p == nil {
		// State may have expired or been truncated: any sequence will do. On a partition that never held anything it
		// cannot have, and a first batch is missing: two in flight overtook each other.
		if virgin && seq > 0 {
			return nil, refuse(kerr.OutOfOrderSequenceNumber, "producer %d begins an empty partition with sequence %d, want 0", id, seq)
		}
		return nil, nil
	}
	switch {
	case epoch < p.epoch:
		return nil, refuse(kerr.InvalidProducerEpoch, "producer %d has epoch %d, the log has seen %d", id, epoch, p.epoch)
	case epoch > p.epoch:
		if seq > 0 && p.epoch >= 0 {
			return nil, refuse(kerr.OutOfOrderSequenceNumber, "producer %d begins epoch %d with sequence %d, want 0", id, epoch, seq)
		}
	case seq >= 0:
		if m := p.duplicate(b); m != nil {
			return m, nil
		}
		want := int32(0)
		if p.n > 0 {
			want = record.AddSequence(p.last().lastSeq, 1)
		}
		if seq != want {
			return nil, refuse(kerr.OutOfOrderSequenceNumber, "producer %d epoch %d sends sequence %d, want %d", id, epoch, seq, want)
		}
	}
	if p.txnFirst >= 0 && !b.Transactional() {
		return nil, refuse(kerr.InvalidTxnState, "producer %d has a transaction open and sends a batch outside of it", id)
	}
	return nil, nil
}

// inTxn reports whether b continues a transaction that the partition already knows.
func (ps *producers) inTxn(b record.Batch) bool {
	p := ps.byID[b.ProducerID()]
	return p != nil && p.epoch == b.ProducerEpoch() && p.txnFirst >= 0
}

func (ps *producers) get(id int64, epoch int16, now int64) *producer {
	p := ps.byID[id]
	if p == nil {
		p = &producer{id: id, epoch: epoch, coordEp: -1, txnFirst: -1, lastTime: -1}
		ps.byID[id] = p
	}
	if p.epoch != epoch {
		p.epoch, p.n = epoch, 0
	}
	p.lastSeen = now
	return p
}

// append notes a data batch with its final offsets. now is milliseconds of the broker's clock.
func (ps *producers) append(b record.Batch, now int64) {
	if b.ProducerID() < 0 {
		return
	}
	p := ps.get(b.ProducerID(), b.ProducerEpoch(), now)
	p.lastTime, p.lastStart = b.MaxTimestamp(), b.LastOffset()
	if seq := b.BaseSequence(); seq >= 0 {
		p.remember(batchMeta{
			firstSeq: seq, lastSeq: b.LastSequence(),
			lastOffset: b.LastOffset(), delta: b.LastOffsetDelta(), ts: b.MaxTimestamp(),
		})
	}
	if b.Transactional() && p.txnFirst < 0 {
		p.txnFirst = b.BaseOffset()
		ps.open = append(ps.open, OpenTxn{ProducerID: p.id, Epoch: p.epoch, FirstOffset: p.txnFirst})
	}
}

// checkMarker says whether a marker may be written.
func (ps *producers) checkMarker(id int64, epoch int16, coordinatorEpoch int32) error {
	p := ps.byID[id]
	if p == nil {
		return nil
	}
	if epoch < p.epoch {
		return refuse(kerr.InvalidProducerEpoch, "marker for producer %d has epoch %d, the log has seen %d", id, epoch, p.epoch)
	}
	if coordinatorEpoch < p.coordEp {
		return refuse(kerr.TransactionCoordinatorFenced, "marker of coordinator epoch %d, the log has seen %d", coordinatorEpoch, p.coordEp)
	}
	return nil
}

// marker notes a control batch. The transaction it ends is returned; ok is false if there was none open.
func (ps *producers) marker(b record.Batch, m record.Marker, now int64) (t AbortedTxn, ok bool) {
	p := ps.get(b.ProducerID(), b.ProducerEpoch(), now)
	p.lastTime, p.lastStart, p.coordEp = b.MaxTimestamp(), b.LastOffset(), m.CoordinatorEpoch
	if p.txnFirst < 0 {
		return t, false
	}
	t = AbortedTxn{ProducerID: p.id, FirstOffset: p.txnFirst, LastOffset: b.LastOffset()}
	for i := range ps.open {
		if ps.open[i].ProducerID == p.id {
			ps.open = append(ps.open[:i], ps.open[i+1:]...)
			break
		}
	}
	p.txnFirst = -1
	return t, true
}

// firstOpen returns the first offset of the oldest open transaction, or else.
func (ps *producers) firstOpen(otherwise int64) int64 {
	if len(ps.open) > 0 {
		return ps.open[0].FirstOffset
	}
	return otherwise
}

// expire forgets producers that were idle since before the time given, in milliseconds.
func (ps *producers) expire(before int64) {
	for id, p := range ps.byID {
		if p.txnFirst < 0 && p.lastSeen < before {
			delete(ps.byID, id)
		}
	}
}

// hasRoom says whether a producer is known or may be added. If there are already most of them, the sixteenth part that was idle longest
// is forgotten first; not those with transactions open.
func (ps *producers) hasRoom(id int64, most int) bool {
	if len(ps.byID) < most || ps.byID[id] != nil {
		return true
	}
	idle := make([]*producer, 0, len(ps.byID))
	for _, p := range ps.byID {
		if p.txnFirst < 0 {
			idle = append(idle, p)
		}
	}
	slices.SortFunc(idle, func(a, b *producer) int { return cmp.Or(cmp.Compare(a.lastSeen, b.lastSeen), cmp.Compare(a.id, b.id)) })
	for _, p := range idle[:min(len(idle), len(ps.byID)-most+1+most/16)] {
		delete(ps.byID, p.id)
	}
	return len(ps.byID) < most
}

// list describes all producers, by id.
func (ps *producers) list() []ProducerInfo {
	out := make([]ProducerInfo, 0, len(ps.byID))
	for _, p := range ps.byID {
		i := ProducerInfo{
			ProducerID: p.id, Epoch: p.epoch, LastSequence: -1, LastTimestamp: p.lastTime,
			CoordinatorEpoch: p.coordEp, TxnStartOffset: p.txnFirst,
		}
		if p.n > 0 {
			i.LastSequence = p.last().lastSeq
		}
		out = append(out, i)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].ProducerID < out[j].ProducerID })
	return out
}
