package state

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/leatstream/leat/serde"
)

// fullRun restores a store with small batches and sorted tables, and commits to another, on a disk that fails.
type fullRun struct {
	t    *testing.T
	db   *DB
	want map[string][]map[string]int64 // of each store, by position
}

// note keeps the rows that a store has at its next position.
func (f *fullRun) note(store string, rows map[string]int64) {
	f.want[store] = append(f.want[store], clone(rows))
}

// all does everything there is to do, until something fails.
func (f *fullRun) all() error {
	small, err := f.db.Shard("small", 0, ShardOptions{})
	if err != nil {
		return err
	}
	large, err := f.db.Shard("large", 0, ShardOptions{})
	if err != nil {
		return err
	}
	owned, err := f.db.Shard("owned", 0, ShardOptions{})
	if err != nil {
		return err
	}
	st, err := OpenKeyValue(owned, serde.Int64, serde.Int64, StoreOptions{})
	if err != nil {
		return err
	}
	defer st.Close()
	rows := map[string]map[string]int64{"small": {}, "large": {}, "owned": {}}
	restore := func(sh *Shard, name string, n, from int) error {
		recs := make([]Restored, n)
		for i := range recs {
			recs[i] = Restored{Key: []byte(be(uint64(from + i))), Value: []byte(be(uint64(from)))}
			rows[name][fmt.Sprint(from+i)] = int64(from)
		}
		f.note(name, rows[name])
		return sh.Restore(recs, Position{Offset: int64(len(f.want[name]) - 1)})
	}
	for round := range 2 {
		if err := restore(small, "small", 100, round*50); err != nil {
			return err
		}
		if err := restore(large, "large", ingestMin, round*1000); err != nil {
			return err
		}
		for i := range int64(50) {
			k := int64(round)*25 + i
			if err := st.Put(k, int64(round)); err != nil {
				return err
			}
			rows["owned"][fmt.Sprint(k)] = int64(round)
		}
		if err := st.Flush(nil); err != nil {
			return err
		}
		f.note("owned", rows["owned"])
		b := f.db.NewBatch()
		st.Seal(b, Position{Offset: int64(len(f.want["owned"]) - 1)})
		b.Apply()
		if err := f.db.Drain(); err != nil {
			return err
		}
		if err := f.db.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// check compares what is on a disk that works again with what there was at each store's position, the last one if it is whole.
func (f *fullRun) check(fs vfs.FS, whole bool, at string) {
	f.t.Helper()
	db, err := Open(Options{Dir: "d", FS: fs})
	if err != nil {
		f.t.Fatalf("%s: it does not open again: %v", at, err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			f.t.Errorf("%s: %v", at, err)
		}
	}()
	for name, hist := range f.want {
		sh := must[*Shard](f.t)(db.Shard(name, 0, ShardOptions{}))
		want := map[string]int64{}
		pos, has := sh.Position()
		if has {
			want = hist[pos.Offset]
		}
		if whole && pos.Offset != int64(len(hist)-1) {
			f.t.Errorf("%s, and no error said so: store %s is at %d (%t), want %d", at, name, pos.Offset, has, len(hist)-1)
		}
		got := map[string]int64{}
		for r, err := range ViewKeyValue(sh, serde.Int64, serde.Int64, "").All() {
			if err != nil {
				f.t.Fatalf("%s: %v", at, err)
			}
			got[fmt.Sprint(r.Key)] = r.Value
		}
		if !maps.Equal(got, want) {
			f.t.Errorf("%s: store %s at %d (%t) has %d rows, want %d, or other ones", at, name, pos.Offset, has, len(got), len(want))
		}
	}
}

// Whichever write fails first of all that a restore and commits make, and all after it: nothing panics, the error says where,
// and what is on the disk is what each store had at its position.
func TestADiskThatFailsAtAnyWrite(t *testing.T) {
	var n int64
	for i, done := 0, false; !done; i++ {
		why := []error{syscall.ENOSPC, syscall.EIO}[i%2]
		var writes atomic.Int64
		var on atomic.Bool
		var first atomic.Pointer[string]
		mem := vfs.NewCrashableMem()
		fs := errorfs.Wrap(mem, errorfs.InjectorFunc(func(op errorfs.Op) error {
			switch op.Kind {
			case errorfs.OpCreate, errorfs.OpFileWrite, errorfs.OpFileSync, errorfs.OpFileSyncData, errorfs.OpFileSyncTo, errorfs.OpLink, errorfs.OpRename, errorfs.OpFileWriteAt:
			default:
				return nil
			}
			if !on.Load() || writes.Add(1) <= n {
				return nil
			}
			what := fmt.Sprintf("write %d, kind %d of %s", n, op.Kind, op.Path)
			first.CompareAndSwap(nil, &what)
			return why
		}))
		db := must[*DB](t)(Open(Options{Dir: "d", FS: fs}))
		on.Store(true)
		f := &fullRun{t: t, db: db, want: map[string][]map[string]int64{}}
		err := errors.Join(f.all(), db.Close())
		at := "nothing failed"
		if what := first.Load(); what != nil {
			at = *what
		}
		done = first.Load() == nil
		if err != nil && (!errors.Is(err, why) || !strings.Contains(err.Error(), "state: d: ") && !strings.Contains(err.Error(), "d/ingest") || !strings.Contains(err.Error(), "see to the disk")) {
			t.Errorf("%s: %v; want the cause, where, and what next", at, err)
		}
		on.Store(false)
		f.check(mem, err == nil, at)
		f.check(mem.CrashClone(vfs.CrashCloneCfg{}), err == nil, at+", and a power cut")
		n += 1 + n/8
	}
}
