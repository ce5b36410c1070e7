package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/objstorage/objstorageprovider"
	"github.com/cockroachdb/pebble/v2/sstable"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Restored is one record of a changelog. A nil Value deletes.
type Restored struct {
	Key, Value []byte
	// Time is the record's timestamp in milliseconds.
	Time int64
}

// ingestMin is the number of records from which a sorted table beats a batch.
const ingestMin = 32 << 10

// restoredKey is one record under its local key.
type restoredKey struct {
	hi  uint64 // first bytes of key after the prefix, for the sort
	key []byte
	rec int
}

// Restore writes changelog records, of which the last one of each key counts, and the position that they bring the
// shard to, atomically. Large calls (tens of thousands of records) are faster: they are ingested as sorted tables. recs
// is neither kept nor changed.
func (s *Shard) Restore(recs []Restored, pos Position) error {
	if err := s.db.acquire(); err != nil {
		return err
	}
	defer s.db.release()
	if s.versions {
		if err := s.restoreVersions(recs, pos); err != nil {
			return fmt.Errorf("state: restore %s/%d: %w", s.name.store, s.name.partition, err)
		}
		return nil
	}
	keys, err := s.localKeys(recs)
	if err == nil {
		if len(keys) >= ingestMin && s.eng.medium == Disk && s.eng.own == nil {
			err = s.ingest(keys, recs, pos)
		} else {
			err = s.restoreBatch(keys, recs, pos)
		}
	}
	if err != nil {
		return fmt.Errorf("state: restore %s/%d: %w", s.name.store, s.name.partition, err)
	}
	s.withOwner(func(o owner) {
		for _, k := range keys {
			o.forget(k.key[4:])
		}
	})
	return nil
}

// CheckKey reports what is wrong with the key of a changelog record, which Restore would not take: an ErrCorrupt. Any
// goroutine may call it.
func (s *Shard) CheckKey(k []byte) error {
	switch {
	case s.sessions && len(k) < 16:
		return fmt.Errorf("%w: session key of %d bytes, want at least 16", ErrCorrupt, len(k))
	case s.sessions || !s.windowed:
	case len(k) < 12:
		return fmt.Errorf("%w: window key of %d bytes, want at least 12", ErrCorrupt, len(k))
	default:
		if seq := binary.BigEndian.Uint32(k[len(k)-4:]); seq != 0 {
			return fmt.Errorf("%w: window key with sequence %d, want 0", ErrCorrupt, seq)
		}
	}
	return nil
}

// localKeys returns the records' keys as Pebble has them, sorted, and of each key the last record only.
func (s *Shard) localKeys(recs []Restored) ([]restoredKey, error) {
	size := 0
	for i := range recs {
		size += 4 + len(recs[i].Key)
	}
	arena, prefix := make([]byte, 0, size), s.prefix()
	keys := make([]restoredKey, len(recs))
	for i := range recs {
		at := len(arena)
		arena = append(arena, prefix...)
		k := recs[i].Key
		if s.sessions {
			n := len(k) - 16
			if err := s.CheckKey(k); err != nil {
				return nil, err
			}
			arena = append(append(arena, k[n:n+8]...), k[:n]...)
			k = k[n+8:]
		} else if s.windowed {
			n := len(k) - 12
			if err := s.CheckKey(k); err != nil {
				return nil, err
			}
			arena = append(arena, k[n:n+8]...)
			k = k[:n]
		}
		arena = append(arena, k...)
		keys[i] = restoredKey{hi: firstEight(arena[at+4:]), key: arena[at:len(arena):len(arena)], rec: i}
	}
	slices.SortFunc(keys, func(a, b restoredKey) int {
		if a.hi != b.hi {
			if a.hi < b.hi {
				return -1
			}
			return 1
		}
		if c := bytes.Compare(a.key, b.key); c != 0 {
			return c
		}
		return b.rec - a.rec // the last record first: Compact keeps it
	})
	return slices.CompactFunc(keys, func(a, b restoredKey) bool { return a.hi == b.hi && bytes.Equal(a.key, b.key) }), nil
}

// firstEight is b's first bytes as a number in the same order; shorter ones are padded with zeros.
func firstEight(b []byte) uint64 {
	if len(b) >= 8 {
		return binary.BigEndian.Uint64(b)
	}
	var p [8]byte
	copy(p[:], b)
	return binary.BigEndian.Uint64(p[:])
}

