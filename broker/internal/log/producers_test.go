package log

import (
	"bytes"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
)

// step is one append and what it must lead to. pid -1 is a plain batch; marker is 'c' or 'a' for an end of a
// transaction.
type step struct {
	pid    int64
	epoch  int16
	seq    int32
	n      int
	txn    bool
	marker byte
	coord  int32
	err    *kerr.Error
	dupOf  int64 // base offset of the first time; -1: not a duplicate
}

const maxSeq = math.MaxInt32

func data(pid int64, epoch int16, seq int32, n int) step {
	return step{pid: pid, epoch: epoch, seq: seq, n: n, dupOf: -1}
}

func (s step) fails(err *kerr.Error) step { s.err = err; return s }
func (s step) duplicates(o int64) step    { s.dupOf = o; return s }
func (s step) inTxn() step                { s.txn = true; return s }

func mark(pid int64, epoch int16, outcome byte, coord int32) step {
	return step{pid: pid, epoch: epoch, marker: outcome, coord: coord, dupOf: -1}
}

func (s step) run(t *testing.T, l *Log, at int) {
	t.Helper()
	before := l.Bounds().End
	var a Appended
	var err error
	switch {
	case s.marker != 0:
		a.BaseOffset, err = l.AppendMarker(s.pid, s.epoch, s.marker == 'c', s.coord)
	case s.pid < 0:
		a, err = l.Append(plain(s.n, "x"), AppendOptions{Now: epochTime})
	case s.txn:
		a, err = l.Append(inTxn(s.pid, s.epoch, s.seq, s.n), AppendOptions{Now: epochTime})
	default:
		a, err = l.Append(from(s.pid, s.epoch, s.seq, s.n), AppendOptions{Now: epochTime})
	}
	t.Logf("step %d: %+v -> %+v %v", at, s, a, err)
	wantErr(t, err, s.err)
	if s.err != nil || s.dupOf >= 0 {
		if l.Bounds().End != before {
			t.Fatalf("step %d: the log grew from %d to %d", at, before, l.Bounds().End)
		}
	}
	if s.err == nil && (a.Duplicate != (s.dupOf >= 0) || s.dupOf >= 0 && a.BaseOffset != s.dupOf) {
		t.Fatalf("step %d: got %+v", at, a)
	}
}

