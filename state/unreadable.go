package state

import (
	"bytes"
	"errors"
	"fmt"
)

// unreadable settles what becomes of rows that do not decode where an iteration meets them. The zero value ends it.
type unreadable struct {
	sh       *Shard
	windowed bool
	ask      func(key, value []byte, attempt int, cause error) (again bool, err error)
}

func (s *table[K, V]) unreadable() unreadable { return unreadable{s.sh, s.windowed, s.opt.Unreadable} }

// settle asks about one row, by its local key. Without again and without an error it is to be left out.
func (u unreadable) settle(local, value []byte, attempt int, cause error) (again bool, err error) {
	if !errors.Is(cause, ErrUndecodable) {
		return false, cause
	}
	key, at := bytes.Clone(local), ""
	if u.windowed && len(key) >= 8 {
		at, key = fmt.Sprintf(", window %d", int64(firstEight(key))), key[8:]
	}
	if u.sh != nil {
		pos, _ := u.sh.Position()
		cause = fmt.Errorf("the row with key %x (hex)%s of store %s/%d, which stands at changelog offset %d: %w", key, at,
			u.sh.name.store, u.sh.name.partition, pos.Offset, cause)
	}
	if u.ask == nil {
		return false, cause
	}
	return u.ask(key, bytes.Clone(value), attempt, cause)
}

// read is row for an iteration; ok is false for a row that is to be left out.
func (d *rows[K, V]) read(k, v []byte) (r Row[K, V], ok bool, err error) {
	if r, err = d.row(k, v); err != nil {
		return d.reread(k, v, err)
	}
	return r, true, nil
}

func (d *rows[K, V]) reread(k, v []byte, cause error) (r Row[K, V], ok bool, err error) {
	for attempt := 1; ; attempt++ {
		again, err := d.unreadable.settle(k[4:], v[min(8, len(v)):], attempt, cause)
		if err != nil || !again {
			return r, false, err
		}
		if r, cause = d.row(k, v); cause == nil {
			return r, true, nil
		}
	}
}

// reach is get for an iteration; the entry is nil for a row that is to be left out.
func (s *table[K, V]) reach(enc []byte, k K, start int64) (*Entry[K, V], error) {
	e, err := s.get(enc, k, start)
	for attempt := 1; err != nil; attempt++ {
		again, final := s.unreadable().settle(s.appendLocal(nil, enc, start), nil, attempt, err)
		if final != nil || !again {
			return nil, final
		}
		e, err = s.get(enc, k, start)
	}
	return e, nil
}

// keyOf decodes the key of a row that an iteration has found; false if the row is to be left out.
func (s *table[K, V]) keyOf(enc []byte) (k K, ok bool, err error) {
	for attempt := 1; ; attempt++ {
		if k, err = decodeKey(s.key, s.keyAt, enc); err == nil {
			return k, true, nil
		}
		if again, err := s.unreadable().settle(enc, nil, attempt, err); err != nil || !again {
			return k, false, err
		}
	}
}
