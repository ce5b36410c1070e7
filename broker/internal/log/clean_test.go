package log

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// cleanModel drives a compacted log through random operations, compactions and power cuts, the latter also in the midst
// of a compaction, and knows what every reader must find.
type cleanModel struct {
	t    *testing.T
	rng  *rand.Rand
	fs   *vfs.Mem
	disk *vfs.Faulty
	cfg  Config
	l    *Log
	sync *Syncer
	now  time.Time
	what string

	events []cleanEvent
	start  int64
	acked  int64
	passes int

	cutting bool // the next compaction is cut off: nothing else may happen meanwhile
}

// cleanEvent is a batch or a marker that was appended.
type cleanEvent struct {
	first, last int64
	recs        []record.Record
	pid         int64
	seq         int32
	txn         bool
	marker      bool
	commit      bool
	batch       record.Batch // as it was sent
	at          time.Time
}

const tombstoneRetention = time.Hour

func TestCompactionModel(t *testing.T) {
	seeds := 60
	if n, err := strconv.Atoi(os.Getenv("LEAT_SEEDS")); err == nil {
		seeds = n
	}
	if testing.Short() {
		seeds = 30
	}
	first := 0
	if n, err := strconv.Atoi(os.Getenv("LEAT_SEED")); err == nil {
		first, seeds = n, 1
	}
	passes := 0
	for seed := first; seed < first+seeds; seed++ {
		m := &cleanModel{
			t: t, rng: rand.New(rand.NewPCG(uint64(seed), 7)), fs: vfs.NewMem(), now: epochTime,
			cfg: Config{
				SegmentBytes: 900, IndexIntervalBytes: 64, ProducerExpiry: 1e6 * time.Hour, Compact: true, MaxTimestampAhead: -1,
				MinDirtyRatio: -1, TombstoneRetention: tombstoneRetention,
			},
		}
		m.run(seed)
		passes += m.passes
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	if passes < seeds {
		t.Errorf("%d compactions changed something in %d seeds", passes, seeds)
	}
}

func (m *cleanModel) run(seed int) {
	m.sync = NewSyncer(SyncerOptions{}) // driven by hand
	m.open()
	for round := range 4 {
		m.what = fmt.Sprintf("seed %d round %d", seed, round)
		for range 20 + m.rng.IntN(60) {
			m.step()
			if m.t.Failed() {
				return
			}
		}
		keep := []int{0, 50, 90, 100}[m.rng.IntN(4)]
		crashed := m.cutDuringCompaction(keep)
		if m.rng.IntN(5) == 0 { // or a clean stop
			m.l.syncOnce()
			m.acked = m.l.Bounds().End
			mustClose(m.t, m.l)
			crashed = m.fs.CrashClone(keep, m.rng)
		} else {
			m.l.Close()
		}
		m.fs = crashed
		m.open()
		m.truncate()
		m.check("after the crash")
		m.repeat()
	}
	mustClose(m.t, m.l)
}

func (m *cleanModel) open() {
	m.disk = &vfs.Faulty{FS: m.fs}
	l, err := Open(m.disk, "/data/t-0", m.cfg, m.sync)
	if err != nil {
		m.t.Fatalf("%s: %v", m.what, err)
	}
	m.l = l
}

// cutDuringCompaction compacts and returns what a power cut at a random operation of it leaves.
func (m *cleanModel) cutDuringCompaction(keep int) *vfs.Mem {
	left := m.rng.IntN(60)
	var crashed *vfs.Mem
	m.disk.Fail(func(vfs.Op, string) error {
		if left--; left == 0 {
			crashed = m.fs.CrashClone(keep, m.rng)
		}
		return nil
	})
	defer m.disk.Fail(nil)
	m.cutting = true
	m.clean()
	m.cutting = false
	if crashed == nil {
		crashed = m.fs.CrashClone(keep, m.rng)
	}
	return crashed
}

func (m *cleanModel) clean() {
	o := CleanOptions{Now: m.now}
	if m.rng.IntN(3) == 0 {
		o.MaxKeys = 1 + m.rng.IntN(3) // passes that end early
	}
	if !m.cutting && m.rng.IntN(4) == 0 {
		m.deleteMeanwhile()
		defer m.disk.Fail(nil)
	}
	c, err := m.l.Clean(context.Background(), o)
	if err != nil {
		m.t.Fatalf("%s: compaction: %v", m.what, err)
	}
	if c.Segments > 0 {
		m.passes++
	}
}

// deleteMeanwhile moves the log start in the midst of the next compaction.
func (m *cleanModel) deleteMeanwhile() {
	left := 1 + m.rng.IntN(4)
	m.disk.Fail(func(op vfs.Op, name string) error {
		if op == vfs.OpCreate && strings.HasSuffix(name, cleanedSuffix) {
			if left--; left == 0 {
				m.deleteRecords()
			}
		}
		return nil
	})
}

func (m *cleanModel) deleteRecords() {
	high := m.l.Bounds().HighWatermark
	if high <= m.start {
		return
	}
	got, err := m.l.DeleteRecords(m.start + m.rng.Int64N(high-m.start+1))
	if err != nil {
		m.t.Fatal(err)
	}
	m.start = got
}

func (m *cleanModel) step() {
	switch k := m.rng.IntN(30); {
	case k < 15:
		m.append()
	case k < 19:
		m.mark()
	case k < 23:
		m.l.syncOnce()
		m.acked = m.l.Bounds().End
	case k < 25:
		m.now = m.now.Add(time.Duration(m.rng.IntN(90)) * time.Minute)
	case k < 28:
		m.clean()
		m.check("after a compaction")
	case k < 29:
		m.repeat()
	default:
		if m.rng.IntN(4) == 0 {
			m.deleteRecords()
		}
	}
}

// producer replays the events for what a client knows: its next sequence, and whether its transaction is open.
func (m *cleanModel) producer(pid int64) (seq int32, open bool) {
	for _, e := range m.events {
		switch {
		case e.pid != pid:
		case e.marker:
			open = false
		default:
			seq = e.seq + int32(len(e.recs))
			open = open || e.txn
		}
	}
	return seq, open
}

func (m *cleanModel) append() {
	e := cleanEvent{pid: int64(m.rng.IntN(5)) - 1, at: m.now}
	info := record.NoProducer()
	if e.pid >= 0 {
		var open bool
		e.seq, open = m.producer(e.pid)
		e.txn = open || m.rng.IntN(2) == 0
		info = record.BatchInfo{ProducerID: e.pid, BaseSequence: e.seq, Transactional: e.txn}
	}
	for range 1 + m.rng.IntN(4) {
		r := record.Record{Timestamp: m.now.UnixMilli(), Key: fmt.Appendf(nil, "key %d", m.rng.IntN(6)), Value: fmt.Appendf(nil, "%x", m.rng.Uint64())}
		if m.rng.IntN(4) == 0 {
			r.Value = nil
		}
		if m.rng.IntN(3) == 0 {
			r.Headers = []record.Header{{Key: "h", Value: fmt.Append(nil, m.rng.Uint32())}}
		}
		e.recs = append(e.recs, r)
	}
	b := record.Build(info, e.recs)
	if codec := m.rng.IntN(5); codec > 0 {
		for i := range e.recs {
			e.recs[i].Offset = int64(i)
		}
		b[22] |= byte(codec)
		var rb record.Rebuilder
		var err error
		if b, err = rb.Rebuild(b, e.recs, -1); err != nil {
			m.t.Fatal(err)
		}
	}
	e.batch = bytes.Clone(b)
	a, err := m.l.Append(b, AppendOptions{Now: m.now})
	if err != nil {
		m.t.Fatalf("%s: append: %v", m.what, err)
	}
	e.first, e.last = a.BaseOffset, a.LastOffset
	for i := range e.recs {
		e.recs[i].Offset = e.first + int64(i)
	}
	m.events = append(m.events, e)
}

func (m *cleanModel) mark() {
	e := cleanEvent{pid: int64(m.rng.IntN(4)), marker: true, commit: m.rng.IntN(2) == 0}
	off, err := m.l.AppendMarker(e.pid, 0, e.commit, 0)
	if err != nil {
		m.t.Fatal(err)
	}
	e.first, e.last = off, off
	m.events = append(m.events, e)
}

// repeat sends the last batch of each producer again.
func (m *cleanModel) repeat() {
	m.t.Helper()
	seen := map[int64]bool{}
	for i := len(m.events) - 1; i >= 0; i-- {
		e := &m.events[i]
		if e.pid < 0 || e.marker || seen[e.pid] {
			continue
		}
		seen[e.pid] = true
		a, err := m.l.Append(bytes.Clone(e.batch), AppendOptions{Now: m.now})
		if err != nil || !a.Duplicate || a.BaseOffset != e.first {
			m.t.Fatalf("%s: batch %d of producer %d again: %+v %v", m.what, e.first, e.pid, a, err)
		}
	}
}

// truncate forgets what the crash took.
func (m *cleanModel) truncate() {
	end := m.l.Bounds().End
	if end < m.acked {
		m.t.Fatalf("%s: the log ends at %d, %d was acknowledged", m.what, end, m.acked)
	}
	n := 0
	for n < len(m.events) && m.events[n].last < end {
		n++
	}
	m.events, m.acked = m.events[:n], end
}

// visible is what a read_committed reader must be able to tell: the latest record of each key below the last stable
// offset, and every record that was ever committed.
func (m *cleanModel) visible(lso int64) (latest map[string]record.Record, all map[int64]record.Record, young map[int64]bool) {
	latest, all, young = map[string]record.Record{}, map[int64]record.Record{}, map[int64]bool{}
	fate := map[int64]bool{} // first offset of a batch -> committed
	pending := map[int64][]int64{}
	for _, e := range m.events {
		switch {
		case e.marker:
			for _, first := range pending[e.pid] {
				fate[first] = e.commit
			}
			delete(pending, e.pid)
		case e.txn:
			pending[e.pid] = append(pending[e.pid], e.first)
		default:
			fate[e.first] = true
		}
	}
	for _, e := range m.events {
		if !fate[e.first] {
			continue
		}
		for _, r := range e.recs {
			if r.Offset >= lso {
				continue
			}
			all[r.Offset] = r
			if r.Offset >= m.start {
				latest[string(r.Key)] = r
			}
			young[r.Offset] = m.now.Sub(e.at) < tombstoneRetention
		}
	}
	return latest, all, young
}

func (m *cleanModel) check(when string) {
	t := m.t
	t.Helper()
	b := m.l.Bounds()
	if b.LogStart != m.start {
		t.Fatalf("%s %s: log start %d, want %d", m.what, when, b.LogStart, m.start)
	}
	var open []string
	first := b.HighWatermark
	for pid := range int64(4) {
		if _, o := m.producer(pid); o {
			at := int64(-1)
			for _, e := range m.events {
				if e.pid == pid && e.marker {
					at = -1
				} else if e.pid == pid && e.txn && at < 0 {
					at = e.first
				}
			}
			open = append(open, fmt.Sprint(pid, at))
			first = min(first, at)
		}
	}
	var got []string
	for pid := range int64(4) {
		for _, o := range m.l.OpenTxns() {
			if o.ProducerID == pid {
				got = append(got, fmt.Sprint(pid, o.FirstOffset))
			}
		}
	}
	if fmt.Sprint(open) != fmt.Sprint(got) {
		t.Fatalf("%s %s: open transactions %v, want %v", m.what, when, got, open)
	}
	latest, all, young := m.visible(b.LastStable)
	found := m.consume(when, all)
	for key, want := range latest {
		have, ok := found[key]
		switch {
		case !ok && want.Value == nil && !young[want.Offset]:
		case !ok || have != want.Offset:
			t.Fatalf("%s %s: %s is at %d (%v), its latest record is at %d (tombstone: %v)", m.what, when, key, have, ok, want.Offset, want.Value == nil)
		}
	}
}

// consume reads as a read_committed client does and checks every record.
func (m *cleanModel) consume(when string, all map[int64]record.Record) map[string]int64 {
	t := m.t
	t.Helper()
	found := map[string]int64{}
	b := m.l.Bounds()
	next := b.LogStart
	skip := map[int64]bool{}
	for next < b.LastStable {
		res, err := m.l.Read(ReadOptions{From: next, MaxBytes: 1 + m.rng.IntN(3000), MinOne: true, Committed: true})
		if err != nil || len(res.Batches) == 0 {
			t.Fatalf("%s %s: read at %d of %+v: %v", m.what, when, next, b, err)
		}
		aborted := res.Aborted
		clear(skip) // clients begin anew with each fetch
		for rest := res.Batches; len(rest) > 0; {
			batch, err := record.Parse(rest)
			if err == nil {
				err = batch.Validate()
			}
			if err != nil || batch.BaseOffset() > next || batch.LastOffset() < next {
				t.Fatalf("%s %s: batch %d to %d at %d: %v", m.what, when, batch.BaseOffset(), batch.LastOffset(), next, err)
			}
			rest = rest[len(batch):]
			for len(aborted) > 0 && aborted[0].FirstOffset <= batch.LastOffset() {
				skip[aborted[0].ProducerID] = true
				aborted = aborted[1:]
			}
			next = batch.LastOffset() + 1
			if batch.Control() {
				if mk, known, err := record.ParseMarker(batch); err != nil || known && !mk.Commit {
					delete(skip, batch.ProducerID())
				}
				continue
			}
			if batch.Transactional() && skip[batch.ProducerID()] {
				continue
			}
			it := record.NewIterator(batch, nil)
			for it.Next() {
				r := it.Record()
				want, ok := all[r.Offset]
				if !ok || !bytes.Equal(want.Key, r.Key) || !bytes.Equal(want.Value, r.Value) || (want.Value == nil) != (r.Value == nil) ||
					want.Timestamp != r.Timestamp || fmt.Sprint(want.Headers) != fmt.Sprint(r.Headers) {
					t.Fatalf("%s %s: record %d is %+v, want %+v (%v)", m.what, when, r.Offset, r, want, ok)
				}
				if r.Offset >= m.start {
					found[string(r.Key)] = r.Offset
				}
			}
			if it.Err() != nil {
				t.Fatal(it.Err())
			}
		}
	}
	return found
}
