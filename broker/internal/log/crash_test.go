package log

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// crashModel drives one log through random operations and power cuts, and knows what must be there afterwards.
type crashModel struct {
	t    *testing.T
	rng  *rand.Rand
	fs   *vfs.Mem
	cfg  Config
	l    *Log
	sync *Syncer

	written []record.Batch // by order of append, all that was ever accepted and not lost
	acked   int            // of these, how many a crash may not take
	start   int64
	seqs    map[int64]int32
	open    map[int64]bool
}

// TestPowerLoss: whatever was acknowledged is there after a power cut, whole and in order; what else is there is a
// prefix of what was appended; producers, transactions and the log start are right.
func TestPowerLoss(t *testing.T) {
	seeds := 600
	if testing.Short() {
		seeds = 100
	}
	for seed := range seeds {
		m := &crashModel{
			t: t, rng: rand.New(rand.NewPCG(uint64(seed), 1)), fs: vfs.NewMem(), seqs: map[int64]int32{}, open: map[int64]bool{},
			// Markers carry the real time, batches that of the test: nobody must expire between the two.
			cfg: Config{SegmentBytes: 1200, IndexIntervalBytes: 64, TopicID: [16]byte{9}, ProducerExpiry: 1e6 * time.Hour},
		}
		m.run(seed)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func (m *crashModel) run(seed int) {
	m.sync = NewSyncer(SyncerOptions{}) // driven by hand: a sync happens when the model says so
	m.l = mustOpen(m.t, m.fs, m.cfg, m.sync)
	for round := range 4 {
		for range 5 + m.rng.IntN(30) {
			m.step()
			if m.rng.IntN(25) == 0 {
				m.kill(fmt.Sprintf("seed %d round %d, killed", seed, round))
			}
		}
		keep := []int{0, 0, 50, 90, 100}[m.rng.IntN(5)]
		if m.rng.IntN(5) == 0 {
			mustClose(m.t, m.l)
			m.acked = len(m.written)
		}
		crashed := m.fs.CrashClone(keep, m.rng)
		m.l.Close() // the process that was cut off; what it does now is lost
		m.fs = crashed
		m.reopen(fmt.Sprintf("seed %d round %d keep %d%%", seed, round, keep))
	}
	mustClose(m.t, m.l)
}

// kill ends the process without a word, and starts the next: files are as they were, but nothing that was not synced has
// become durable by that. Whatever the new log shows counts as acknowledged.
func (m *crashModel) kill(what string) { m.reopen(what) }

func (m *crashModel) step() {
	pid := int64(m.rng.IntN(3))
	switch k := m.rng.IntN(20); {
	case k < 9:
		seq := m.seqs[pid]
		n := 1 + m.rng.IntN(4)
		b := from(pid, 0, seq, n)
		if m.open[pid] || m.rng.IntN(3) == 0 {
			b = inTxn(pid, 0, seq, n)
			m.open[pid] = true
		}
		m.append(b)
		m.seqs[pid] = seq + int32(n)
	case k < 12:
		m.append(plain(1+m.rng.IntN(3), "plain"))
	case k < 14:
		commit := m.rng.IntN(2) == 0
		off, err := m.l.AppendMarker(pid, 0, commit, 0)
		if err != nil {
			m.t.Fatal(err)
		}
		res, err := m.readUncapped(off)
		if err != nil {
			m.t.Fatal(err)
		}
		m.written = append(m.written, res)
		delete(m.open, pid)
	case k < 18:
		m.l.syncOnce()
		m.acked = len(m.written)
		if b := m.l.Bounds(); b.HighWatermark != b.End {
			m.t.Fatalf("bounds after a sync: %+v", b)
		}
	case k < 19:
		high := m.l.Bounds().HighWatermark
		if high > m.start && m.rng.IntN(3) == 0 {
			to := m.start + m.rng.Int64N(high-m.start+1)
			got, err := m.l.DeleteRecords(to)
			if err != nil {
				m.t.Fatal(err)
			}
			m.start = got
		}
	default:
		// The kernel writes something back on its own: nothing changes for the model.
		if m.rng.IntN(2) == 0 {
			m.l.mu.active.mu.file.SyncData()
		}
	}
}

// readUncapped reads the batch at an offset that may be above the high watermark.
func (m *crashModel) readUncapped(off int64) (record.Batch, error) {
	s := m.l.mu.active
	f, err := s.acquire()
	if err != nil {
		return nil, err
	}
	defer s.release()
	pos, _, err := s.locate(f, off, s.size.Load(), m.l.window())
	if err != nil {
		return nil, err
	}
	return s.readBatch(f, pos, s.size.Load())
}

func (m *crashModel) append(b record.Batch) {
	m.t.Helper()
	mustAppend(m.t, m.l, b)
	m.written = append(m.written, bytes.Clone(b))
}

func (m *crashModel) reopen(what string) {
	t := m.t
	t.Helper()
	l, err := Open(m.fs, "/data/t-0", m.cfg, m.sync)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	m.l = l
	b := l.Bounds()
	if b.LogStart != m.start || b.HighWatermark != b.End || b.LastStable < b.LogStart || b.LastStable > b.End {
		t.Fatalf("%s: bounds %+v, log start was %d", what, b, m.start)
	}
	kept := 0
	for kept < len(m.written) && m.written[kept].LastOffset() < b.End {
		kept++
	}
	if kept < m.acked {
		t.Fatalf("%s: %d batches are left of %d that were acknowledged (of %d)", what, kept, m.acked, len(m.written))
	}
	m.written, m.acked = m.written[:kept], kept
	got := readAll(t, l, false, 1<<20)
	want := m.written
	for len(want) > 0 && want[0].LastOffset() < m.start {
		want = want[1:]
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d batches, want %d", what, len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("%s: batch %d (%d) is not what was written", what, i, got[i].BaseOffset())
		}
	}
	m.reckon(what)
}

// reckon computes the producers' state anew from the batches and compares.
func (m *crashModel) reckon(what string) {
	ps := newProducers()
	for _, b := range m.written {
		if !b.Control() {
			ps.append(b, 0)
			continue
		}
		mk, _, err := record.ParseMarker(b)
		if err != nil {
			m.t.Fatal(err)
		}
		ps.marker(b, mk, 0)
	}
	want, got := fmt.Sprint(ps.open), fmt.Sprint(m.l.OpenTxns())
	if want != got {
		m.t.Fatalf("%s: open transactions %s, want %s", what, got, want)
	}
	m.seqs, m.open = map[int64]int32{}, map[int64]bool{}
	for id, p := range ps.byID {
		q := m.l.mu.producers.byID[id]
		if q == nil || q.n < min(p.n, 1) || q.n > 0 && *q.last() != *p.last() || q.txnFirst != p.txnFirst {
			m.t.Fatalf("%s: producer %d is %+v, want %+v", what, id, q, p)
		}
		if p.n > 0 {
			m.seqs[id] = record.AddSequence(p.last().lastSeq, 1)
		}
		m.open[id] = p.txnFirst >= 0
	}
}

// TestPowerLossUnderLoad crashes a log with its syncer running and producers waiting for their acknowledgement.
func TestPowerLossUnderLoad(t *testing.T) {
	for seed := range 20 {
		rng := rand.New(rand.NewPCG(uint64(seed), 2))
		fs := vfs.NewMem()
		cfg := Config{SegmentBytes: 3000, IndexIntervalBytes: 64}
		s := NewSyncer(SyncerOptions{})
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); s.Run(ctx) }()
		l := mustOpen(t, fs, cfg, s)
		type ack struct {
			pid  int64
			upto int32
		}
		acks := make(chan ack, 1<<16)
		stop := make(chan struct{})
		producers := make(chan struct{})
		for pid := range int64(3) {
			go func() {
				defer func() { producers <- struct{}{} }()
				for seq := int32(0); ; seq++ {
					a, err := l.Append(from(pid, 0, seq, 1), AppendOptions{Now: epochTime})
					if err != nil {
						t.Error(err)
						return
					}
					if err := l.WaitSynced(ctx, a.LastOffset+1); err != nil {
						t.Error(err)
						return
					}
					acks <- ack{pid, seq}
					select {
					case <-stop:
						return
					default:
					}
				}
			}()
		}
		time.Sleep(time.Duration(rng.IntN(3000)) * time.Microsecond)
		acked := map[int64]int32{}
		for n := len(acks); n > 0; n-- { // everything acknowledged before the cut
			a := <-acks
			acked[a.pid] = max(acked[a.pid], a.upto+1)
		}
		crashed := fs.CrashClone(rng.IntN(3)*50, rng)
		close(stop)
		for range 3 {
			<-producers
		}
		mustClose(t, l)
		cancel()
		<-done
		l = mustOpen(t, crashed, cfg, nil)
		have := map[int64]int32{}
		for _, b := range readAll(t, l, false, 1<<20) {
			if b.BaseSequence() != have[b.ProducerID()] {
				t.Fatalf("seed %d: producer %d: sequence %d after %d", seed, b.ProducerID(), b.BaseSequence(), have[b.ProducerID()])
			}
			have[b.ProducerID()]++
		}
		for pid, n := range acked {
			if have[pid] < n {
				t.Fatalf("seed %d: producer %d: %d of %d acknowledged batches", seed, pid, have[pid], n)
			}
		}
		mustClose(t, l)
	}
}
