package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/leatstream/leat/serde"
)

func TestSecondOpenNamesTheHolder(t *testing.T) {
	dir := t.TempDir()
	db, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(Options{Dir: dir})
	if !errors.Is(err, ErrLocked) || !strings.Contains(err.Error(), fmt.Sprintf("PID %d:", os.Getpid())) || !strings.Contains(err.Error(), dir) {
		t.Errorf("second Open: %v, want ErrLocked with directory and PID", err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	if db, err = Open(Options{Dir: dir}); err != nil {
		t.Fatalf("Open after Close: %v", err)
	}
	if err := errors.Join(db.Close(), db.Close()); err != nil {
		t.Errorf("Close twice: %v", err)
	}
}

func TestFormatVersionIsChecked(t *testing.T) {
	for text, want := range map[string]error{"leat-state 2\n": ErrVersion, "something else": ErrCorrupt, "leat-state 1\n": nil} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, formatFile), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		db, err := Open(Options{Dir: dir})
		if !errors.Is(err, want) {
			t.Errorf("Open of format %q: %v, want %v", text, err, want)
		}
		if err == nil {
			if err := db.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestInstanceIDStays(t *testing.T) {
	fs := vfs.NewMem()
	var ids []string
	for range 2 {
		db, err := Open(Options{Dir: "d", FS: fs})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			ids = append(ids, must[string](t)(db.InstanceID()))
		}
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range ids {
		if id != ids[0] || len(id) != 32 {
			t.Errorf("ids %q, want one of 32 digits", ids)
		}
	}
}

func TestShardsAreApartAndChecked(t *testing.T) {
	fs := vfs.NewMem()
	db := openMem(t, fs, 0)
	for p := range int32(300) {
		sh := must[*Shard](t)(db.Shard("s", p, ShardOptions{}))
		if err := sh.Restore([]Restored{{Key: []byte("k"), Value: []byte(be(uint64(p)))}}, Position{Offset: int64(p)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := must[*Shard](t)(db.Shard("s", 7, ShardOptions{})).Wipe(); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Shard("s", 1, ShardOptions{Windowed: true}); err == nil {
		t.Error("a key-value shard was given out as windowed")
	}
	if _, err := db.Shard("", 1, ShardOptions{}); err == nil {
		t.Error("a shard without a name was made")
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openMem(t, fs, 0)
	for p := range int32(300) {
		sh := must[*Shard](t)(db.Shard("s", p, ShardOptions{}))
		r, ok, err := ViewKeyValue(sh, serde.String, serde.Int64, "").Get("k")
		pos, has := sh.Position()
		if err != nil || ok != (p != 7) || ok && r.Value != int64(p) || has != ok || pos.Offset != int64(p) && ok {
			t.Errorf("partition %d: %v %v %v, position %v %v", p, r.Value, ok, err, pos, has)
		}
	}
}

func TestOneStorePerShard(t *testing.T) {
	db := openMem(t, nil, 0)
	sh := shard(t, db, "s", ShardOptions{})
	s := openKV(t, sh, serde.String, serde.Int64, StoreOptions{})
	if _, err := OpenKeyValue(sh, serde.String, serde.Int64, StoreOptions{}); err == nil {
		t.Error("a second store was opened on a shard")
	}
	if _, err := OpenWindow(sh, serde.String, serde.Int64, StoreOptions{}); err == nil {
		t.Error("a window store was opened on a key-value shard")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Get("k"); !errors.Is(err, ErrClosed) {
		t.Errorf("Get after Close: %v, want ErrClosed", err)
	}
	openKV(t, sh, serde.String, serde.Int64, StoreOptions{})
}

func TestMediaSurviveAsTheySay(t *testing.T) {
	fs := vfs.NewCrashableMem()
	db := openMem(t, fs, 0)
	commitOne := func(m Medium, at int64) {
		sh := must[*Shard](t)(db.Shard("s", 0, ShardOptions{Medium: m}))
		s := openKV(t, sh, serde.String, serde.Int64, StoreOptions{})
		if err := s.Put("k", 5); err != nil {
			t.Fatal(err)
		}
		if err := s.Flush(nil); err != nil {
			t.Fatal(err)
		}
		b := db.NewBatch()
		s.Seal(b, Position{Offset: at, Inputs: []byte("in")})
		b.Apply()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []Medium{Disk, Memory, Logged} {
		commitOne(m, 3)
	}
	crashed := fs.CrashClone(vfs.CrashCloneCfg{})
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		fs   vfs.FS
		want [3]bool
	}{{"clean", fs, [3]bool{true, false, true}}, {"crash", crashed, [3]bool{false, false, true}}} {
		db := openMem(t, c.fs, 0)
		for _, m := range []Medium{Disk, Memory, Logged} {
			sh := must[*Shard](t)(db.Shard("s", 0, ShardOptions{Medium: m}))
			_, found, err := ViewKeyValue(sh, serde.String, serde.Int64, "").Get("k")
			p, ok := sh.Position()
			if err != nil || found != c.want[m] || ok != c.want[m] || ok && string(p.Inputs) != "in" {
				t.Errorf("%s, medium %d: found %v, position %+v %v (%v), want %v", c.name, m, found, p, ok, err, c.want[m])
			}
		}
	}
}

func TestTimeBoundsWhatACrashLoses(t *testing.T) {
	fs := vfs.NewCrashableMem()
	db, err := Open(Options{Dir: "state", FS: fs, FlushEvery: 5 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	sh := shard(t, db, "s", ShardOptions{})
	s := openKV(t, sh, serde.String, serde.Int64, StoreOptions{})
	if err := s.Put("k", 5); err != nil {
		t.Fatal(err)
	}
	commit(t, db, 9, s)
	deadline := time.After(time.Minute)
	for {
		clone := openMem(t, fs.CrashClone(vfs.CrashCloneCfg{}), 0)
		if p, ok := shard(t, clone, "s", ShardOptions{}).Position(); ok && p.Offset == 9 {
			return
		}
		select {
		case <-deadline:
			t.Fatal("the batch was not on disk after 10 s")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestViewsWhileWritingAndClosing(t *testing.T) {
	db := openMem(t, nil, 0)
	sh := shard(t, db, "s", ShardOptions{})
	s := openKV(t, sh, serde.Int64, serde.Int64, StoreOptions{})
	view := ViewKeyValue(sh, serde.Int64, serde.Int64, "")
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			for {
				var first, n int64
				for r, err := range view.All() { // each commit writes one number to all keys
					if err != nil {
						if !errors.Is(err, ErrClosed) {
							t.Error(err)
						}
						return
					}
					if n == 0 {
						first = r.Value
					}
					if n++; r.Value != first {
						t.Errorf("read %d and %d in one iteration", first, r.Value)
						return
					}
				}
			}
		})
	}
	for i := range int64(50) {
		for k := range int64(20) {
			if err := s.Put(k, i); err != nil {
				t.Fatal(err)
			}
		}
		commit(t, db, i, s)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if _, _, err := view.Get(1); !errors.Is(err, ErrClosed) {
		t.Errorf("Get after Close: %v, want ErrClosed", err)
	}
}
