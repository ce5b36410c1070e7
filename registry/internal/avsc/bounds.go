package avsc

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrData is wrapped by the errors of [Schema.Check]: the bytes are no value of the schema.
var ErrData = errors.New("not a value of the schema")

const (
	// maxDataDepth bounds how deeply a value of a recursive schema may nest.
	maxDataDepth = 512
	// maxEmptyItems bounds the items of an array whose items take no bytes (nulls, empty records): their count cannot
	// be held against the bytes that are left.
	maxEmptyItems = 1 << 16
)

// Check walks over data, one value of s, without building anything, and reports whether it is well formed and ends
// where data ends. A decoder that trusts the counts in the data must be given only what Check has passed: every count
// is then covered by bytes that are really there.
func (s *Schema) Check(data []byte) error {
	w := walker{data: data, empty: maxEmptyItems}
	if err := w.walk(s, 0); err != nil {
		return fmt.Errorf("%w: byte %d: %w", ErrData, len(data)-len(w.data), err)
	}
	if len(w.data) > 0 {
		return fmt.Errorf("%w: %d bytes are left over after it", ErrData, len(w.data))
	}
	return nil
}

type walker struct {
	data  []byte
	empty int64 // how many more items without bytes are allowed
}

var errShort = errors.New("the data ends too early")

func (w *walker) walk(s *Schema, depth int) error {
	if depth > maxDataDepth {
		return fmt.Errorf("it nests more than %d levels deep", maxDataDepth)
	}
	switch s.Kind {
	case Null:
		return nil
	case Boolean:
		if len(w.data) > 0 && w.data[0] > 1 {
			return fmt.Errorf("boolean is %d", w.data[0])
		}
		return w.skip(1)
	case Int:
		v, err := w.long()
		if err == nil && int64(int32(v)) != v {
			return fmt.Errorf("int is %d", v)
		}
		return err
	case Long:
		_, err := w.long()
		return err
	case Float:
		return w.skip(4)
	case Double:
		return w.skip(8)
	case Fixed:
		return w.skip(int64(s.Size))
	case Bytes, String:
		n, err := w.long()
		if err != nil {
			return err
		}
		return w.skip(n)
	case Enum:
		n, err := w.long()
		if err == nil && (n < 0 || n >= int64(len(s.Symbols))) {
			return fmt.Errorf("enum %s has no symbol %d", s.Name.Full(), n)
		}
		return err
	case Union:
		n, err := w.long()
		if err != nil {
			return err
		}
		if n < 0 || n >= int64(len(s.Branches)) {
			return fmt.Errorf("union has no branch %d", n)
		}
		return w.walk(s.Branches[n], depth+1)
	case Record:
		for _, f := range s.Fields {
			if err := w.walk(f.Type, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	return w.blocks(s, depth)
}

// blocks walks over the blocks of an array or a map.
func (w *walker) blocks(s *Schema, depth int) error {
	for {
		n, err := w.long()
		if err != nil || n == 0 {
			return err
		}
		if n < 0 { // the block's length in bytes follows; it is checked by walking all the same
			n = -n
			if n < 0 {
				return errors.New("the count of a block is out of range")
			}
			size, err := w.long()
			if err != nil {
				return err
			}
			if size < 0 || size > int64(len(w.data)) {
				return errShort
			}
		}
		for ; n > 0; n-- {
			before := len(w.data)
			if s.Kind == Map {
				size, err := w.long()
				if err != nil {
					return err
				}
				if err := w.skip(size); err != nil {
					return err
				}
			}
			if err := w.walk(s.Items, depth+1); err != nil {
				return err
			}
			if len(w.data) == before {
				if w.empty--; w.empty < 0 {
					return fmt.Errorf("more than %d items without data", maxEmptyItems)
				}
			}
		}
	}
}

func (w *walker) long() (int64, error) {
	v, n := binary.Varint(w.data)
	if n == 0 {
		return 0, errShort
	}
	if n < 0 {
		return 0, errors.New("a number is longer than ten bytes")
	}
	w.data = w.data[n:]
	return v, nil
}

func (w *walker) skip(n int64) error {
	if n < 0 {
		return fmt.Errorf("a length is %d", n)
	}
	if n > int64(len(w.data)) {
		return errShort
	}
	w.data = w.data[n:]
	return nil
}
