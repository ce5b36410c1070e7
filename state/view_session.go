package state

import (
	"bytes"
	"encoding/binary"
	"iter"

	"github.com/leatstream/leat/serde"
)

// SessionView reads the committed data of a session shard, as [KeyValueView] does. Its rows have the session's end as
// their Start.
type SessionView[K, V any] struct {
	view  view[SessionKey[K], V]
	inner serde.Serde[K]
}

// ViewSession returns a view of sh. topic is as StoreOptions.Topic.
func ViewSession[K, V any](sh *Shard, key serde.Serde[K], val serde.Serde[V], topic string) *SessionView[K, V] {
	return &SessionView[K, V]{newView[SessionKey[K], V](sh, sessionKeys[K]{key}, val, topic), key}
}

// Sessions yields the sessions of k that end at earliestEnd or later and start at latestStart or earlier (milliseconds),
// by end, then start.
func (v *SessionView[K, V]) Sessions(k K, earliestEnd, latestStart int64) iter.Seq2[Row[SessionKey[K], V], error] {
	enc, err := v.inner.Append(make([]byte, 0, 32), v.view.rows.keyAt, k)
	p := span{lo: binary.BigEndian.AppendUint64(nil, uint64(max(0, earliestEnd)))}
	return v.view.each(p, err, func(it Iterator, yield func(Row[SessionKey[K], V]) bool) error {
		return v.walk(it, enc, latestStart, yield)
	})
}

// walk goes from one end to the next, and at each to the key: sessions lie by end, then by the key's bytes, then by start.
func (v *SessionView[K, V]) walk(it Iterator, enc []byte, latestStart int64, yield func(Row[SessionKey[K], V]) bool) error {
	at := v.view.sh.prefix()
	for ok := it.First(); ok; {
		k := it.Key()[4:]
		if len(k) < 16 {
			return ErrCorrupt
		}
		end, own := firstEight(k), k[8:]
		switch {
		case bytes.Equal(own[:len(own)-8], enc):
			raw, err := it.ValueAndErr()
			if err != nil {
				return err
			}
			r, err := v.view.rows.row(it.Key(), raw)
			if err != nil {
				return err
			}
			if r.Key.Start <= latestStart && !yield(r) {
				return nil
			}
			ok = it.Next()
		case bytes.HasPrefix(own, enc): // a longer key, which may stand between two sessions of this one
			ok = it.Next()
		case bytes.Compare(own, enc) < 0: // the key may follow at this end
			ok = it.SeekGE(append(binary.BigEndian.AppendUint64(at[:4:4], end), enc...))
		default: // the key is not at this end
			ok = it.SeekGE(append(binary.BigEndian.AppendUint64(at[:4:4], end+1), enc...))
		}
	}
	return it.Error()
}

// Range yields the sessions of all keys that end in [from, to] (milliseconds), by end, then by key bytes, then by start.
func (v *SessionView[K, V]) Range(from, to int64) iter.Seq2[Row[SessionKey[K], V], error] {
	from, to = max(0, from), max(-1, to)
	return v.view.scan(startSpan(from, max(from-1, to)), false, nil)
}

// BackwardRange is Range from the last session to the first.
func (v *SessionView[K, V]) BackwardRange(from, to int64) iter.Seq2[Row[SessionKey[K], V], error] {
	from, to = max(0, from), max(-1, to)
	return v.view.scan(startSpan(from, max(from-1, to)), true, nil)
}
