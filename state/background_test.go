package state

import (
	"errors"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"
)

// A disk that stays full ends the database before writers wait for it, and Close does not wait either.
func TestAFullDiskEndsTheDatabase(t *testing.T) {
	var full atomic.Bool
	fs := errorfs.Wrap(vfs.NewMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if full.Load() && strings.HasSuffix(op.Path, ".sst") {
			return syscall.ENOSPC
		}
		return nil
	}))
	db, err := Open(Options{Dir: "d", FS: fs, FlushRecords: 10})
	if err != nil {
		t.Fatal(err)
	}
	sh := must[*Shard](t)(db.Shard("s", 0, ShardOptions{}))
	full.Store(true)
	deadline := time.Now().Add(2 * time.Minute)
	for i := uint64(0); db.Err() == nil; i++ {
		if time.Now().After(deadline) {
			t.Fatal("nothing is said of a disk that is full")
		}
		var recs []Restored
		for j := range uint64(100) {
			recs = append(recs, Restored{Key: []byte(be(j)), Value: []byte(be(i))})
		}
		err := sh.Restore(recs, Position{Offset: int64(i)})
		if err == nil {
			err = db.Drain() // which asks for a flush of so many records
		}
		if err != nil && !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	if err := db.Close(); !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "see to the disk") {
		t.Errorf("Close returned %v, want ENOSPC and what to do", err)
	}
}
