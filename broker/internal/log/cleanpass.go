package log

import (
	"crypto/sha256"
	"errors"
	"io/fs"
	"slices"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// keyHash stands for a key: 128 bits of SHA-256, so that nobody can make two keys that are taken for one.
type keyHash [16]byte

func hashKey(key []byte) keyHash {
	sum := sha256.Sum256(key)
	return keyHash(sum[:16])
}

// errMapFull ends the reading of keys early.
var errMapFull = errors.New("log: enough keys for one pass")

// readKeys notes the latest offset of every key in the dirty part.
func (p *cleaning) readKeys() error {
	p.latest = map[keyHash]int64{}
	p.mapEnd = p.ends[len(p.ends)-1]
	for i, s := range p.segs {
		if p.ends[i] <= p.from {
			continue
		}
		pos, err := s.scan(p.files[i], 0, s.size.Load(), s.base, func(b record.Batch, _ int64) error {
			if err := p.ended(); err != nil {
				return err
			}
			if b.LastOffset() < p.from || b.Control() || p.isAborted(b) {
				return nil
			}
			it := record.NewIterator(b, &p.l.dec)
			for it.Next() { // a batch that cannot be read stays as it is: nobody else can read it either
				if r := it.Record(); r.Key != nil && r.Offset >= p.from {
					p.latest[hashKey(r.Key)] = r.Offset
				}
			}
			if len(p.latest) >= p.maxKeys && b.LastOffset()+1 > p.from {
				p.mapEnd = b.LastOffset() + 1
				return errMapFull
			}
			return nil
		})
		if errors.Is(err, errMapFull) {
			return nil
		}
		if err != nil {
			return p.scanFailed(s, pos, err)
		}
	}
	return nil
}

func (p *cleaning) scanFailed(s *segment, pos int64, err error) error {
	if ended := p.ended(); ended != nil {
		return ended
	}
	if errors.Is(err, record.ErrCorrupt) || errors.Is(err, record.ErrShort) {
		err = corruption(s.name, pos, err)
	}
	return p.l.readFailed(err)
}

// isAborted reports whether b belongs to a transaction that was aborted.
func (p *cleaning) isAborted(b record.Batch) bool {
	return b.Transactional() && !b.Control() && slices.ContainsFunc(p.aborted[b.ProducerID()], func(t AbortedTxn) bool {
		return t.FirstOffset <= b.BaseOffset() && b.BaseOffset() <= t.LastOffset
	})
}

// rewrite makes a new file of a segment and swaps it in, unless everything stays.
func (p *cleaning) rewrite(i int) error {
	old := p.segs[i]
	w, err := newCleanWriter(p, old)
	if err != nil {
		return storageError(p.cfg.Name, "write "+old.name+cleanedSuffix, err)
	}
	pos, err := old.scan(p.files[i], 0, old.size.Load(), old.base, func(b record.Batch, _ int64) error {
		if err := p.ended(); err != nil {
			return err
		}
		out, err := p.batch(b)
		if err != nil {
			return err
		}
		return w.put(b, out)
	})
	if err == nil {
		err = w.finish(p.ends[i])
	}
	if err == nil && w.changed {
		w.keepAborted(old)
		return p.swap(old, w.seg, p.ends[i])
	}
	w.close()
	if rerr := p.l.fsys.Remove(old.name + cleanedSuffix); rerr != nil && !errors.Is(rerr, fs.ErrNotExist) && err == nil {
		err = rerr
	}
	if err != nil {
		return p.scanFailed(old, pos, err)
	}
	return nil
}

// batch says what is left of a batch: b itself, another of the same offsets, or nil for nothing.
func (p *cleaning) batch(b record.Batch) (record.Batch, error) {
	var out record.Batch
	var err error
	switch {
	case b.Control():
		return p.marker(b)
	case b.BaseOffset() >= p.mapEnd:
		out = b
	case b.Count() > 0 && !p.isAborted(b):
		if out, err = p.records(b); err != nil {
			return nil, err
		}
	}
	if out == nil && p.remembered[b.LastOffset()] && b.ProducerID() >= 0 {
		out = b
		if b.Count() > 0 {
			out = record.Emptied(b)
		}
	}
	if out != nil && b.Transactional() {
		p.unfinished[b.ProducerID()] = true
	}
	return out, nil
}

// marker keeps the end of a transaction as long as anything of the transaction is left, and for the retention of
// tombstones after that: a reader may have passed the records and not the marker.
func (p *cleaning) marker(b record.Batch) (record.Batch, error) {
	_, known, err := record.ParseMarker(b)
	if err != nil || !known {
		return b, nil //nolint:nilerr // not a marker we know: nothing can be said about it
	}
	needed := p.unfinished[b.ProducerID()] || p.remembered[b.LastOffset()] || b.BaseOffset() >= p.mapEnd
	delete(p.unfinished, b.ProducerID())
	if needed {
		return b, nil
	}
	if horizon, ok := b.DeleteHorizon(); ok {
		if horizon > p.now {
			return b, nil
		}
		return nil, nil
	}
	var recs []record.Record
	it := record.NewIterator(b, nil)
	for it.Next() {
		recs = append(recs, *it.Record())
	}
	return p.rebuilder.Rebuild(b, recs, p.horizon())
}

func (p *cleaning) horizon() int64 {
	return max(0, p.now+p.cfg.TombstoneRetention.Milliseconds())
}

// records keeps what is the latest of its key. A tombstone stays until the horizon that its batch is given when it is
// first met.
func (p *cleaning) records(b record.Batch) (record.Batch, error) {
	horizon, has := b.DeleteHorizon()
	var keep []record.Record
	tombstones := false
	it := record.NewIterator(b, &p.l.dec)
	for it.Next() {
		r := it.Record()
		if r.Key == nil {
			continue
		}
		if at, ok := p.latest[hashKey(r.Key)]; ok && at > r.Offset {
			continue
		}
		if r.Value == nil {
			if has && horizon <= p.now {
				continue
			}
			tombstones = true
		}
		kept := *r
		kept.Headers = slices.Clone(r.Headers) // the iterator's own
		keep = append(keep, kept)
	}
	set := tombstones && !has
	switch {
	case it.Err() != nil:
		return b, nil //nolint:nilerr // see readKeys
	case len(keep) == 0:
		return nil, nil
	case len(keep) == int(b.Count()) && !set:
		return b, nil
	case set:
		return p.rebuilder.Rebuild(b, keep, p.horizon())
	}
	return p.rebuilder.Rebuild(b, keep, -1)
}

// cleanWriter writes the file that is to take a segment's place.
type cleanWriter struct {
	p       *cleaning
	seg     *segment // its description, ready for the view when it is finished
	file    vfs.File
	buf     []byte // not written yet
	changed bool
	markers map[int64]bool // offsets of markers that stay

	// A run of batches that go.
	from  int64 // its first offset, -1 if there is none
	epoch int32
	only  record.Batch // the filler of an earlier pass, as long as the run is nothing else
}

const cleanBufferBytes = 1 << 20

func newCleanWriter(p *cleaning, old *segment) (*cleanWriter, error) {
	f, err := p.l.fsys.Create(old.name + cleanedSuffix)
	if err != nil {
		return nil, err
	}
	return &cleanWriter{p: p, seg: newSegment(old.fsys, old.dir, old.base), file: f, from: -1, markers: map[int64]bool{}}, nil
}

// put takes what is left of b.
func (w *cleanWriter) put(b, left record.Batch) error {
	if left == nil {
		if w.from < 0 {
			w.from, w.epoch = b.BaseOffset(), b.LeaderEpoch()
			if b.Filling() {
				w.only = append(w.only[:0], b...)
				return nil
			}
		}
		w.only, w.changed = nil, true
		return nil
	}
	if err := w.endRun(b.BaseOffset()); err != nil {
		return err
	}
	w.changed = w.changed || len(left) != len(b) || &left[0] != &b[0]
	if left.Control() {
		w.markers[left.BaseOffset()] = true
	}
	return w.write(left)
}

// endRun puts one empty batch in the place of those that go.
func (w *cleanWriter) endRun(next int64) error {
	if w.from < 0 {
		return nil
	}
	b := w.only
	if b == nil {
		b = record.Filler(w.from, next-1, w.epoch)
	}
	w.from, w.only = -1, nil
	return w.write(b)
}

func (w *cleanWriter) write(b record.Batch) error {
	w.seg.note(b, w.seg.size.Load(), w.p.cfg.IndexIntervalBytes)
	w.buf = append(w.buf, b...)
	if len(w.buf) < cleanBufferBytes {
		return nil
	}
	return w.flush()
}

func (w *cleanWriter) flush() error {
	_, err := w.file.WriteAt(w.buf, w.seg.size.Load()-int64(len(w.buf)))
	w.buf = w.buf[:0]
	return err
}

// finish makes the file durable; its name is not yet.
func (w *cleanWriter) finish(end int64) error {
	err := w.endRun(end)
	if err == nil {
		err = w.flush()
	}
	if err == nil && w.changed {
		err = w.file.SyncData()
	}
	err = errors.Join(err, w.close())
	w.seg.lastSync = w.seg.size.Load()
	w.seg.loaded.Store(true)
	return err
}

func (w *cleanWriter) close() (err error) {
	if w.file != nil {
		err = w.file.Close()
		w.file = nil
	}
	return err
}

// keepAborted takes over the aborted transactions whose marker stays. Without the marker, an entry would make a reader
// skip the producer's next transaction, too.
func (w *cleanWriter) keepAborted(old *segment) {
	for _, e := range old.aborted.all() {
		if w.markers[e.LastOffset] {
			w.seg.aborted.add(e)
		}
	}
}
