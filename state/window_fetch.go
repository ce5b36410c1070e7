package state

import (
	"bytes"
	"encoding/binary"
)

// keyFetch finds the windows of one key where windows lie by start: it seeks from one start to the next, at most two
// seeks for each start that any key has. Where that is much, see directory.
type keyFetch[K, V any] struct {
	it       Iterator
	pre      []byte // the shard's prefix
	enc      []byte
	from, to int64
	rows     rows[K, V]
	seeks    int
}

// run yields the key's windows, those of over in place of Pebble's.
func (f *keyFetch[K, V]) run(over changes[K, V], yield func(Row[K, V]) bool) error {
	at, ok, err := f.seek(f.from)
	for err == nil && (ok || len(over.order) > 0) {
		if len(over.order) > 0 && (!ok || over.rows[over.order[0].at].Start <= at) {
			o, row := over.shift()
			if ok && row.Start == at {
				at, ok, err = f.seek(at + 1)
			}
			row.KeyBytes = f.enc
			if o.exists && !yield(*row) {
				return nil
			}
			continue
		}
		v, verr := f.it.ValueAndErr()
		if verr != nil {
			return verr
		}
		r, readable, rerr := f.rows.read(f.it.Key(), v)
		if rerr != nil {
			return rerr
		}
		if readable && !yield(r) {
			return nil
		}
		at, ok, err = f.seek(at + 1)
	}
	return err
}

// seek stands on the key's first window that starts at or after start.
func (f *keyFetch[K, V]) seek(start int64) (at int64, ok bool, err error) {
	var buf []byte
	for start <= f.to {
		buf = append(buf[:0], f.pre...)
		buf = binary.BigEndian.AppendUint64(buf, uint64(start))
		f.seeks++
		if !f.it.SeekGE(append(buf, f.enc...)) {
			return 0, false, f.it.Error()
		}
		k := f.it.Key()[4:]
		if len(k) < 8 {
			return 0, false, ErrCorrupt
		}
		found, enc := int64(firstEight(k)), k[8:]
		switch c := bytes.Compare(enc, f.enc); {
		case c == 0:
			return found, true, nil
		case c < 0: // a later start, and the key may be in it
			start = found
		default: // the key is not at this start
			start = found + 1
		}
	}
	return 0, false, nil
}
