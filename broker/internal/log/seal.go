package log

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// seal is the content of a .seal file: the statement that the first size bytes of the .log were on disk, whole and
// right, when it was written, and what the index files next to it are for. It is written when a segment is rolled and
// when a log is closed, after the .log was synced. A segment of exactly that size needs no look at its batches when the
// log is opened; one that is larger is looked at from there on.
//
// None of the index files is synced, nor is the seal: it holds their checksums and its own, and what does not agree is
// built again from the .log.
type seal struct {
	size    int64 // bytes of the .log
	end     int64 // offset after the last record
	maxTS   int64
	maxAt   int64 // last offset of the batch with maxTS
	firstTS int64
	flags   uint32    // sealGaps
	sums    [3]uint32 // CRC-32C of .index, .timeindex, .txnindex
}

// sealGaps says that offsets are missing in the segment, as compaction leaves it. In any other, batches follow each
// other without a gap, which is checked: the CRC of a batch does not cover its offset.
const sealGaps = 1

const (
	sealMagic = "LEATSEA1"
	sealBytes = 8 + 5*8 + 4*4 + 4
	// maxIndexBytes bounds an index file: an entry of 12 bytes for each batch of a 2 GiB segment at the least.
	maxIndexBytes = 1 << 30
)

var errBadSeal = errors.New("seal is damaged")

func (s *seal) encode() []byte {
	be := binary.BigEndian
	out := append(make([]byte, 0, sealBytes), sealMagic...)
	for _, v := range [...]int64{s.size, s.end, s.maxTS, s.maxAt, s.firstTS} {
		out = be.AppendUint64(out, uint64(v))
	}
	out = be.AppendUint32(out, s.flags)
	for _, v := range s.sums {
		out = be.AppendUint32(out, v)
	}
	return be.AppendUint32(out, crc32.Checksum(out, castagnoli))
}

func decodeSeal(b []byte) (seal, error) {
	be := binary.BigEndian
	if len(b) != sealBytes || string(b[:8]) != sealMagic || crc32.Checksum(b[:sealBytes-4], castagnoli) != be.Uint32(b[sealBytes-4:]) {
		return seal{}, errBadSeal
	}
	v := func(i int) int64 { return int64(be.Uint64(b[8+8*i:])) }
	s := seal{size: v(0), end: v(1), maxTS: v(2), maxAt: v(3), firstTS: v(4)}
	s.flags = be.Uint32(b[48:])
	for i := range s.sums {
		s.sums[i] = be.Uint32(b[52+4*i:])
	}
	return s, nil
}

// readSeal returns the seal of a segment; false if there is none that is whole.
func (s *segment) readSeal() (seal, bool) {
	b, err := vfs.ReadFile(s.fsys, fileName(s.dir, s.base, ".seal"), sealBytes)
	if err != nil {
		return seal{}, false
	}
	v, err := decodeSeal(b)
	return v, err == nil
}

// writeSeal writes the index files, the snapshot taken at the roll and the seal. The .log must be synced up to size
// and nobody may append meanwhile; end is the offset after the last record.
func (s *segment) writeSeal(size, end int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.dropped || !s.loaded.Load() {
		return nil
	}
	s.noteTime()
	if size == s.mu.seal.size && end == s.mu.seal.end && size > 0 {
		return nil // nothing has changed since
	}
	v := seal{size: size, end: end, maxTS: s.mu.maxTS, maxAt: s.mu.maxAt, firstTS: s.firstTS, flags: s.mu.seal.flags & sealGaps}
	files := [...]struct {
		suffix string
		data   []byte
	}{
		{".index", encodeOffsets(s.offsets.all())},
		{".timeindex", encodeTimes(s.times.all())},
		{".txnindex", encodeAborted(s.aborted.all())},
	}
	for i, f := range files {
		v.sums[i] = crc32.Checksum(f.data, castagnoli)
		name := fileName(s.dir, s.base, f.suffix)
		if f.suffix == ".txnindex" && len(f.data) == 0 {
			// As in Kafka, a segment without aborted transactions has no such file.
			if err := s.fsys.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			continue
		}
		if err := vfs.WriteFile(s.fsys, name, f.data); err != nil {
			return err
		}
	}
	if s.snapshot != nil {
		if err := vfs.WriteFile(s.fsys, fileName(s.dir, end, ".snapshot"), s.snapshot); err != nil {
			return err
		}
		s.snapshot = nil
	}
	if err := vfs.WriteFile(s.fsys, fileName(s.dir, s.base, ".seal"), v.encode()); err != nil {
		return err
	}
	s.mu.seal = v
	return nil
}

// loadIndexes reads the index files that a seal vouches for. It returns false if any is not what it says.
func (s *segment) loadIndexes(v seal) bool {
	var data [3][]byte
	for i, suffix := range [...]string{".index", ".timeindex", ".txnindex"} {
		b, err := vfs.ReadFile(s.fsys, fileName(s.dir, s.base, suffix), maxIndexBytes)
		if err != nil && !errors.Is(err, fs.ErrNotExist) || crc32.Checksum(b, castagnoli) != v.sums[i] {
			return false
		}
		data[i] = b
	}
	s.offsets.reset(decodeOffsets(data[0]))
	s.times.reset(decodeTimes(data[1]))
	s.aborted.reset(decodeAborted(data[2]))
	s.mu.maxTS, s.mu.maxAt, s.firstTS = v.maxTS, v.maxAt, v.firstTS
	s.sinceIndex = int(v.size) // the next batch gets an entry: where the last one was counted from is not known
	return true
}

// load brings the indexes of a closed segment into memory, by reading or else by building them from the batches. The
// caller holds a reference. rebuildAborted makes the list of aborted transactions, which one segment alone does not
// tell.
func (s *segment) load(file vfs.File, interval int, rebuildAborted func() ([]abortedEntry, error)) error {
	if s.loaded.Load() {
		return nil
	}
	s.mu.Lock()
	if s.loaded.Load() || s.loadIndexes(s.mu.seal) {
		s.loaded.Store(true)
		s.mu.Unlock()
		return nil
	}
	size := s.size.Load()
	s.mu.Unlock()
	// Into a twin, so that readers meet all of it or nothing.
	twin := newSegment(s.fsys, s.dir, s.base)
	twin.mu.seal.flags = s.mu.seal.flags
	pos, err := twin.scan(file, 0, size, s.base, func(b record.Batch, pos int64) error {
		twin.note(b, pos, interval)
		return nil
	})
	if err != nil {
		return corruption(s.name, pos, err)
	}
	aborted, err := rebuildAborted()
	if err != nil {
		return fmt.Errorf("rebuild transaction index of %s: %w", s.name, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.loaded.Load() {
		return nil
	}
	s.offsets.reset(twin.offsets.all())
	s.times.reset(twin.times.all())
	s.aborted.reset(aborted)
	s.mu.maxTS, s.mu.maxAt, s.firstTS = twin.mu.maxTS, twin.mu.maxAt, twin.firstTS
	s.verified.Store(size)
	s.mu.seal = seal{flags: s.mu.seal.flags} // what is on disk does not hold; it is written anew at the next close
	s.loaded.Store(true)
	return nil
}
