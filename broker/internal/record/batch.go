// Package record reads and writes record batches, Kafka's format v2.
//
// [Batch] is a view of one batch as it travels and as it is stored: accessors read its header, a few setters change in
// place what a broker may change. Records inside are touched only by an [Iterator], which decompresses within a limit.
// [Build] makes batches for the broker's own topics, [ControlMarker] ends transactions.
package record

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// Sizes and positions of the batch header.
const (
	// HeaderBytes is the length of a batch without records.
	HeaderBytes = 61
	// OverheadBytes is what comes before the bytes that the length field counts.
	OverheadBytes = 12

	offBase      = 0
	offLength    = 8
	offEpoch     = 12
	offMagic     = 16
	offCRC       = 17
	offAttr      = 21
	offLastDelta = 23
	offBaseTime  = 27
	offMaxTime   = 35
	offPID       = 43
	offPEpoch    = 51
	offSeq       = 53
	offCount     = 57
)

// Attribute bits of a batch.
const (
	AttrCodec         = 0x07
	AttrLogAppendTime = 0x08
	AttrTransactional = 0x10
	AttrControl       = 0x20
	AttrDeleteHorizon = 0x40
)

// Errors of this package. What goes wrong inside a batch is wrapped with its place.
var (
	// ErrShort says that the bytes end before the batch does.
	ErrShort = errors.New("record: batch is cut short")
	// ErrCorrupt says that the bytes are not a batch, or not what was written: length, magic or CRC is wrong.
	ErrCorrupt = errors.New("record: corrupt batch")
	// ErrTooLarge says that the records do not fit into the limit once decompressed.
	ErrTooLarge = errors.New("record: decompressed batch is larger than the limit")
	// ErrCodec says that the attributes name a compression that does not exist.
	ErrCodec = errors.New("record: unknown compression codec")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Codec is how the records of a batch are compressed.
type Codec int8

// The codecs of format v2.
const (
	None Codec = iota
	Gzip
	Snappy
	LZ4
	Zstd
)

// Batch is one batch, header and records. The accessors need HeaderBytes bytes and check nothing; use Parse first. A
// Batch does not own its bytes.
type Batch []byte

// Size returns the length of the batch at the start of b, all of it, without checking more than that the length is
// possible. It needs OverheadBytes bytes: ErrShort if there are fewer, ErrCorrupt for an impossible length.
func Size(b []byte) (int, error) {
	if len(b) < OverheadBytes {
		return 0, ErrShort
	}
	n := int32(binary.BigEndian.Uint32(b[offLength:]))
	if n < HeaderBytes-OverheadBytes || n > 1<<31-1-OverheadBytes {
		return 0, fmt.Errorf("%w: length field %d", ErrCorrupt, n)
	}
	return int(n) + OverheadBytes, nil
}

// Parse returns the first batch of b: the length is within b and the magic is 2. It does not check the CRC.
// Errors: ErrShort, ErrCorrupt.
func Parse(b []byte) (Batch, error) {
	n, err := Size(b)
	if err != nil {
		return nil, err
	}
	if len(b) > offMagic && b[offMagic] != 2 {
		return nil, fmt.Errorf("%w: magic %d, want 2", ErrCorrupt, b[offMagic])
	}
	if n > len(b) {
		return nil, ErrShort
	}
	return Batch(b[:n:n]), nil
}

// BaseOffset returns the offset of the first record.
func (b Batch) BaseOffset() int64 { return int64(binary.BigEndian.Uint64(b[offBase:])) }

// Length returns the length of the whole batch in bytes.
func (b Batch) Length() int {
	return int(int32(binary.BigEndian.Uint32(b[offLength:]))) + OverheadBytes
}

// LeaderEpoch returns the partition leader epoch.
func (b Batch) LeaderEpoch() int32 { return int32(binary.BigEndian.Uint32(b[offEpoch:])) }

// Magic returns the format version.
func (b Batch) Magic() int8 { return int8(b[offMagic]) }

// CRC returns the stored checksum.
func (b Batch) CRC() uint32 { return binary.BigEndian.Uint32(b[offCRC:]) }

// Attributes returns the attribute bits.
func (b Batch) Attributes() int16 { return int16(binary.BigEndian.Uint16(b[offAttr:])) }

// Codec returns the compression.
func (b Batch) Codec() Codec { return Codec(b[offAttr+1] & AttrCodec) }

// LogAppendTime reports whether MaxTimestamp is the time of the append for every record.
func (b Batch) LogAppendTime() bool { return b[offAttr+1]&AttrLogAppendTime != 0 }

// Transactional reports whether the batch belongs to a transaction.
func (b Batch) Transactional() bool { return b[offAttr+1]&AttrTransactional != 0 }

// Control reports whether the batch holds a control record.
func (b Batch) Control() bool { return b[offAttr+1]&AttrControl != 0 }

// LastOffsetDelta returns the distance from the first to the last offset.
func (b Batch) LastOffsetDelta() int32 { return int32(binary.BigEndian.Uint32(b[offLastDelta:])) }

// LastOffset returns the offset of the last record.
func (b Batch) LastOffset() int64 { return b.BaseOffset() + int64(b.LastOffsetDelta()) }

// BaseTimestamp returns the time from which the records count, in milliseconds.
func (b Batch) BaseTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[offBaseTime:])) }

