package faulttest

import (
	"errors"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/internal/simulation"
)

// disk is one that may be full.
type disk struct {
	vfs.FS
	full   atomic.Bool
	tables atomic.Bool // it is, for tables of rows
}

func newDisk() *disk {
	d := new(disk)
	d.FS = errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if (d.full.Load() || d.tables.Load() && strings.HasSuffix(op.Path, ".sst")) && (op.Kind == errorfs.OpCreate || op.Kind == errorfs.OpFileWrite) {
			return syscall.ENOSPC
		}
		return nil
	}))
	return d
}

// under has an application keep its state on the disk.
func (d *disk) under(app *streams.App) { app.Simulate(simulation.Seams{FS: d}) }

// told checks that an application's end says what happened, where, and what to do.
func told(t *testing.T, err error, texts ...string) {
	t.Helper()
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the application ended with %v, want ENOSPC", err)
	}
	for _, text := range append(texts, "see to the disk") {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the application ended with %v, which does not say %q", err, text)
		}
	}
}

// A disk that is full when state is restored, by few records or by sorted tables, or when commits write theirs, ends the
// application with an error. With space again, it has its state, each record counted once.
func TestAFullDiskEndsTheApplicationAndCostsNothing(t *testing.T) {
	t.Parallel()
	for name, filler := range map[string]int{"commits": 0, "sorted tables": 40_000} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			app := w.start()
			w.say(some(50)...)
			w.committed()
			app.end()
			if filler > 0 {
				cl := w.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
				for i := range filler {
					cl.Produce(t.Context(), &kgo.Record{Topic: changelog, Key: []byte("filler" + strconv.Itoa(i)), Value: make([]byte, 8)}, nil)
				}
				if err := cl.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			d := newDisk()
			if filler > 0 {
				d.tables.Store(true)
				app = w.start(d.under)
				told(t, app.ended(), w.dir, `restore store "counts" of task`, changelog+"/0")
			} else {
				app = w.start(d.under)
				w.say(some(50)...)
				w.committed()
				d.full.Store(true)
				w.say(some(60)...)
				w.committed()
				app.stop()
				told(t, app.ended(), w.dir)
			}
			d.tables.Store(false)
			d.full.Store(false)
			app = w.start(d.under)
			w.say(some(70)...)
			w.committed()
			app.end()
		})
	}
}
