package state

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/cockroachdb/pebble/v2"
)

// Position returns where the data of a store and partition stand that the directory has on disk, without making a shard of
// it; false if it has none. Whoever gives out tasks prefers an instance that has most of their state.
func (db *DB) Position(store string, partition int32) (Position, bool) {
	if err := db.acquire(); err != nil {
		return Position{}, false
	}
	defer db.release()
	e, err := db.engine(Disk)
	if err != nil {
		return Position{}, false
	}
	v, c, err := e.get(catalogueKey(shardName{store: store, partition: partition, medium: Disk}))
	if err != nil {
		return Position{}, false
	}
	n := uint32(0)
	if len(v) == 5 {
		n = binary.BigEndian.Uint32(v)
	}
	if c.Close() != nil || n == 0 {
		return Position{}, false
	}
	v, c, err = e.get(number(n))
	if err != nil {
		return Position{}, false
	}
	p, err := parsePosition(v)
	return p, firstError(err, c.Close()) == nil
}

// Kept is what a database has of one partition of a store.
type Kept struct {
	Store     string
	Partition int32
	Position  Position
}

// Kept lists what the database has of stores with a changelog, whether or not they are open: Logged ones are left out, and
// those in engines of the user's own that nobody has opened yet. Any goroutine may call it.
func (db *DB) Kept() ([]Kept, error) {
	if err := db.acquire(); err != nil {
		return nil, err
	}
	defer db.release()
	var all []Kept
	for _, e := range db.restorable() {
		it, err := e.newIter(number(0), number(1))
		if err != nil {
			return nil, fmt.Errorf("state: list what %s has: %w", e.dir, err)
		}
		for ok := it.First(); ok && err == nil; ok = it.Next() {
			var v []byte
			if v, err = it.ValueAndErr(); err != nil {
				break
			}
			k := it.Key()
			if len(k) < 8 || len(v) != 5 || bytes.IndexByte(k[8:], 0) >= 0 { // an index
				continue
			}
			one := Kept{Store: string(k[8:]), Partition: int32(binary.BigEndian.Uint32(k[4:]))}
			var has bool
			if one.Position, has, err = e.position(binary.BigEndian.Uint32(v)); has {
				all = append(all, one)
			}
		}
		if err = firstError(err, it.Error(), it.Close()); err != nil {
			return nil, fmt.Errorf("state: list what %s has: %w", e.dir, err)
		}
	}
	return all, nil
}

// restorable are the engines whose stores have changelogs.
func (db *DB) restorable() []*engine {
	db.mu.Lock()
	defer db.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(db.mu.engines), func(e *engine) bool { return e.medium == Logged })
}

// position is what is under a shard's number.
func (e *engine) position(n uint32) (p Position, has bool, err error) {
	v, c, err := e.get(number(n))
	if errors.Is(err, pebble.ErrNotFound) {
		return p, false, nil
	}
	if err == nil {
		p, err = parsePosition(v)
		err = firstError(err, c.Close())
	}
	return p, err == nil, err
}

// Remove removes what Kept says of one partition of a store, after what was handed over before is applied. It is an error if
// a typed store has it open; whoever calls it sees to it that none is opened meanwhile.
func (db *DB) Remove(store string, partition int32) error {
	if err := db.Drain(); err != nil {
		return err
	}
	if err := db.acquire(); err != nil {
		return err
	}
	defer db.release()
	for _, e := range db.restorable() {
		name := shardName{store: store, partition: partition, medium: e.medium, engine: e.name}
		db.mu.Lock()
		s := db.mu.shards[name]
		db.mu.Unlock()
		if s == nil {
			if err := e.remove(name); err != nil {
				return fmt.Errorf("state: remove %s/%d: %w", store, partition, err)
			}
			continue
		}
		open := false
		if s.withOwner(func(owner) { open = true }); open {
			return fmt.Errorf("state: remove %s/%d: it is open", store, partition)
		}
		if err := s.Wipe(); err != nil {
			return err
		}
	}
	return nil
}

// remove empties a shard that was not opened, and its indexes, which an opening builds anew.
func (e *engine) remove(name shardName) error {
	from := catalogueKey(name)
	it, err := e.newIter(from, append(slices.Clone(from), 1)) // the indexes' names go on with a zero
	if err != nil {
		return err
	}
	b := e.db.NewBatch()
	defer b.Close()
	for ok := it.First(); ok && err == nil; ok = it.Next() {
		var v []byte
		if v, err = it.ValueAndErr(); err == nil && len(v) == 5 {
			n := binary.BigEndian.Uint32(v)
			err = b.DeleteRange(number(n), number(n+2), nil)
		}
	}
	if err = firstError(err, it.Error(), it.Close()); err != nil || b.Empty() {
		return err
	}
	e.wrote(int(b.Count()))
	return e.commit(b)
}