// MaxTimestamp returns the largest timestamp in milliseconds, -1 if none.
func (b Batch) MaxTimestamp() int64 { return int64(binary.BigEndian.Uint64(b[offMaxTime:])) }

// ProducerID returns the id of the producer, -1 if it is not idempotent.
func (b Batch) ProducerID() int64 { return int64(binary.BigEndian.Uint64(b[offPID:])) }

// ProducerEpoch returns the producer's epoch.
func (b Batch) ProducerEpoch() int16 { return int16(binary.BigEndian.Uint16(b[offPEpoch:])) }

// BaseSequence returns the sequence number of the first record, -1 if there is none.
func (b Batch) BaseSequence() int32 { return int32(binary.BigEndian.Uint32(b[offSeq:])) }

// LastSequence returns the sequence number of the last record: after 2^31-1 comes 0.
func (b Batch) LastSequence() int32 { return AddSequence(b.BaseSequence(), b.LastOffsetDelta()) }

// Count returns the number of records that the header claims.
func (b Batch) Count() int32 { return int32(binary.BigEndian.Uint32(b[offCount:])) }

// Payload returns the records, compressed as they are.
func (b Batch) Payload() []byte { return b[HeaderBytes:] }

// AddSequence adds to a sequence number, which wraps from 2^31-1 to 0.
func AddSequence(seq, n int32) int32 {
	if seq < 0 {
		return seq
	}
	return int32((int64(seq) + int64(n)) & (1<<31 - 1))
}

// SetBaseOffset sets the offset of the first record; the CRC does not cover it.
func (b Batch) SetBaseOffset(o int64) { binary.BigEndian.PutUint64(b[offBase:], uint64(o)) }

// SetLeaderEpoch sets the partition leader epoch; the CRC does not cover it.
func (b Batch) SetLeaderEpoch(e int32) { binary.BigEndian.PutUint32(b[offEpoch:], uint32(e)) }

// SetLogAppendTime gives every record the time ms and renews the CRC.
func (b Batch) SetLogAppendTime(ms int64) {
	b[offAttr+1] |= AttrLogAppendTime
	binary.BigEndian.PutUint64(b[offMaxTime:], uint64(ms))
	b.seal()
}

// seal computes and stores the CRC.
func (b Batch) seal() { binary.BigEndian.PutUint32(b[offCRC:], b.checksum()) }

func (b Batch) checksum() uint32 { return crc32.Checksum(b[offAttr:], castagnoli) }

// CheckCRC compares the stored checksum with the bytes. Error: ErrCorrupt.
func (b Batch) CheckCRC() error {
	if got, want := b.checksum(), b.CRC(); got != want {
		return fmt.Errorf("%w: CRC is %08x, the header says %08x", ErrCorrupt, got, want)
	}
	return nil
}

// Validate checks what must hold for any stored batch: magic, a whole length, plausible counts and the CRC. A batch of
// no records is valid, compaction leaves such. Errors: ErrShort, ErrCorrupt.
func (b Batch) Validate() error {
	if len(b) < HeaderBytes {
		return ErrShort
	}
	if b.Magic() != 2 {
		return fmt.Errorf("%w: magic %d, want 2", ErrCorrupt, b.Magic())
	}
	if n := b.Length(); n != len(b) {
		return fmt.Errorf("%w: length field says %d bytes, there are %d", ErrCorrupt, n, len(b))
	}
	if b.BaseOffset() < 0 || b.LastOffsetDelta() < 0 || b.BaseOffset() > 1<<63-1-1<<31 {
		return fmt.Errorf("%w: offsets %d + %d", ErrCorrupt, b.BaseOffset(), b.LastOffsetDelta())
	}
	if c := b.Count(); c < 0 || int64(c) > int64(b.LastOffsetDelta())+1 {
		return fmt.Errorf("%w: %d records at %d offsets", ErrCorrupt, c, int64(b.LastOffsetDelta())+1)
	}
	return b.CheckCRC()
}