// TestProducerRules is broker.md's list of what a partition does with idempotent and transactional producers. Each
// list is run in one go, and again with a clean restart after every step, and again with a kill after every step.
func TestProducerRules(t *testing.T) {
	ooo, fenced, badTxn := kerr.OutOfOrderSequenceNumber, kerr.InvalidProducerEpoch, kerr.InvalidTxnState
	for name, steps := range map[string][]step{
		"in order":          {data(1, 0, 0, 3), data(1, 0, 3, 2), data(1, 0, 5, 1)},
		"gap":               {data(1, 0, 0, 3), data(1, 0, 4, 1).fails(ooo), data(1, 0, 3, 1)},
		"empty partition":   {data(1, 0, 5, 1).fails(ooo), data(1, 0, 0, 5), data(1, 0, 5, 1)},
		"unknown producer":  {data(-1, 0, 0, 1), data(1, 0, 4711, 2), data(1, 0, 4713, 1)},
		"two producers":     {data(1, 0, 0, 1), data(2, 0, 7, 1), data(1, 0, 1, 1), data(2, 0, 8, 1)},
		"duplicate of last": {data(1, 0, 0, 3), data(1, 0, 0, 3).duplicates(0), data(1, 0, 3, 1)},
		"duplicates of the last five": {
			data(1, 0, 0, 1), data(1, 0, 1, 2), data(1, 0, 3, 3), data(1, 0, 6, 1), data(1, 0, 7, 1), data(1, 0, 8, 1),
			data(1, 0, 1, 2).duplicates(1), data(1, 0, 3, 3).duplicates(3), data(1, 0, 6, 1).duplicates(6),
			data(1, 0, 7, 1).duplicates(7), data(1, 0, 8, 1).duplicates(8), data(1, 0, 0, 1).fails(ooo), data(1, 0, 9, 1),
		},
		"same first sequence, other length": {data(1, 0, 0, 3), data(1, 0, 0, 2).fails(ooo), data(1, 0, 1, 2).fails(ooo)},
		"wrap within a batch":               {data(-1, 0, 0, 1), data(1, 0, maxSeq-1, 4), data(1, 0, 2, 1), data(1, 0, maxSeq-1, 4).duplicates(1)},
		"wrap between batches":              {data(-1, 0, 0, 1), data(1, 0, maxSeq-1, 2), data(1, 0, 1, 1).fails(ooo), data(1, 0, 0, 1)},
		"old epoch":                         {data(1, 3, 0, 1), data(1, 2, 1, 1).fails(fenced), data(1, 2, 0, 1).fails(fenced)},
		"new epoch begins at 0":             {data(1, 0, 0, 2), data(1, 1, 2, 1).fails(ooo), data(1, 1, 0, 1), data(1, 1, 1, 1)},
		"new epoch forgets the five":        {data(1, 0, 0, 2), data(1, 1, 0, 2), data(1, 0, 0, 2).fails(fenced), data(1, 1, 0, 2).duplicates(2)},
		"marker of the same epoch keeps sequences": {
			data(1, 0, 0, 2).inTxn(), mark(1, 0, 'c', 0), data(1, 0, 0, 2).inTxn().duplicates(0), data(1, 0, 2, 1).inTxn(), mark(1, 0, 'a', 0),
			data(1, 0, 3, 1).inTxn(),
		},
		"marker of a bumped epoch restarts them": {
			data(1, 0, 0, 2).inTxn(), mark(1, 1, 'c', 0), data(1, 0, 2, 1).inTxn().fails(fenced), data(1, 1, 2, 1).inTxn().fails(ooo),
			data(1, 1, 0, 1).inTxn(),
		},
		"marker repeated":                   {data(1, 0, 0, 2).inTxn(), mark(1, 0, 'c', 0), mark(1, 0, 'c', 0), data(1, 0, 2, 1).inTxn()},
		"marker without a producer":         {mark(1, 0, 'a', 0), data(-1, 0, 0, 1)},
		"marker of an old epoch":            {data(1, 5, 0, 1).inTxn(), mark(1, 4, 'a', 0).fails(fenced), mark(1, 5, 'a', 0)},
		"marker of an old coordinator":      {data(1, 0, 0, 1).inTxn(), mark(1, 0, 'a', 7), mark(1, 0, 'a', 6).fails(kerr.TransactionCoordinatorFenced), mark(1, 0, 'a', 7)},
		"plain batch in a transaction":      {data(1, 0, 0, 1).inTxn(), data(1, 0, 1, 1).fails(badTxn), mark(1, 0, 'c', 0), data(1, 0, 1, 1)},
		"duplicate beats transaction state": {data(1, 0, 0, 1).inTxn(), data(1, 0, 0, 1).inTxn().duplicates(0)},
	} {
		t.Run(name, func(t *testing.T) {
			for _, mode := range []string{"straight", "close", "kill"} {
				fs := vfs.NewMem()
				l := mustOpen(t, fs, Config{}, nil)
				for i, s := range steps {
					s.run(t, l, i)
					switch mode {
					case "close":
						mustClose(t, l)
						l = mustOpen(t, fs, Config{}, nil)
					case "kill":
						fs = fs.CrashClone(0, nil)
						mustClose(t, l)
						l = mustOpen(t, fs, Config{}, nil)
					}
				}
				mustClose(t, l)
			}
		})
	}
}

// TestMarkerBatchesMatchKafka pins how a marker on a partition that never held a record counts: it is a record.
func TestVirginAfterMarker(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Config{}, nil)
	defer l.Close()
	mark(9, 0, 'a', 0).run(t, l, 0)
	data(1, 0, 5, 1).run(t, l, 1)
}

