package record

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Rebuilder makes batches of others: of what compaction leaves of them, or in another codec. The zero value is ready; it is for one goroutine.
type Rebuilder struct {
	raw []byte
	enc *zstd.Encoder
}

// DeleteHorizon returns the time from which on the tombstones of a batch, or a marker, need not be kept; ok is false if
// none was set.
func (b Batch) DeleteHorizon() (ms int64, ok bool) {
	return b.BaseTimestamp(), b.Attributes()&AttrDeleteHorizon != 0
}

// Rebuild makes a batch of some of b's records, in b's codec. Offsets of the batch and of the records, producer, sequence
// and kind stay; the largest timestamp is that of the records, unless the broker's clock stamped b. horizon, if not
// negative, becomes the delete horizon; one that b has stays. recs must not be empty; their memory may be b's.
func (r *Rebuilder) Rebuild(b Batch, recs []Record, horizon int64) (Batch, error) {
	if len(recs) == 0 {
		panic("record: nothing to rebuild a batch of")
	}
	head := Batch(append(make([]byte, 0, HeaderBytes), b[:HeaderBytes]...))
	be := binary.BigEndian
	if horizon >= 0 {
		head[offAttr+1] |= AttrDeleteHorizon
		be.PutUint64(head[offBaseTime:], uint64(horizon))
	}
	base, top := head.BaseTimestamp(), recs[0].Timestamp
	r.raw = r.raw[:0]
	for i := range recs {
		rec := &recs[i]
		top = max(top, rec.Timestamp)
		r.raw = appendRecord(r.raw, rec, rec.Offset-b.BaseOffset(), rec.Timestamp-base)
	}
	if !b.LogAppendTime() {
		be.PutUint64(head[offMaxTime:], uint64(top))
	}
	be.PutUint32(head[offCount:], uint32(len(recs)))
	out, err := r.compress(head, b.Codec())
	if err != nil {
		return nil, fmt.Errorf("compress with codec %d: %w", b.Codec(), err)
	}
	be.PutUint32(out[offLength:], uint32(len(out)-OverheadBytes))
	out.seal()
	return out, nil
}

// Recode makes a batch of b's records in another codec; all else stays. Errors: those of d, for what is no records in b's codec.
func (r *Rebuilder) Recode(b Batch, c Codec, d *Decompressor) (Batch, error) {
	raw, err := d.Decompress(b.Codec(), b.Payload())
	if err != nil {
		return nil, err
	}
	head := Batch(append(make([]byte, 0, HeaderBytes), b[:HeaderBytes]...))
	head[offAttr+1] = head[offAttr+1]&^AttrCodec | byte(c)
	r.raw = append(r.raw[:0], raw...)
	out, err := r.compress(head, c)
	if err != nil {
		return nil, fmt.Errorf("compress with codec %d: %w", c, err)
	}
	binary.BigEndian.PutUint32(out[offLength:], uint32(len(out)-OverheadBytes))
	out.seal()
	return out, nil
}

// compress appends r.raw to a header.
func (r *Rebuilder) compress(head Batch, c Codec) (Batch, error) {
	switch c {
	case None:
		return append(head, r.raw...), nil
	case Snappy:
		return append(head, s2.EncodeSnappy(nil, r.raw)...), nil
	case Zstd:
		if r.enc == nil {
			enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
			if err != nil {
				return nil, err
			}
			r.enc = enc
		}
		return r.enc.EncodeAll(r.raw, head), nil
	case Gzip:
		buf := bytes.NewBuffer(head)
		w := gzip.NewWriter(buf)
		if _, err := w.Write(r.raw); err != nil {
			return nil, err
		}
		err := w.Close()
		return buf.Bytes(), err
	case LZ4:
		buf := bytes.NewBuffer(head)
		w := lz4.NewWriter(buf)
		if _, err := w.Write(r.raw); err != nil {
			return nil, err
		}
		err := w.Close()
		return buf.Bytes(), err
	}
	return nil, ErrCodec
}

// Emptied is b without its records: what is left of a batch whose place, producer and sequence must be remembered.
func Emptied(b Batch) Batch {
	out := Batch(append(make([]byte, 0, HeaderBytes), b[:HeaderBytes]...))
	out[offAttr+1] &^= AttrCodec | AttrDeleteHorizon
	binary.BigEndian.PutUint64(out[offBaseTime:], uint64(b.MaxTimestamp()))
	binary.BigEndian.PutUint32(out[offCount:], 0)
	binary.BigEndian.PutUint32(out[offLength:], HeaderBytes-OverheadBytes)
	out.seal()
	return out
}

// Filler is a batch without records or producer that takes the place of the offsets from first to last.
func Filler(first, last int64, leaderEpoch int32) Batch {
	b := Batch(make([]byte, HeaderBytes))
	be := binary.BigEndian
	be.PutUint64(b[offBase:], uint64(first))
	be.PutUint32(b[offLength:], HeaderBytes-OverheadBytes)
	be.PutUint32(b[offEpoch:], uint32(leaderEpoch))
	b[offMagic] = 2
	be.PutUint32(b[offLastDelta:], uint32(last-first))
	for _, at := range [...]int{offBaseTime, offMaxTime, offPID} {
		be.PutUint64(b[at:], 1<<64-1)
	}
	be.PutUint16(b[offPEpoch:], 1<<16-1)
	be.PutUint32(b[offSeq:], 1<<32-1)
	b.seal()
	return b
}

// Filling reports whether b is a Filler.
func (b Batch) Filling() bool { return b.Count() == 0 && b.ProducerID() < 0 && !b.Control() }
