package state

import "slices"

// arena holds the encoded keys and values of one commit. What it gives out stays where it is until reset; after drop
// even longer, for whoever still reads it.
type arena struct {
	cur  []byte   // being filled
	full [][]byte // filled since reset
	free [][]byte // emptied, for reuse
}

const (
	arenaChunkMin = 4 << 10 // chunks grow with what is in use, so that an idle store is small
	arenaChunkMax = 256 << 10
	arenaKeepMost = 64 // emptied chunks kept
)

// tail returns a slice of length 0 with room for n bytes, to be appended to and given back to done.
func (a *arena) tail(n int) []byte {
	if cap(a.cur)-len(a.cur) < n {
		a.next(n)
	}
	return a.cur[len(a.cur):]
}

func (a *arena) next(n int) {
	if cap(a.cur) > 0 {
		a.full = append(a.full, a.cur)
	}
	if last := len(a.free) - 1; last >= 0 && cap(a.free[last]) >= n {
		a.cur, a.free = a.free[last][:0], a.free[:last]
		return
	}
	a.cur = make([]byte, 0, max(n, min(arenaChunkMax, arenaChunkMin<<min(8, len(a.full)))))
}

// done takes what was appended to the last tail, and returns it with no room to grow.
func (a *arena) done(b []byte) []byte {
	if cap(b) > cap(a.cur)-len(a.cur) { // outgrew its chunk, and moved
		a.full = append(a.full, a.cur)
		a.cur = b
	} else {
		a.cur = a.cur[:len(a.cur)+len(b)]
	}
	return slices.Clip(b)
}

// reset empties the arena: nobody reads what it gave out any more.
func (a *arena) reset() {
	for _, c := range append(a.full, a.cur) {
		if cap(c) >= arenaChunkMin && cap(c) <= arenaChunkMax && len(a.free) < arenaKeepMost {
			a.free = append(a.free, c[:0])
		}
	}
	clear(a.full)
	a.full, a.cur = a.full[:0], nil
}

// drop leaves what was given out to its readers.
func (a *arena) drop() { *a = arena{} }
