package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// ShardIndex describes a secondary index over the rows of a key-value shard. Its entries are written in the same batch as
// the rows, by typed stores and by Restore alike, so they cannot disagree. An index that is new to a shard, or has another
// version than it was built with, is built when the shard is opened; one that is not declared any more is removed.
type ShardIndex struct {
	Name string
	// Version is to change when Value does, so that the index is built anew.
	Version uint32
	// Value appends what a row is found by to dst; false: the row is not in the index. It has to follow from key and value
	// alone. Several goroutines may call it.
	Value func(dst, key, value []byte) ([]byte, bool, error)
}

// ErrNoIndex is wrapped by the error of a lookup in an index that the store does not have.
var ErrNoIndex = errors.New("state: no such index")

// shardIndex is an index of one shard. Like a shard it has two numbers in the engine: the even one is the key of its
// version, written when it has been built; the odd one stands before its entries. An entry is the escaped value, then the
// row's local key; it holds nothing.
type shardIndex struct {
	ShardIndex
	number uint32
}

func (x *shardIndex) prefix() []byte { return number(x.number + 1) }
func (x *shardIndex) limit() []byte  { return number(x.number + 2) }

const buildBatch = 4096 // entries of one batch while an index is built

// indexNames begin with the store's name and a byte that no store's name has.
func (n shardName) index(name string) shardName {
	n.store += "\x00" + name
	return n
}

// escape appends a value so that entries sort as the values do, and end before the key: zero is written as 0 255, the end
// as 0 1.
func escape(dst, value []byte) []byte {
	for _, b := range value {
		if dst = append(dst, b); b == 0 {
			dst = append(dst, 0xff)
		}
	}
	return append(dst, 0, 1)
}

// split finds the row's key in an entry without its prefix.
func split(entry []byte) (value, key []byte, err error) {
	for i := 0; i+1 < len(entry); i++ {
		if entry[i] != 0 {
			continue
		}
		if i++; entry[i] == 1 {
			return entry[:i+1], entry[i+1:], nil
		}
	}
	return nil, nil, fmt.Errorf("%w: index entry of %d bytes without an end", ErrCorrupt, len(entry))
}

// entry appends the index's key in the engine of a row, without prefix if dst has it; nil if the row is not in it.
func (x *shardIndex) entry(dst, buf, key, value []byte) (entry, spare []byte, err error) {
	v, ok, err := x.Value(buf[:0], key, value)
	if err != nil || !ok {
		if err != nil {
			err = fmt.Errorf("index %q: %w", x.Name, err)
		}
		return nil, buf, err
	}
	return append(escape(append(dst, x.prefix()...), v), key...), v, nil
}

// setIndexes numbers a new shard's indexes and removes those that are not declared any more. The database is locked.
func (db *DB) setIndexes(s *Shard, declared []ShardIndex) error {
	if len(declared) > 0 && (s.windowed || s.versions) {
		return errors.New("indexes are for key-value stores without versions")
	}
	kept := make(map[string]bool, len(declared))
	for _, d := range declared {
		if d.Name == "" || kept[d.Name] {
			return fmt.Errorf("index %q: a name of its own is needed", d.Name)
		}
		kept[d.Name] = true
		x := &shardIndex{ShardIndex: d}
		n, _, err := db.numberOf(s.eng, s.name.index(d.Name), 0)
		if err != nil {
			return fmt.Errorf("index %q: %w", d.Name, err)
		}
		x.number = n
		s.indexes = append(s.indexes, x)
	}
	return s.dropIndexes(kept)
}

// dropIndexes removes the indexes that are not among those kept.
func (s *Shard) dropIndexes(kept map[string]bool) error {
	from, to := catalogueKey(s.name.index("")), catalogueKey(s.name.index(""))
	to[len(to)-1] = 1
	it, err := s.eng.newIter(from, to)
	if err != nil {
		return err
	}
	b := s.eng.db.NewBatch()
	defer b.Close()
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var v []byte
		if v, err = it.ValueAndErr(); err != nil || kept[string(it.Key()[len(from):])] {
			continue
		}
		n := binary.BigEndian.Uint32(v)
		err = firstError(b.DeleteRange(number(n), number(n+2), nil), b.Delete(slices.Clone(it.Key()), nil))
	}
	if err = firstError(err, it.Error(), it.Close()); err != nil || b.Empty() {
		return err
	}
	s.eng.wrote(int(b.Count()))
	return s.eng.commit(b)
}

