// Package dump reads the files of a partition's log as they lie on disk, without a broker: Leat's, and Apache Kafka's, which have
// the same format.
//
// The files of a log that is open may change while they are read; then the last batch may look cut off.
package dump

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/leatstream/leat/broker/internal/record"
)

// maxBatchBytes bounds one batch: a larger size is taken for damage.
const maxBatchBytes = 1 << 30

// ErrDamaged marks what is no valid batch.
var ErrDamaged = errors.New("dump: damaged")

// Batch is a record batch and where it lies.
type Batch struct {
	Position      int64  `json:"position"` // in the file, in bytes
	Size          int    `json:"size"`     // in bytes
	BaseOffset    int64  `json:"base_offset"`
	LastOffset    int64  `json:"last_offset"`
	Count         int32  `json:"count"`
	BaseSequence  int32  `json:"base_sequence"`
	LastSequence  int32  `json:"last_sequence"`
	ProducerID    int64  `json:"producer_id"`
	ProducerEpoch int16  `json:"producer_epoch"`
	LeaderEpoch   int32  `json:"leader_epoch"`
	Transactional bool   `json:"transactional"`
	Control       bool   `json:"control"`
	MaxTimestamp  int64  `json:"max_timestamp"` // milliseconds since 1970
	Compression   string `json:"compression"`   // none, gzip, snappy, lz4, zstd
	CRC           uint32 `json:"crc"`
	CRCValid      bool   `json:"crc_valid"`
	Marker        string `json:"marker"`         // COMMIT or ABORT, of the marker of a transaction; else ""
	DeleteHorizon int64  `json:"delete_horizon"` // milliseconds since 1970, -1 if there is none
	// Records are nil unless asked for. Their bytes are the caller's.
	Records []Record `json:"records"`
}

// Record is one record of a batch.
type Record struct {
	Offset    int64    `json:"offset"`
	Timestamp int64    `json:"timestamp"` // milliseconds since 1970
	Key       []byte   `json:"key"`
	Value     []byte   `json:"value"`
	Headers   []Header `json:"headers"`
}

// Header is a record's header.
type Header struct {
	Key   string `json:"key"`
	Value []byte `json:"value"`
}

// Segment reads a .log file and calls f with each batch, with its records if they are asked for. A batch with a wrong CRC is
// given to f without records, as CRCValid says. What follows the last batch, zeros of a file that was not closed or damage, ends it
// with an error marked [ErrDamaged] unless it is only zeros. An error of f ends it, too.
func Segment(r io.Reader, records bool, f func(Batch) error) error {
	in := bufio.NewReaderSize(r, 256<<10)
	position := int64(0)
	for {
		head, err := in.Peek(12)
		switch {
		case err == io.EOF && allZero(head):
			return nil
		case err == io.EOF:
			return fmt.Errorf("%w: %d bytes after the last batch, at position %d", ErrDamaged, len(head), position)
		case err != nil:
			return err
		}
		if allZero(head) {
			return zeros(in, position)
		}
		size := int64(int32(binary.BigEndian.Uint32(head[8:]))) + 12
		if size < record.HeaderBytes || size > maxBatchBytes {
			return fmt.Errorf("%w: a batch of %d bytes at position %d", ErrDamaged, size, position)
		}
		data, err := io.ReadAll(io.LimitReader(in, size)) // grows with what is there, not with what the header says
		if err != nil {
			return err
		}
		if int64(len(data)) < size {
			return fmt.Errorf("%w: the batch at position %d has %d of its %d bytes", ErrDamaged, position, len(data), size)
		}
		b, err := read(data, records)
		if err != nil {
			return fmt.Errorf("%w: batch at position %d: %w", ErrDamaged, position, err)
		}
		b.Position = position
		position += size
		if err := f(b); err != nil {
			return err
		}
	}
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// zeros reads the rest of the file, which was reserved and never written.
func zeros(in *bufio.Reader, position int64) error {
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		if !allZero(buf[:n]) {
			return fmt.Errorf("%w: zeros at position %d, then something else", ErrDamaged, position)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

func read(data []byte, records bool) (Batch, error) {
	raw, err := record.Parse(data)
	if err != nil {
		return Batch{}, err
	}
	b := Batch{
		Size: len(data), BaseOffset: raw.BaseOffset(), LastOffset: raw.LastOffset(), Count: raw.Count(),
		BaseSequence: raw.BaseSequence(), LastSequence: raw.LastSequence(), ProducerID: raw.ProducerID(), ProducerEpoch: raw.ProducerEpoch(),
		LeaderEpoch: raw.LeaderEpoch(), Transactional: raw.Transactional(), Control: raw.Control(), MaxTimestamp: raw.MaxTimestamp(),
		Compression: codecName(raw.Codec()), CRC: raw.CRC(), CRCValid: raw.CheckCRC() == nil, DeleteHorizon: -1,
	}
	if ms, ok := raw.DeleteHorizon(); ok {
		b.DeleteHorizon = ms
	}
	if !b.CRCValid {
		return b, nil
	}
	if b.Control {
		if m, known, err := record.ParseMarker(raw); err == nil && known {
			b.Marker = "ABORT"
			if m.Commit {
				b.Marker = "COMMIT"
			}
		}
	}
	if records && !b.Control {
		it := record.NewIterator(raw, nil)
		for it.Next() {
			r := it.Record()
			one := Record{Offset: r.Offset, Timestamp: r.Timestamp, Key: r.Key, Value: r.Value, Headers: []Header{}}
			for _, h := range r.Headers {
				one.Headers = append(one.Headers, Header{h.Key, h.Value})
			}
			b.Records = append(b.Records, one)
		}
		if err := it.Err(); err != nil {
			return b, err
		}
	}
	return b, nil
}

func codecName(c record.Codec) string {
	names := [...]string{"none", "gzip", "snappy", "lz4", "zstd"}
	if int(c) < len(names) && c >= 0 {
		return names[c]
	}
	return fmt.Sprintf("codec %d", c)
}
