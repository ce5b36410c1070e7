package state

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/bloom"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/leatstream/leat/serde"
)

const benchKeys = 1_000_000

// keyList makes n random encoded keys.
func keyList(n int, next func() uint64) []byte {
	b := make([]byte, 0, 8*n)
	for range n {
		b = binary.BigEndian.AppendUint64(b, next())
	}
	return b
}

func uniform(seed uint64) func() uint64 {
	r := rand.New(rand.NewPCG(1, seed))
	return func() uint64 { return r.Uint64N(benchKeys) }
}

func zipf(seed uint64) func() uint64 {
	z := rand.NewZipf(rand.New(rand.NewPCG(1, seed)), 1.1, 1, benchKeys-1)
	return z.Uint64
}

func benchDB(b *testing.B, memory int64) *DB {
	db, err := Open(Options{Dir: b.TempDir(), MemoryBytes: memory})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := db.Close(); err != nil {
			b.Error(err)
		}
	})
	return db
}

// bump is what a count does for one record.
func bump(s *KeyValueStore[int64, int64], enc []byte, ts int64) error {
	e, err := s.Entry(enc, int64(binary.BigEndian.Uint64(enc)))
	if err != nil {
		return err
	}
	if err := s.BeforeChange(e); err != nil {
		return err
	}
	return s.Set(e, e.Value+1, max(ts, e.Time))
}

func sealCommit(b *testing.B, db *DB, s Store, offset int64) {
	if err := s.Flush(func(k, v []byte, ts int64) error { return nil }); err != nil {
		b.Fatal(err)
	}
	batch := db.NewBatch()
	s.Seal(batch, Position{Offset: offset, At: time.UnixMilli(offset)})
	batch.Apply()
}

func fill(b *testing.B, db *DB, s *KeyValueStore[int64, int64], n int) {
	for i := range n {
		if err := bump(s, binary.BigEndian.AppendUint64(nil, uint64(i)), 1); err != nil {
			b.Fatal(err)
		}
		if i%50_000 == 49_999 || i == n-1 {
			sealCommit(b, db, s, int64(i))
		}
	}
	if err := db.Drain(); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkHit bumps cached entries and, in turn, those of a map with a slab, and reports the best round of each: the box
// may be busy.
func BenchmarkHit(b *testing.B) {
	for _, n := range []int{1000, benchKeys} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			db := benchDB(b, 1<<30)
			s := openKV(b, shard(b, db, "s", ShardOptions{}), serde.Int64, serde.Int64, StoreOptions{})
			fill(b, db, s, n)
			h := newHand(b)
			defer h.close()
			for i := range n {
				h.bump(binary.BigEndian.AppendUint64(nil, uint64(i)))
			}
			h.commit()
			r := rand.New(rand.NewPCG(1, 2))
			keys := keyList(1<<18, func() uint64 { return r.Uint64N(uint64(n)) })
			b.ReportAllocs()
			ours, byHand := time.Hour, time.Hour
			for b.Loop() {
				start := time.Now()
				for i := 0; i < len(keys); i += 8 {
					if err := bump(s, keys[i:i+8], 1); err != nil {
						b.Fatal(err)
					}
				}
				ours = min(ours, time.Since(start))
				start = time.Now()
				for i := 0; i < len(keys); i += 8 {
					h.bump(keys[i : i+8])
				}
				byHand = min(byHand, time.Since(start))
			}
			ops := float64(len(keys) / 8)
			b.ReportMetric(float64(ours.Nanoseconds())/ops, "ours-ns")
			b.ReportMetric(float64(byHand.Nanoseconds())/ops, "hand-ns")
		})
	}
}

func BenchmarkHitString(b *testing.B) {
	db := benchDB(b, 1<<30)
	s := openKV(b, shard(b, db, "s", ShardOptions{}), serde.String, serde.Int64, StoreOptions{})
	keys := make([]string, 100_000)
	for i := range keys {
		keys[i] = "customer-" + string(rune('a'+i%26)) + be(uint64(i))
		if err := s.Put(keys[i], 1); err != nil {
			b.Fatal(err)
		}
	}
	sealCommit(b, db, s, 1)
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		e, err := s.Entry(nil, keys[i])
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Set(e, e.Value+1, 1); err != nil {
			b.Fatal(err)
		}
		i = (i + 7919) % len(keys)
	}
}

