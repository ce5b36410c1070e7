package state

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// PanicError is a panic of a serde, or of other code of the user's, as an error. Stack is the goroutine's, as text.
type PanicError struct {
	Value any
	Stack []byte
}

// Error gives the panic's value and where it happened.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }

// Unwrap returns the panic's value if that was an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// ErrTooLarge is wrapped by the error of a row that is larger than StoreOptions.MaxRow.
var ErrTooLarge = errors.New("the row is too large for the changelog")

// append is the serde's Append; a panic is an error, and so is a row that is too large.
func (s *table[K, V]) append(dst []byte, e *Entry[K, V], v V) (out []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{Value: p, Stack: debug.Stack()}
		}
	}()
	if out, err = s.val.Append(dst, s.valAt, v); err == nil && s.opt.MaxRow > 0 && e != nil {
		err = s.fits(e, len(out)-len(dst))
	}
	return out, err
}

// fits reports whether a row with so many bytes of value may be written.
func (s *table[K, V]) fits(e *Entry[K, V], value int) error {
	size := value + s.width
	if s.width == 0 {
		size += len(s.encs[e.self>>slabBits][e.self&slabMask])
	}
	switch {
	case s.sh.sessions:
		size += 16
	case s.windowed:
		size += 12
	}
	if size > s.opt.MaxRow {
		return tooLarge(size, s.opt.MaxRow)
	}
	return nil
}

func tooLarge(size, most int) error {
	return fmt.Errorf("%w: %d bytes of key and value, of at most %d", ErrTooLarge, size, most)
}

// encoded appends the value of an entry that Flush writes. ok is false if the value does not encode and the change is left
// out.
func (s *table[K, V]) encoded(b []byte, e *Entry[K, V]) (out []byte, ok bool, err error) {
	out, err = s.append(b, e, e.Value)
	if err == nil {
		return out, true, nil
	}
	if out, ok, err = s.again(b, e, err); err == nil && !ok {
		s.forgetChange(e)
	}
	return out, ok, err
}

// again asks what becomes of a value that does not encode, and tries again as long as that is the answer.
func (s *table[K, V]) again(b []byte, e *Entry[K, V], cause error) (out []byte, ok bool, err error) {
	for attempt := 1; ; attempt++ {
		if s.opt.Refused == nil {
			return nil, false, cause
		}
		if again, err := s.opt.Refused(s.enc(nil, e), attempt, cause); err != nil || !again {
			return nil, false, err
		}
		if out, cause = s.append(b, e, e.Value); cause == nil {
			return out, true, nil
		}
	}
}

// forgetChange makes the row of e what it was at the last Seal: it takes e out of the cache once Pebble has all that was
// sealed.
func (s *table[K, V]) forgetChange(e *Entry[K, V]) {
	for i := range s.sealed {
		<-s.sealed[i].batch.done
	}
	s.poll()
	s.complete = false
	s.drop(e)
}

// putBack makes e what it was before the change that sendNow was to send.
func (s *table[K, V]) putBack(e *Entry[K, V], first bool) (err error) {
	o := &s.prev
	var v V
	if o.exists {
		if v = o.value; !s.flat {
			if v, err = s.val.Decode(s.valAt, s.prevBuf[o.off:o.off+o.n]); err != nil {
				return err
			}
		}
	}
	e.Value, e.Time, e.Exists = v, o.time, o.exists
	if first {
		e.flags &^= flagDirty
	}
	return nil
}