func appendTimed(dst []byte, r *Restored) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(r.Time))
	return append(dst, r.Value...)
}

func (s *Shard) restoreBatch(keys []restoredKey, recs []Restored, pos Position) error {
	b := s.eng.db.NewBatch()
	defer b.Close()
	var buf []byte
	for _, k := range keys {
		var err error
		if r := &recs[k.rec]; r.Value == nil {
			err = b.Delete(k.key, nil)
		} else {
			buf = appendTimed(buf[:0], r)
			err = b.Set(k.key, buf, nil)
		}
		if err != nil {
			return err
		}
	}
	for _, x := range s.indexes {
		ops, err := s.indexChanges(x, keys, recs)
		if err != nil {
			return err
		}
		for _, op := range ops {
			if op.gone {
				err = b.Delete(op.key, nil)
			} else {
				err = b.Set(op.key, nil, nil)
			}
			if err != nil {
				return err
			}
		}
	}
	if err := b.Set(number(s.number), pos.append(nil), nil); err != nil {
		return err
	}
	s.eng.wrote(int(b.Count()))
	return s.eng.commit(b)
}

// ingest writes one sorted table with the position as its first key, and one for each index; they come in together. Pebble flushes the memtables that overlap it
// first, and every earlier batch of the shard holds that key: so the shard stays a prefix of its batches. The catalogue
// entry has a key of its own, and is flushed here, once.
func (s *Shard) ingest(keys []restoredKey, recs []Restored, pos Position) error {
	if err := s.settle(); err != nil {
		return err
	}
	var paths []string
	path, err := s.sorted(func(w *sstable.Writer) error {
		err := w.Set(number(s.number), pos.append(nil))
		var buf []byte
		for i := 0; i < len(keys) && err == nil; i++ {
			if r := &recs[keys[i].rec]; r.Value == nil {
				err = w.Delete(keys[i].key)
			} else {
				buf = appendTimed(buf[:0], r)
				err = w.Set(keys[i].key, buf)
			}
		}
		return err
	})
	paths = append(paths, path)
	for i := 0; i < len(s.indexes) && err == nil; i++ {
		var ops []indexOp
		if ops, err = s.indexChanges(s.indexes[i], keys, recs); err != nil || len(ops) == 0 {
			continue
		}
		path, err = s.sorted(func(w *sstable.Writer) error {
			for _, op := range ops {
				if op.gone {
					err = w.Delete(op.key)
				} else {
					err = w.Set(op.key, nil)
				}
				if err != nil {
					return err
				}
			}
			return nil
		})
		paths = append(paths, path)
	}
	if err != nil {
		for _, p := range paths {
			s.db.opt.FS.Remove(p) // one that is not removed goes when the database is opened
		}
		return err
	}
	return firstError(s.eng.db.Ingest(context.Background(), paths), s.eng.failed())
}

// sorted writes a sorted table that is to be ingested, and returns its path.
func (s *Shard) sorted(write func(*sstable.Writer) error) (string, error) {
	fs := s.db.opt.FS
	path := fs.PathJoin(s.db.opt.Dir, ingestDir, fmt.Sprintf("%d.sst", s.db.ingested.Add(1)))
	f, err := fs.Create(path, vfs.WriteCategoryUnspecified)
	if err != nil {
		return path, fmt.Errorf("create %s: %w; %s", path, err, seeToDisk)
	}
	w := sstable.NewWriter(objstorageprovider.NewFileWritable(f), sstable.WriterOptions{
		TableFormat: s.eng.db.TableFormat(), FilterPolicy: bloom.FilterPolicy(10), FilterType: sstable.TableFilter})
	if err := firstError(write(w), w.Close()); err != nil {
		return path, fmt.Errorf("write %s: %w; %s", path, err, seeToDisk)
	}
	return path, nil
}

// settle makes sure that the catalogue entry is on disk.
func (s *Shard) settle() error {
	s.mu.Lock()
	settled := s.mu.settled
	s.mu.Unlock()
	if settled {
		return nil
	}
	if err := s.eng.flush(); err != nil {
		return err
	}
	s.mu.Lock()
	s.mu.settled = true
	s.mu.Unlock()
	return nil
}
