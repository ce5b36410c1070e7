package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"sort"
)

// A producer snapshot is Kafka's: version int16 = 1, CRC-32C of all that follows it, a count, and per producer its id,
// epoch, last sequence, last offset, offset delta, timestamp, coordinator epoch and first offset of its open
// transaction. Kafka remembers one batch per producer there. Ours go on behind that, where Kafka's readers do not look,
// with the other batches, so that a retry of any batch in flight is recognised after a restart as well.
const (
	snapshotVersion      = 1
	snapshotHeaderBytes  = 6
	snapshotEntryBytes   = 8 + 2 + 4 + 8 + 4 + 8 + 4 + 8
	snapshotBatchBytes   = 4 + 4 + 8 + 4 + 8
	snapshotExtension    = "LEAT"
	maxSnapshotFileBytes = 1 << 30
)

var (
	castagnoli     = crc32.MakeTable(crc32.Castagnoli)
	errBadSnapshot = errors.New("producer snapshot is damaged")
)

// encode writes a snapshot.
func (ps *producers) encode() []byte {
	ids := make([]int64, 0, len(ps.byID))
	for id := range ps.byID {
		ids = append(ids, id)
	}
	sort.Slice(ids, func(i, j int) bool { return ids[i] < ids[j] })
	be := binary.BigEndian
	out := make([]byte, snapshotHeaderBytes, snapshotHeaderBytes+8+len(ids)*(snapshotEntryBytes+snapshotBatchBytes))
	be.PutUint16(out, snapshotVersion)
	out = be.AppendUint32(out, uint32(len(ids)))
	for _, id := range ids {
		p := ps.byID[id]
		last := batchMeta{lastSeq: -1, lastOffset: p.lastStart}
		if p.n > 0 {
			last = *p.last()
		}
		out = be.AppendUint64(out, uint64(p.id))
		out = be.AppendUint16(out, uint16(p.epoch))
		out = be.AppendUint32(out, uint32(last.lastSeq))
		out = be.AppendUint64(out, uint64(last.lastOffset))
		out = be.AppendUint32(out, uint32(last.delta))
		out = be.AppendUint64(out, uint64(p.lastTime))
		out = be.AppendUint32(out, uint32(p.coordEp))
		out = be.AppendUint64(out, uint64(p.txnFirst))
	}
	out = append(out, snapshotExtension...)
	for _, id := range ids {
		p := ps.byID[id]
		out = append(out, byte(p.n))
		for _, m := range p.batches[:p.n] {
			out = be.AppendUint32(out, uint32(m.firstSeq))
			out = be.AppendUint32(out, uint32(m.lastSeq))
			out = be.AppendUint64(out, uint64(m.lastOffset))
			out = be.AppendUint32(out, uint32(m.delta))
			out = be.AppendUint64(out, uint64(m.ts))
		}
	}
	be.PutUint32(out[2:], crc32.Checksum(out[snapshotHeaderBytes:], castagnoli))
	return out
}

// decodeProducers reads a snapshot. now, in milliseconds, is when the producers count as last seen: the times in the
// file are the records' own, and a producer must not be forgotten because its records are old.
func decodeProducers(b []byte, now int64) (*producers, error) {
	be := binary.BigEndian
	if len(b) < snapshotHeaderBytes+4 {
		return nil, fmt.Errorf("%w: %d bytes", errBadSnapshot, len(b))
	}
	if v := be.Uint16(b); v != snapshotVersion {
		return nil, fmt.Errorf("%w: version %d", errBadSnapshot, v)
	}
	if be.Uint32(b[2:]) != crc32.Checksum(b[snapshotHeaderBytes:], castagnoli) {
		return nil, fmt.Errorf("%w: CRC", errBadSnapshot)
	}
	n := int64(be.Uint32(b[snapshotHeaderBytes:]))
	b = b[snapshotHeaderBytes+4:]
	if n*snapshotEntryBytes > int64(len(b)) {
		return nil, fmt.Errorf("%w: %d producers in %d bytes", errBadSnapshot, n, len(b))
	}
	ps := newProducers()
	order := make([]*producer, 0, n)
	for range n {
		p := &producer{id: int64(be.Uint64(b)), epoch: int16(be.Uint16(b[8:])), lastSeen: now}
		m := batchMeta{lastSeq: int32(be.Uint32(b[10:])), lastOffset: int64(be.Uint64(b[14:])), delta: int32(be.Uint32(b[22:])), ts: int64(be.Uint64(b[26:]))}
		p.coordEp, p.txnFirst = int32(be.Uint32(b[34:])), int64(be.Uint64(b[38:]))
		p.lastTime, p.lastStart = m.ts, m.lastOffset
		if m.lastSeq >= 0 {
			m.firstSeq = int32((int64(m.lastSeq) - int64(m.delta)) & (1<<31 - 1))
			p.remember(m)
		}
		if p.txnFirst >= 0 {
			ps.open = append(ps.open, OpenTxn{ProducerID: p.id, Epoch: p.epoch, FirstOffset: p.txnFirst})
		}
		ps.byID[p.id] = p
		order = append(order, p)
		b = b[snapshotEntryBytes:]
	}
	sort.Slice(ps.open, func(i, j int) bool { return ps.open[i].FirstOffset < ps.open[j].FirstOffset })
	return ps, decodeBatches(order, b)
}

// decodeBatches reads the extension, if there is one.
func decodeBatches(order []*producer, b []byte) error {
	be := binary.BigEndian
	if len(b) < len(snapshotExtension) || string(b[:len(snapshotExtension)]) != snapshotExtension {
		return nil // written by Kafka
	}
	b = b[len(snapshotExtension):]
	for _, p := range order {
		if len(b) < 1 || b[0] > keptBatches || len(b)-1 < int(b[0])*snapshotBatchBytes {
			return fmt.Errorf("%w: batches", errBadSnapshot)
		}
		n := int(b[0])
		b = b[1:]
		p.n = 0
		for range n {
			p.remember(batchMeta{
				firstSeq: int32(be.Uint32(b)), lastSeq: int32(be.Uint32(b[4:])),
				lastOffset: int64(be.Uint64(b[8:])), delta: int32(be.Uint32(b[16:])), ts: int64(be.Uint64(b[20:])),
			})
			b = b[snapshotBatchBytes:]
		}
	}
	return nil
}
