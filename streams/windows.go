package streams

import (
	"fmt"
	"time"
)

// Windows says into which windows of time a record falls. Windows are half-open, aligned to the Unix epoch, and begin no
// earlier than it. The zero value is none. Times are whole milliseconds.
type Windows struct {
	size, advance, grace int64 // milliseconds
}

// Tumbling are windows of that size, one after the other: every record falls into one.
func Tumbling(size time.Duration) Windows {
	return Windows{size: size.Milliseconds(), advance: size.Milliseconds()}
}

// Hopping are windows of that size which begin every advance: they overlap, and a record falls into several.
func Hopping(size, advance time.Duration) Windows {
	return Windows{size: size.Milliseconds(), advance: advance.Milliseconds()}
}

// Grace is how long, in stream time, records are still accepted after a window's end. Without it: not at all.
func (w Windows) Grace(d time.Duration) Windows {
	w.grace = d.Milliseconds()
	return w
}

// maxWindows bounds the windows that one record falls into, each of which it updates.
const maxWindows = 10_000

func (w Windows) check() error {
	switch {
	case w.size <= 0:
		return fmt.Errorf("windows of size %v: at least a millisecond is needed", ms(w.size))
	case w.advance <= 0 || w.advance > w.size:
		return fmt.Errorf("windows of size %v that advance by %v: it must be more than zero and at most the size", ms(w.size), ms(w.advance))
	case w.size/w.advance > maxWindows:
		return fmt.Errorf("windows of size %v that advance by %v: a record would fall into %d of them, at most %d are allowed",
			ms(w.size), ms(w.advance), w.size/w.advance, maxWindows)
	case w.grace < 0:
		return fmt.Errorf("windows with the negative grace %v", ms(w.grace))
	}
	return nil
}

// first returns the start of the first window that contains at; the others follow every advance, up to at.
func (w Windows) first(at int64) int64 {
	return max(0, at-w.size+w.advance) / w.advance * w.advance
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
