package state

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
)

// Engine is a storage engine: ordered keys with their values. Pebble is the one that comes with Leat; a store may name one
// of the user's own ([OwnEngine]). Package statetest checks what is said here.
//
//   - Keys are ordered by their bytes. A value may be empty, which is not the same as a key that is not there.
//   - Apply makes all of its writes visible at once, in their order, or none of them. Calls take effect one after the other.
//   - What a process leaves behind that dies, at any moment, is the effect of the first calls of Apply, each whole, none of
//     them left out: a call has rows and the position in their changelog that they bring the store to, and what is missing is
//     restored from that position on. Calls with sync, and all calls before the last Flush, are among them.
//   - An engine in memory may leave nothing at all behind: its stores are restored whole, and those without a changelog lose
//     their rows.
//   - Its methods are called by several goroutines at a time, reads and writes both.
//   - Byte slices that it is given are valid during the call only. Those that it gives out are not changed by anybody.
//   - An error is final: the application stops.
type Engine interface {
	// Get returns the value of a key; it stays valid for as long as the caller wants. ok is false if there is none.
	Get(key []byte) (value []byte, ok bool, err error)
	// Iterate returns an iterator over the keys from one, included, to another, excluded, as they are now: what is written
	// later does not show.
	Iterate(from, to []byte) (Iterator, error)
	// Apply writes. With sync it returns when the writes are durable.
	Apply(writes []Write, sync bool) error
	// Flush returns when everything applied before it is durable.
	Flush() error
	// Close is called once, after everything else and with no iterator open.
	Close() error
}

// Sizer is what an Engine may be besides: one that knows roughly how many bytes the keys from one, included, to another,
// excluded, take. Counts of large stores go by it.
type Sizer interface {
	Size(from, to []byte) (uint64, error)
}

// Iterator walks keys in order. It begins nowhere; First, Last and SeekGE put it on a key or, returning false, nowhere. One
// goroutine uses it. Key and value are valid until it is moved or closed.
type Iterator interface {
	First() bool
	Last() bool
	Next() bool
	Prev() bool
	// SeekGE goes to the first key that is not less.
	SeekGE(key []byte) bool
	// Valid reports whether it is on a key.
	Valid() bool
	Key() []byte
	ValueAndErr() ([]byte, error)
	// Error returns what ended the iteration, nil at its proper end.
	Error() error
	Close() error
}

// WriteKind says what a Write does.
type WriteKind uint8

const (
	// WriteSet gives Key the Value.
	WriteSet WriteKind = iota
	// WriteDelete removes Key, if it is there.
	WriteDelete
	// WriteDeleteRange removes the keys from Key, included, to Value, excluded.
	WriteDeleteRange
)

// Write is one of the writes that are applied together.
type Write struct {
	Kind       WriteKind
	Key, Value []byte
}

// OwnEngine describes a storage engine of the user's own, which stores name. It is opened once for all stores that do, when
// the first of them is; a second time, beside it, for stores without a changelog.
type OwnEngine struct {
	// Name names the engine's directory: up to 60 of a-z, 0-9 and '-'. Another engine has another name.
	Name string
	// Open opens the engine in a directory, which exists and which nobody else uses, or makes it there. dir is empty where
	// there is no disk (in streamstest): then what it keeps ends with it. log is never nil.
	Open func(dir string, log *slog.Logger) (Engine, error)
}

var ownName = regexp.MustCompile(`^[a-z0-9-]{1,60}$`)

// Validate reports the field that cannot be, and why.
func (o *OwnEngine) Validate() error {
	switch {
	case !ownName.MatchString(o.Name):
		return fmt.Errorf("an engine is named %q: give it up to 60 of a-z, 0-9 and '-'", o.Name)
	case o.Open == nil:
		return fmt.Errorf("engine %q has no Open", o.Name)
	}
	return nil
}