func TestSnapshotRoundTrip(t *testing.T) {
	ps := newProducers()
	for i := range int64(20) {
		for seq := range int32(i % 7) {
			b := from(i, int16(i), seq*2, 2)
			b.SetBaseOffset(int64(seq)*100 + i)
			ps.append(b, 5)
		}
		if i%3 == 0 {
			b := inTxn(i, int16(i), 0, 1)
			b.SetBaseOffset(1000 + i)
			ps.append(b, 5)
		}
		if i%4 == 0 {
			b := record.ControlMarker(i, int16(i), true, 3, 77)
			b.SetBaseOffset(2000 + i)
			ps.marker(b, record.Marker{CoordinatorEpoch: 3}, 5)
		}
	}
	enc := ps.encode()
	got, err := decodeProducers(enc, 5)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := fmt.Sprintf("%+v", ps.list()), fmt.Sprintf("%+v", got.list()); a != b {
		t.Errorf("got  %s\nwant %s", b, a)
	}
	if a, b := fmt.Sprint(ps.open), fmt.Sprint(got.open); a != b {
		t.Errorf("open: got %s want %s", b, a)
	}
	for id, p := range ps.byID {
		if q := got.byID[id]; q.n != p.n || q.batches != p.batches && fmt.Sprint(q.batches[:q.n]) != fmt.Sprint(p.batches[:p.n]) {
			t.Errorf("producer %d: %+v, want %+v", id, q, p)
		}
	}
	if !bytes.Equal(enc, got.encode()) {
		t.Error("not the same when written again")
	}
	// Damage anywhere is seen.
	for i := range enc {
		enc[i] ^= 0x10
		if _, err := decodeProducers(enc, 5); err == nil {
			t.Errorf("flip in byte %d is not seen", i)
		}
		enc[i] ^= 0x10
	}
	for i := range enc {
		if _, err := decodeProducers(enc[:i], 5); err == nil {
			t.Errorf("%d of %d bytes are accepted", i, len(enc))
		}
	}
}

func FuzzSnapshot(f *testing.F) {
	ps := newProducers()
	ps.append(inTxn(1, 2, 3, 4), 5)
	f.Add(ps.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if ps, err := decodeProducers(data, 0); err == nil {
			if _, err := decodeProducers(ps.encode(), 0); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestProducersExpire(t *testing.T) {
	cfg := Config{SegmentBytes: 300, ProducerExpiry: time.Hour}
	l := mustOpen(t, vfs.NewMem(), cfg, nil)
	defer l.Close()
	at := func(b record.Batch, after time.Duration) {
		t.Helper()
		if _, err := l.Append(b, AppendOptions{Now: epochTime.Add(after)}); err != nil {
			t.Fatal(err)
		}
	}
	at(from(1, 0, 0, 1), 0)
	at(inTxn(2, 0, 0, 1), 0)
	for i := range 5 { // rolls
		at(plain(2, "some bytes"), 2*time.Hour+time.Duration(i))
	}
	var ids []int64
	for _, p := range l.Producers() {
		ids = append(ids, p.ProducerID)
	}
	if fmt.Sprint(ids) != "[2]" {
		t.Errorf("producers %v, want only the one with an open transaction", ids)
	}
	at(from(1, 0, 17, 1), 3*time.Hour) // any sequence will do
	l.ExpireProducers(epochTime.Add(5 * time.Hour))
	if ps := l.Producers(); len(ps) != 1 || ps[0].ProducerID != 2 {
		t.Errorf("%+v, want only the one with an open transaction", ps)
	}
}

// A partition remembers so many producers: the idle ones make room, those with transactions open stay, and a forgotten one may go on with
// any sequence.
func TestProducersMakeRoom(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Config{MaxProducers: 3}, nil)
	defer l.Close()
	for at, s := range []step{
		data(1, 0, 0, 1), data(2, 0, 0, 1).inTxn(), data(3, 0, 0, 1),
		data(4, 0, 0, 1),                                   // instead of 1
		data(3, 0, 1, 1),                                   // is still known
		data(1, 0, 7, 1).inTxn(), data(5, 0, 0, 1).inTxn(), // instead of 3 and 4
		data(6, 0, 0, 1).fails(kerr.PolicyViolation),
		data(2, 0, 1, 1).inTxn(),
		mark(2, 0, 'c', 0),
		data(6, 0, 0, 1), // instead of 2
	} {
		s.run(t, l, at)
	}
	var ids []int64
	for _, p := range l.Producers() {
		ids = append(ids, p.ProducerID)
	}
	if fmt.Sprint(ids) != "[1 5 6]" {
		t.Errorf("remembers %v", ids)
	}
}
