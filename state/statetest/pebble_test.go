package statetest_test

import (
	"bytes"
	"errors"
	"log/slog"
	"testing"

	"github.com/cockroachdb/pebble/v2"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/state/statetest"
)

// own is Pebble as an engine of one's own: one that keeps what it has over its Close.
type own struct{ db *pebble.DB }

func openOwn(dir string, _ *slog.Logger) (state.Engine, error) {
	db, err := pebble.Open(dir, &pebble.Options{DisableWAL: false, Logger: silent{}})
	return own{db}, err
}

type silent struct{}

func (silent) Infof(string, ...any)      {}
func (silent) Errorf(string, ...any)     {}
func (silent) Fatalf(f string, _ ...any) { panic(f) }

func (o own) Get(key []byte) ([]byte, bool, error) {
	v, c, err := o.db.Get(key)
	if errors.Is(err, pebble.ErrNotFound) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	return bytes.Clone(v), true, c.Close()
}

func (o own) Iterate(from, to []byte) (state.Iterator, error) {
	return o.db.NewIter(&pebble.IterOptions{LowerBound: bytes.Clone(from), UpperBound: bytes.Clone(to)})
}

func (o own) Apply(writes []state.Write, sync bool) (err error) {
	b := o.db.NewBatch()
	defer b.Close()
	for _, w := range writes {
		switch w.Kind {
		case state.WriteSet:
			err = b.Set(w.Key, w.Value, nil)
		case state.WriteDelete:
			err = b.Delete(w.Key, nil)
		case state.WriteDeleteRange:
			err = b.DeleteRange(w.Key, w.Value, nil)
		}
		if err != nil {
			return err
		}
	}
	return b.Commit(&pebble.WriteOptions{Sync: sync})
}

func (o own) Size(from, to []byte) (uint64, error) { return o.db.EstimateDiskUsage(from, to) }
func (o own) Flush() error                         { return o.db.Flush() }
func (o own) Close() error                         { return o.db.Close() }

func TestPebble(t *testing.T) {
	statetest.Run(t, &state.OwnEngine{Name: "pebble", Open: openOwn}, statetest.Options{})
}
