package state

import (
	"bytes"
	"iter"
)

// BackwardPrefix is Prefix from the last key to the first.
func (v *KeyValueView[K, V]) BackwardPrefix(prefix []byte) iter.Seq2[Row[K, V], error] {
	return v.view.scan(span{lo: bytes.Clone(prefix), hi: successor(prefix)}, true, nil)
}

// ApproximateCount counts up to 10,000 rows; from there on it goes by size on disk.
func (v *KeyValueView[K, V]) ApproximateCount() (int64, error) {
	const most = 10_000
	var n int64
	for _, err := range v.All() {
		if err != nil {
			return n, err
		}
		if n++; n == most {
			break
		}
	}
	if n < most {
		return n, nil
	}
	db := v.view.sh.db
	if err := db.acquire(); err != nil {
		return 0, err
	}
	defer db.release()
	return v.view.sh.guessRows(n)
}