func BenchmarkHitWindow(b *testing.B) {
	db := benchDB(b, 1<<30)
	s, err := OpenWindow(shard(b, db, "w", ShardOptions{Windowed: true}), serde.Int64, serde.Int64, StoreOptions{Size: time.Minute, Retention: time.Hour})
	if err != nil {
		b.Fatal(err)
	}
	keys := keyList(1<<17, func() uint64 { return rand.Uint64N(100_000) })
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		enc := keys[i : i+8]
		e, err := s.Entry(enc, int64(binary.BigEndian.Uint64(enc)), 60_000)
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Set(e, e.Value+1, 1); err != nil {
			b.Fatal(err)
		}
		i = (i + 8) & (len(keys) - 1)
	}
}

// BenchmarkCloseSessions is a record a millisecond, and a new session every fifty, which closes ten seconds later, with a commit every
// 1,000: what looking for the sessions that have closed adds, and what it took to scan for them each millisecond.
func BenchmarkCloseSessions(b *testing.B) {
	for _, remembers := range []bool{true, false} {
		name := "scanned"
		if remembers {
			name = "remembered"
		}
		b.Run(name, func(b *testing.B) {
			db := benchDB(b, 1<<30)
			s := openSession(b, shard(b, db, "s", sessionShard), serde.Int64, serde.Int64, StoreOptions{Retention: 12 * time.Second})
			const every = 50 // milliseconds between new sessions
			var enc [8]byte
			at, closed := int64(0), 0
			for b.Loop() {
				at++
				binary.BigEndian.PutUint64(enc[:], uint64(at/every))
				e, err := s.Entry(enc[:], at/every, Span{at / every * every, at / every * every})
				if err == nil {
					err = s.Set(enc[:], e, at, at)
				}
				if err != nil {
					b.Fatal(err)
				}
				to, rows := at-10_000, s.Rows
				if remembers {
					rows = s.Closed
				}
				for range rows(to, to) {
					closed++
				}
				s.Advance(at)
				if at%1000 == 0 {
					sealCommit(b, db, s, at)
				}
			}
			if want := max(0, (at-10_000)/every); int64(closed) < want {
				b.Errorf("%d sessions have closed, want %d at least", closed, want)
			}
		})
	}
}

// BenchmarkJoinWindow is what a stream join does for a record: look for the key's windows, and enter one. 100 records to the
// millisecond, of a million keys, within ten seconds of each other, with a commit every 10,000.
func BenchmarkJoinWindow(b *testing.B) {
	db := benchDB(b, 1<<30)
	const within = 10 * time.Second
	s, err := OpenWindow(shard(b, db, "w", ShardOptions{Windowed: true}), serde.Int64, serde.Int64, StoreOptions{Size: within, Retention: 2 * within})
	if err != nil {
		b.Fatal(err)
	}
	keys := keyList(1<<21, uniform(1))
	b.ReportAllocs()
	var starts []int64
	i, n := 0, int64(0)
	for b.Loop() {
		enc, at := keys[i:i+8], n/100
		if starts, err = s.Starts(starts[:0], enc, max(0, at-within.Milliseconds()), at); err != nil {
			b.Fatal(err)
		}
		e, err := s.Entry(enc, int64(binary.BigEndian.Uint64(enc)), at)
		if err == nil {
			err = s.Set(e, n, at)
		}
		if err != nil {
			b.Fatal(err)
		}
		s.Advance(at)
		if n++; n%10_000 == 0 {
			sealCommit(b, db, s, n)
		}
		i = (i + 8) & (len(keys) - 1)
	}
}