// buildIndexes builds the indexes that the shard does not have, or has in another version. A crash on the way leaves none
// that counts as built.
func (s *Shard) buildIndexes() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.mu.indexed {
		return nil
	}
	for _, x := range s.indexes {
		have, c, err := s.eng.get(number(x.number))
		built := err == nil && bytes.Equal(have, number(x.Version))
		if err == nil {
			err = c.Close()
		} else if errors.Is(err, pebble.ErrNotFound) {
			err = nil
		}
		if err == nil && !built {
			err = s.build(x)
		}
		if err != nil {
			return fmt.Errorf("state: index %q of %s/%d: %w", x.Name, s.name.store, s.name.partition, err)
		}
	}
	s.mu.indexed = true
	return nil
}

func (s *Shard) build(x *shardIndex) error {
	b := s.eng.db.NewBatch()
	defer func() { b.Close() }()
	if err := b.DeleteRange(number(x.number), x.limit(), nil); err != nil {
		return err
	}
	it, err := s.newIter(span{})
	if err != nil {
		return err
	}
	var entry, buf []byte
	rows := 0
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var v []byte
		if v, err = it.ValueAndErr(); err != nil {
			break
		}
		if len(v) < 8 {
			err = fmt.Errorf("%w: stored value of %d bytes", ErrCorrupt, len(v))
			break
		}
		var e []byte
		if e, buf, err = x.entry(entry[:0], buf, it.Key()[4:], v[8:]); err != nil || e == nil {
			continue
		}
		entry = e
		if err = b.Set(entry, nil, nil); err == nil && b.Count() >= buildBatch {
			s.eng.wrote(int(b.Count()))
			err = firstError(s.eng.commit(b), b.Close())
			b = s.eng.db.NewBatch()
		}
		rows++
	}
	if err = firstError(err, it.Error(), it.Close()); err != nil {
		return err
	}
	if err := b.Set(number(x.number), number(x.Version), nil); err != nil {
		return err
	}
	if rows > 0 {
		s.db.opt.Logger.Info("state: index built", "store", s.name.store, "partition", s.name.partition, "index", x.Name, "rows", rows)
	}
	s.eng.wrote(int(b.Count()))
	return s.eng.commit(b)
}

// indexOp is a change of an index: its key in the engine comes or goes.
type indexOp struct {
	key  []byte
	gone bool
}

// indexChanges are the changes that restored records make in an index, in the order of the index's keys. They are found by
// what the rows were.
func (s *Shard) indexChanges(x *shardIndex, keys []restoredKey, recs []Restored) (ops []indexOp, err error) {
	it, err := s.newIter(span{})
	if err != nil {
		return nil, err
	}
	defer func() { err = firstError(err, it.Close()) }()
	some := it.First()
	var was, is, buf []byte
	for _, k := range keys {
		var old, now []byte
		if some && it.SeekGE(k.key) && bytes.Equal(it.Key(), k.key) {
			v, err := it.ValueAndErr()
			if err != nil {
				return nil, err
			}
			if old, buf, err = x.entry(was[:0], buf, k.key[4:], v[8:]); err != nil {
				return nil, err
			}
		}
		if r := &recs[k.rec]; r.Value != nil {
			if now, buf, err = x.entry(is[:0], buf, k.key[4:], r.Value); err != nil {
				return nil, err
			}
		}
		if old != nil && now != nil && bytes.Equal(old, now) {
			continue
		}
		if old != nil {
			ops, was = append(ops, indexOp{key: bytes.Clone(old), gone: true}), old
		}
		if now != nil {
			ops, is = append(ops, indexOp{key: bytes.Clone(now)}), now
		}
	}
	slices.SortFunc(ops, func(a, b indexOp) int { return bytes.Compare(a.key, b.key) })
	return ops, it.Error()
}

// wipe empties the shard's indexes, which are then built of nothing.
func (x *shardIndex) wipe(b *pebble.Batch) error { return b.DeleteRange(x.prefix(), x.limit(), nil) }

// index finds an index by its name.
func (s *Shard) index(name string) (*shardIndex, error) {
	for _, x := range s.indexes {
		if x.Name == name {
			return x, nil
		}
	}
	return nil, fmt.Errorf("%w: store %q has none named %q: list it in the store's Indexes", ErrNoIndex, s.name.store, name)
}
