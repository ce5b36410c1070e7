package state

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/leatstream/leat/serde"
)

// crashRun drives two shards, one by a store and one by Restore (small batches and ingested tables), wipes, and a window
// store, and checks clones of the file system as a power cut would leave it.
type crashRun struct {
	t  *testing.T
	r  *rand.Rand
	fs *vfs.MemFS
	db *DB

	store  *KeyValueStore[int64, int64]
	window *WindowStore[int64, int64]
	copied *Shard
	offset int64

	storeNow, windowNow, copiedNow    map[string]int64
	storeHist, windowHist, copiedHist []map[string]int64 // by offset; nil: that offset was not written
}

func clone(m map[string]int64) map[string]int64 {
	c := make(map[string]int64, len(m))
	for k, v := range m {
		c[k] = v
	}
	return c
}

func (c *crashRun) check(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *crashRun) open(fs vfs.FS) *DB {
	db, err := Open(Options{Dir: "d", FS: fs, FlushRecords: 500})
	c.check(err)
	return db
}

func (c *crashRun) commit() {
	for range c.r.IntN(60) {
		k := c.r.Int64N(300)
		e, err := c.store.Entry(nil, k)
		c.check(err)
		c.offset++
		if c.r.IntN(6) == 0 {
			c.check(c.store.Remove(e, 1))
			delete(c.storeNow, fmt.Sprint(k))
		} else {
			c.check(c.store.Set(e, c.offset, 1))
			c.storeNow[fmt.Sprint(k)] = c.offset
		}
		start := (c.offset / 100) * 1000
		w, err := c.window.Entry(nil, k, start)
		c.check(err)
		c.check(c.window.Set(w, c.offset, 1))
		c.windowNow[fmt.Sprint(start, " ", k)] = c.offset
		c.window.Advance(start)
	}
	c.check(c.store.Flush(nil))
	c.check(c.window.Flush(nil))
	b := c.db.NewBatch()
	c.store.Seal(b, Position{Offset: int64(len(c.storeHist)), At: time.UnixMilli(1)})
	c.window.Seal(b, Position{Offset: int64(len(c.storeHist)), At: time.UnixMilli(1)})
	b.Apply()
	for k := range c.windowNow {
		var start, key int64
		fmt.Sscan(k, &start, &key)
		if start <= c.window.expired {
			delete(c.windowNow, k)
		}
	}
	c.storeHist = append(c.storeHist, clone(c.storeNow))
	c.windowHist = append(c.windowHist, clone(c.windowNow))
}

func (c *crashRun) restore(n int) {
	recs := make([]Restored, n)
	for i := range recs {
		k := c.r.Int64N(int64(2 * n))
		recs[i].Key = []byte(be(uint64(k)))
		if c.r.IntN(5) == 0 {
			delete(c.copiedNow, fmt.Sprint(k))
			continue
		}
		recs[i].Value = []byte(be(uint64(i)))
		c.copiedNow[fmt.Sprint(k)] = int64(i)
	}
	c.check(c.copied.Restore(recs, Position{Offset: int64(len(c.copiedHist))}))
	c.copiedHist = append(c.copiedHist, clone(c.copiedNow))
}

func (c *crashRun) wipe() {
	c.check(c.copied.Wipe())
	c.copiedNow = map[string]int64{}
	c.copiedHist = append(c.copiedHist, map[string]int64{})
	c.check(c.copied.Restore(nil, Position{Offset: int64(len(c.copiedHist) - 1)}))
}

// crash opens what a power cut leaves, and compares every shard with the model at its position.
func (c *crashRun) crash() (behind int) {
	fs := c.fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: []int{0, 50, 100}[c.r.IntN(3)], RNG: rand.New(rand.NewPCG(c.r.Uint64(), 1))})
	db := c.open(fs)
	defer func() { c.check(db.Close()) }()
	for name, hist := range map[string][]map[string]int64{"store": c.storeHist, "copied": c.copiedHist, "window": c.windowHist} {
		sh, err := db.Shard(name, 0, ShardOptions{Windowed: name == "window"})
		c.check(err)
		want := map[string]int64{}
		p, ok := sh.Position()
		if ok {
			want = hist[p.Offset]
			behind += len(hist) - 1 - int(p.Offset)
		}
		got := map[string]int64{}
		if name == "window" {
			for r, err := range ViewWindow(sh, serde.Int64, serde.Int64, "").Range(0, 1<<60) {
				c.check(err)
				got[fmt.Sprint(r.Start, " ", r.Key)] = r.Value
			}
		} else {
			for r, err := range ViewKeyValue(sh, serde.Int64, serde.Int64, "").All() {
				c.check(err)
				got[fmt.Sprint(r.Key)] = r.Value
			}
		}
		if d := gocmp.Diff(want, got); d != "" {
			c.t.Fatalf("%s at position %d %v (-model +shard):\n%s", name, p.Offset, ok, d)
		}
	}
	return behind
}

func TestCrashLeavesEveryShardAtItsPosition(t *testing.T) {
	behind, crashes := 0, 0
	for seed := range uint64(6) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			c := &crashRun{t: t, r: rand.New(rand.NewPCG(5, seed)), fs: vfs.NewCrashableMem(),
				storeNow: map[string]int64{}, windowNow: map[string]int64{}, copiedNow: map[string]int64{}}
			c.db = c.open(c.fs)
			c.store = openKV(t, shard(t, c.db, "store", ShardOptions{}), serde.Int64, serde.Int64, StoreOptions{})
			var err error
			c.window, err = OpenWindow(shard(t, c.db, "window", ShardOptions{Windowed: true}), serde.Int64, serde.Int64,
				StoreOptions{Size: time.Second, Retention: 5 * time.Second})
			c.check(err)
			c.copied = shard(t, c.db, "copied", ShardOptions{})
			for range 150 {
				switch n := c.r.IntN(100); {
				case n < 60:
					c.commit()
				case n < 75:
					c.restore(1 + c.r.IntN(100))
				case n == 75:
					c.restore(ingestMin)
				case n < 80:
					c.wipe()
				default:
					behind += c.crash()
					crashes++
				}
			}
			c.check(c.store.Close())
			c.check(c.window.Close())
			c.check(c.db.Close())
		})
	}
	t.Logf("%d crashes, shards behind by %d commits in all", crashes, behind)
	if crashes == 0 || behind == 0 {
		t.Error("nothing was ever lost: the test tests nothing")
	}
}