// openOwnLocked opens an engine of the user's own.
func (db *DB) openOwnLocked(m Medium, own *OwnEngine) (e *engine, err error) {
	dir := ""
	if db.opt.FS == vfs.Default {
		name := "own-" + own.Name
		if m == Logged {
			name += "-logged"
		}
		dir = filepath.Join(db.opt.Dir, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, fmt.Errorf("state: engine %q: %w", own.Name, err)
		}
	}
	e = &engine{medium: m, name: own.Name, dir: dir, failed: db.Err, db: db.mu.engines[0].db}
	if e.own, err = own.Open(dir, db.opt.Logger); err != nil {
		return nil, fmt.Errorf("state: open engine %q: %w", own.Name, err)
	}
	if e.next, err = e.lastNumber(); err != nil {
		return nil, fmt.Errorf("state: read catalogue of engine %q: %w", own.Name, errors.Join(err, e.own.Close()))
	}
	db.mu.engines = append(db.mu.engines, e)
	return e, nil
}

// get is pebble.DB's Get, for any engine.
func (e *engine) get(key []byte) ([]byte, io.Closer, error) {
	if e.own == nil {
		return e.db.Get(key)
	}
	v, ok, err := e.own.Get(key)
	if err == nil && !ok {
		err = pebble.ErrNotFound
	}
	return v, nothing{}, err
}

// nothing is there to close.
type nothing struct{}

func (nothing) Close() error { return nil }

// newIter returns an iterator over the keys from one, included, to another, excluded.
func (e *engine) newIter(from, to []byte) (Iterator, error) {
	if e.own != nil {
		return e.own.Iterate(from, to)
	}
	it, err := e.db.NewIter(&pebble.IterOptions{LowerBound: from, UpperBound: to})
	if err != nil {
		return nil, err // and no iterator that is a nil one of Pebble's
	}
	return it, nil
}

// commit applies a batch. Every batch is one of Pebble's, so that changes are entered without asking whose they are; an
// engine of the user's own is given what it holds.
func (e *engine) commit(b *pebble.Batch) error {
	if e.own == nil {
		how := pebble.NoSync
		if e.medium == Logged {
			how = pebble.Sync
		}
		return firstError(b.Commit(how), e.failed())
	}
	writes := make([]Write, 0, b.Count())
	for r := b.Reader(); len(r) > 0; {
		kind, key, value, ok, err := r.Next()
		if err != nil || !ok {
			return fmt.Errorf("%w: batch for engine %q: %w", ErrCorrupt, e.name, err)
		}
		w := Write{Key: key, Value: value}
		switch kind {
		case pebble.InternalKeyKindSet:
		case pebble.InternalKeyKindDelete:
			w.Kind = WriteDelete
		case pebble.InternalKeyKindRangeDelete:
			w.Kind = WriteDeleteRange
		default:
			return fmt.Errorf("%w: batch for engine %q: a change of kind %d", ErrCorrupt, e.name, kind)
		}
		writes = append(writes, w)
	}
	if len(writes) == 0 {
		return nil
	}
	if err := e.own.Apply(writes, e.medium == Logged); err != nil {
		return fmt.Errorf("engine %q: %w", e.name, err)
	}
	return nil
}

// set writes one key.
func (e *engine) set(key, value []byte) error {
	b := e.db.NewBatch()
	defer b.Close()
	if err := b.Set(key, value, nil); err != nil {
		return err
	}
	return e.commit(b)
}

// size estimates what a range takes, in bytes.
func (e *engine) size(from, to []byte) (uint64, error) {
	if e.own == nil {
		return e.db.EstimateDiskUsage(from, to)
	}
	if s, ok := e.own.(Sizer); ok {
		return s.Size(from, to)
	}
	return 0, nil
}

func (e *engine) flush() error {
	if e.own != nil {
		return e.own.Flush()
	}
	return firstError(e.db.Flush(), e.failed())
}

func (e *engine) close() error {
	if e.own != nil {
		return e.own.Close()
	}
	return e.db.Close()
}

// readOwn fills an entry from an engine of the user's own.
func (s *table[K, V]) readOwn(e *Entry[K, V], enc []byte) error {
	s.keyBuf = s.appendLocal(append(s.keyBuf[:0], s.pre...), enc, e.Start)
	raw, ok, err := s.eng.own.Get(s.keyBuf)
	if err != nil {
		return fmt.Errorf("state: read store %q from engine %q: %w", s.sh.name.store, s.eng.name, err)
	}
	if !ok {
		return nil
	}
	if e.Time, e.Value, err = s.decode(raw); err != nil {
		return err
	}
	e.Exists = true
	if !s.flat {
		e.size = uint32(len(raw))
	}
	return nil
}
