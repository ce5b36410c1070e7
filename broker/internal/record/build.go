package record

import (
	"encoding/binary"
)

// Record is one record. Key, Value and the headers' values are nil for null.
type Record struct {
	Offset    int64 // absolute
	Timestamp int64 // milliseconds since the epoch
	Key       []byte
	Value     []byte
	Headers   []Header
}

// Header is one header of a record.
type Header struct {
	Key   string
	Value []byte
}

// BatchInfo is what Build puts into the header of a batch. NoProducer is the usual start.
type BatchInfo struct {
	BaseOffset    int64
	LeaderEpoch   int32
	Transactional bool
	Control       bool
	ProducerID    int64
	ProducerEpoch int16
	BaseSequence  int32
}

// NoProducer is the BatchInfo of a plain batch: not idempotent, not transactional.
func NoProducer() BatchInfo {
	return BatchInfo{ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1}
}

// Build makes an uncompressed batch. The records' Offset is ignored: they get consecutive offsets from BaseOffset.
// recs must not be empty.
func Build(info BatchInfo, recs []Record) Batch {
	n := HeaderBytes
	for i := range recs {
		n += 32 + len(recs[i].Key) + len(recs[i].Value)
	}
	return AppendBatch(make([]byte, 0, n), info, recs)
}

// AppendBatch is Build into dst; it returns the batch alone, which begins where dst ended.
func AppendBatch(dst []byte, info BatchInfo, recs []Record) Batch {
	if len(recs) == 0 {
		panic("record: a batch needs a record")
	}
	start := len(dst)
	dst = append(dst, make([]byte, HeaderBytes)...)
	base, top := recs[0].Timestamp, recs[0].Timestamp
	for i := range recs {
		top = max(top, recs[i].Timestamp)
		dst = appendRecord(dst, &recs[i], int64(i), recs[i].Timestamp-base)
	}
	b := Batch(dst[start:])
	be := binary.BigEndian
	var attr uint16
	if info.Transactional {
		attr |= AttrTransactional
	}
	if info.Control {
		attr |= AttrControl
	}
	be.PutUint64(b[offBase:], uint64(info.BaseOffset))
	be.PutUint32(b[offLength:], uint32(len(b)-OverheadBytes))
	be.PutUint32(b[offEpoch:], uint32(info.LeaderEpoch))
	b[offMagic] = 2
	be.PutUint16(b[offAttr:], attr)
	be.PutUint32(b[offLastDelta:], uint32(len(recs)-1))
	be.PutUint64(b[offBaseTime:], uint64(base))
	be.PutUint64(b[offMaxTime:], uint64(top))
	be.PutUint64(b[offPID:], uint64(info.ProducerID))
	be.PutUint16(b[offPEpoch:], uint16(info.ProducerEpoch))
	be.PutUint32(b[offSeq:], uint32(info.BaseSequence))
	be.PutUint32(b[offCount:], uint32(len(recs)))
	b.seal()
	return b
}

func appendRecord(dst []byte, r *Record, offsetDelta, timeDelta int64) []byte {
	body := 1 + varintLen(timeDelta) + varintLen(offsetDelta) + bytesLen(r.Key) + bytesLen(r.Value) + varintLen(int64(len(r.Headers)))
	for _, h := range r.Headers {
		body += varintLen(int64(len(h.Key))) + len(h.Key) + bytesLen(h.Value)
	}
	dst = binary.AppendVarint(dst, int64(body))
	dst = append(dst, 0) // attributes
	dst = binary.AppendVarint(dst, timeDelta)
	dst = binary.AppendVarint(dst, offsetDelta)
	dst = appendBytes(dst, r.Key)
	dst = appendBytes(dst, r.Value)
	dst = binary.AppendVarint(dst, int64(len(r.Headers)))
	for _, h := range r.Headers {
		dst = binary.AppendVarint(dst, int64(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = appendBytes(dst, h.Value)
	}
	return dst
}

func appendBytes(dst, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(dst, -1)
	}
	dst = binary.AppendVarint(dst, int64(len(b)))
	return append(dst, b...)
}

func bytesLen(b []byte) int {
	if b == nil {
		return 1
	}
	return varintLen(int64(len(b))) + len(b)
}

func varintLen(v int64) int {
	u := uint64(v<<1) ^ uint64(v>>63)
	n := 1
	for ; u >= 0x80; u >>= 7 {
		n++
	}
	return n
}

// ControlMarker makes the batch that ends a transaction in one partition. ms is the time of the record.
func ControlMarker(producerID int64, producerEpoch int16, commit bool, coordinatorEpoch int32, ms int64) Batch {
	var key [4]byte // version 0, type 0 (abort) or 1 (commit)
	if commit {
		key[3] = 1
	}
	var value [6]byte // version 0, coordinator epoch
	binary.BigEndian.PutUint32(value[2:], uint32(coordinatorEpoch))
	return Build(BatchInfo{
		Transactional: true, Control: true,
		ProducerID: producerID, ProducerEpoch: producerEpoch, BaseSequence: -1,
	}, []Record{{Timestamp: ms, Key: key[:], Value: value[:]}})
}

// Marker is the content of a control batch.
type Marker struct {
	Commit           bool
	CoordinatorEpoch int32
}

// ParseMarker reads the control record of a control batch. known is false for control records of another kind, which
// readers skip. Error: ErrCorrupt.
func ParseMarker(b Batch) (m Marker, known bool, err error) {
	it := NewIterator(b, nil)
	if !it.Next() {
		if it.Err() != nil {
			return m, false, it.Err()
		}
		return m, false, nil // emptied by compaction
	}
	r := it.Record()
	if len(r.Key) < 4 {
		return m, false, ErrCorrupt
	}
	typ := binary.BigEndian.Uint16(r.Key[2:])
	if typ > 1 {
		return m, false, nil
	}
	if len(r.Value) < 6 {
		return m, false, ErrCorrupt
	}
	return Marker{Commit: typ == 1, CoordinatorEpoch: int32(binary.BigEndian.Uint32(r.Value[2:]))}, true, nil
}