// BenchmarkMiss reads keys that Pebble has, has not, and keys of a store that began empty.
func BenchmarkMiss(b *testing.B) {
	for _, c := range []struct {
		name  string
		first uint64
	}{{"exists", 0}, {"absent", benchKeys}} {
		b.Run(c.name, func(b *testing.B) {
			db := benchDB(b, 1<<30)
			sh := shard(b, db, "s", ShardOptions{})
			s := openKV(b, sh, serde.Int64, serde.Int64, StoreOptions{})
			fill(b, db, s, benchKeys)
			s.Close()
			if err := db.Flush(); err != nil {
				b.Fatal(err)
			}
			s = openKV(b, sh, serde.Int64, serde.Int64, StoreOptions{})
			r := rand.New(rand.NewPCG(1, 2))
			b.ReportAllocs()
			var enc [8]byte
			for b.Loop() {
				binary.BigEndian.PutUint64(enc[:], c.first+r.Uint64N(benchKeys))
				e, err := s.Entry(enc[:], 0)
				if err != nil {
					b.Fatal(err)
				}
				s.drop(e)
			}
		})
	}
	b.Run("firstseen", func(b *testing.B) {
		db := benchDB(b, 4<<30)
		s := openKV(b, shard(b, db, "s", ShardOptions{}), serde.Int64, serde.Int64, StoreOptions{})
		b.ReportAllocs()
		var enc [8]byte
		n := uint64(0)
		for b.Loop() {
			n++
			binary.BigEndian.PutUint64(enc[:], n*0x9e3779b97f4a7c15)
			if _, err := s.Entry(enc[:], 0); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkCount counts two million records over a million keys, committed whenever 50,000 keys are dirty, with our store
// and by hand in turn; both in ns per record, and hand / ours as ratio. "warm" starts with all keys in Pebble and none in
// the cache.
func BenchmarkCount(b *testing.B) {
	for _, c := range []struct {
		name string
		next func(uint64) func() uint64
		warm bool
	}{{"uniform", uniform, false}, {"zipf", zipf, false}, {"uniform-warm", uniform, true}} {
		b.Run(c.name, func(b *testing.B) {
			keys := keyList(2_000_000, c.next(1))
			var ours, byHand, cpuOurs, cpuHand time.Duration
			n := 0
			for b.Loop() {
				took, cpu := countOurs(b, keys, c.warm)
				ours, cpuOurs = ours+took, cpuOurs+cpu
				took, cpu = countByHand(b, keys, c.warm)
				byHand, cpuHand = byHand+took, cpuHand+cpu
				n += len(keys) / 8
			}
			b.ReportMetric(float64(ours.Nanoseconds())/float64(n), "ours-ns")
			b.ReportMetric(float64(byHand.Nanoseconds())/float64(n), "hand-ns")
			b.ReportMetric(float64(byHand)/float64(ours), "ratio")
			b.ReportMetric(float64(cpuOurs.Nanoseconds())/float64(n), "ours-cpu-ns")
			b.ReportMetric(float64(cpuHand.Nanoseconds())/float64(n), "hand-cpu-ns")
		})
	}
}

// cpuTime is what the process has used.
func cpuTime() time.Duration {
	var ru syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &ru); err != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

func countOurs(b *testing.B, keys []byte, warm bool) (took, cpu time.Duration) {
	db, err := Open(Options{Dir: b.TempDir(), MemoryBytes: 1 << 30})
	if err != nil {
		b.Fatal(err)
	}
	sh := shard(b, db, "s", ShardOptions{})
	s := openKV(b, sh, serde.Int64, serde.Int64, StoreOptions{})
	if warm {
		fill(b, db, s, benchKeys)
		s.Close()
		s = openKV(b, sh, serde.Int64, serde.Int64, StoreOptions{})
	}
	runtime.GC()
	start, before := time.Now(), cpuTime()
	for i := 0; i < len(keys); i += 8 {
		if err := bump(s, keys[i:i+8], int64(i)); err != nil {
			b.Fatal(err)
		}
		if s.Dirty() >= 50_000 {
			sealCommit(b, db, s, int64(i))
		}
	}
	sealCommit(b, db, s, 0)
	if err := db.Drain(); err != nil {
		b.Fatal(err)
	}
	took, cpu = time.Since(start), cpuTime()-before
	if err := errors.Join(s.Close(), db.Close()); err != nil {
		b.Fatal(err)
	}
	return took, cpu
}

func countByHand(b *testing.B, keys []byte, warm bool) (took, cpu time.Duration) {
	h := newHand(b)
	if warm {
		for i := range benchKeys {
			h.bump(binary.BigEndian.AppendUint64(nil, uint64(i)))
			if len(h.dirty) == 50_000 {
				h.commit()
			}
		}
		h.commit()
		h.drain()
		clear(h.cache)
		h.slab = nil
		h.iter.Close()
		h.newIter()
	}
	runtime.GC()
	start, before := time.Now(), cpuTime()
	for i := 0; i < len(keys); i += 8 {
		h.bump(keys[i : i+8])
		if len(h.dirty) >= 50_000 {
			h.commit()
		}
	}
	h.commit()
	h.drain()
	took, cpu = time.Since(start), cpuTime()-before
	h.close()
	return took, cpu
}

// hand is the loop that a good programmer writes for one store: a map into a slab, one iterator, a sorted batch that is
// applied in the background. It keeps no timestamps and cannot abort.
type hand struct {
	b       *testing.B
	db      *pebble.DB
	cache   map[uint64]*handEntry
	slab    []handEntry
	dirty   []uint64
	batch   *pebble.Batch
	iter    *pebble.Iterator
	apply   chan *pebble.Batch
	applied chan struct{}
	pending bool
}

type handEntry struct {
	n     uint64
	dirty bool
}

func newHand(b *testing.B) *hand {
	o := &pebble.Options{DisableWAL: true, Logger: pebbleLogger{}, FormatMajorVersion: pebble.FormatNewest, MemTableSize: 64 << 20, CacheSize: 256 << 20,
		MemTableStopWritesThreshold: 4, FS: vfs.Default}
	for i := range o.Levels {
		o.Levels[i].FilterPolicy = bloom.FilterPolicy(10)
	}
	db, err := pebble.Open(b.TempDir(), o)
	if err != nil {
		b.Fatal(err)
	}
	h := &hand{b: b, db: db, cache: map[uint64]*handEntry{}, batch: db.NewBatch(), apply: make(chan *pebble.Batch, 1), applied: make(chan struct{}, 1)}
	h.newIter()
	go func() {
		for b := range h.apply {
			if err := b.Commit(pebble.NoSync); err != nil {
				panic(err)
			}
			b.Close()
			h.applied <- struct{}{}
		}
	}()
	return h
}

func (h *hand) close() {
	h.drain()
	close(h.apply)
	h.iter.Close()
	h.db.Close()
}

func (h *hand) newIter() {
	it, err := h.db.NewIter(&pebble.IterOptions{UseL6Filters: true})
	if err != nil {
		h.b.Fatal(err)
	}
	h.iter = it
}

func (h *hand) bump(key []byte) {
	k := binary.BigEndian.Uint64(key)
	e := h.cache[k]
	if e == nil {
		if len(h.slab) == cap(h.slab) {
			h.slab = make([]handEntry, 0, 8192)
		}
		h.slab = append(h.slab, handEntry{})
		e = &h.slab[len(h.slab)-1]
		if h.iter.SeekPrefixGE(key) {
			e.n = binary.BigEndian.Uint64(h.iter.Value())
		}
		h.cache[k] = e
	}
	e.n++
	if !e.dirty {
		e.dirty = true
		h.dirty = append(h.dirty, k)
	}
}

func (h *hand) commit() {
	slices.Sort(h.dirty)
	buf := make([]byte, 0, 16*len(h.dirty))
	for _, k := range h.dirty {
		e := h.cache[k]
		e.dirty = false
		o := len(buf)
		buf = binary.BigEndian.AppendUint64(buf, k)
		buf = binary.BigEndian.AppendUint64(buf, e.n)
		h.batch.Set(buf[o:o+8], buf[o+8:o+16], nil)
	}
	h.dirty = h.dirty[:0]
	h.drain()
	h.apply <- h.batch
	h.pending = true
	h.batch = h.db.NewBatch()
}

func (h *hand) drain() {
	if h.pending {
		<-h.applied
		h.pending = false
	}
}
