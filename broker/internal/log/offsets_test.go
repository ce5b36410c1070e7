package log

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
)

// timed makes a batch with records at these seconds after epochTime.
func timed(secs ...int) record.Batch {
	recs := make([]record.Record, len(secs))
	for i, s := range secs {
		recs[i] = record.Record{Timestamp: epochTime.UnixMilli() + int64(s)*1000, Key: []byte("k"), Value: []byte("v")}
	}
	return record.Build(record.NoProducer(), recs)
}

func TestOffsetForTime(t *testing.T) {
	for _, seg := range []int64{1 << 20, 170} {
		fs := vfs.NewMem()
		cfg := Config{SegmentBytes: seg, IndexIntervalBytes: 1}
		l := mustOpen(t, fs, cfg, nil)
		for _, b := range []record.Batch{timed(10, 20, 30), timed(25), timed(40, 35, 60), timed(50), timed(55, 60)} {
			mustAppend(t, l, b)
		}
		check := func() {
			t.Helper()
			for _, c := range []struct {
				sec, offset, at int
			}{{0, 0, 10}, {10, 0, 10}, {11, 1, 20}, {21, 2, 30}, {31, 4, 40}, {41, 6, 60}, {60, 6, 60}, {61, -1, 0}} {
				got, found, err := l.OffsetForTime(epochTime.UnixMilli()+int64(c.sec)*1000, false)
				if err != nil || found != (c.offset >= 0) {
					t.Fatalf("segment %d, second %d: %+v %v %v", seg, c.sec, got, found, err)
				}
				if found && (got.Offset != int64(c.offset) || got.Timestamp != epochTime.UnixMilli()+int64(c.at)*1000) {
					t.Errorf("segment %d, second %d: %+v, want offset %d", seg, c.sec, got, c.offset)
				}
			}
			got, found, err := l.MaxTimestamp()
			if err != nil || !found || got.Offset != 6 || got.Timestamp != epochTime.UnixMilli()+60000 {
				t.Errorf("segment %d: max %+v %v %v", seg, got, found, err)
			}
		}
		check()
		mustClose(t, l)
		l = mustOpen(t, fs, cfg, nil)
		check()
		if _, err := l.DeleteRecords(7); err != nil {
			t.Fatal(err)
		}
		if got, found, err := l.OffsetForTime(0, false); err != nil || !found || got.Offset != 7 {
			t.Errorf("after a deletion: %+v %v %v", got, found, err)
		}
		mustClose(t, l)
	}
}

func TestTimesOfWhatIsNotVisible(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Config{}, NewSyncer(SyncerOptions{}))
	defer l.Close()
	if _, found, err := l.MaxTimestamp(); found || err != nil {
		t.Errorf("empty log: %v %v", found, err)
	}
	mustAppend(t, l, timed(5, 4))
	l.syncOnce()
	mustAppend(t, l, timed(9))
	if got, found, err := l.MaxTimestamp(); err != nil || !found || got.Offset != 0 {
		t.Errorf("max %+v %v %v", got, found, err)
	}
	if _, found, err := l.OffsetForTime(epochTime.UnixMilli()+9000, false); found || err != nil {
		t.Errorf("time of a record above the high watermark: %v %v", found, err)
	}
}

func TestDeleteRecords(t *testing.T) {
	fs := vfs.NewMem()
	cfg := Config{SegmentBytes: 400, IndexIntervalBytes: 100}
	l := mustOpen(t, fs, cfg, nil)
	for range 20 {
		mustAppend(t, l, plain(2, "some value"))
	}
	segments := len(*l.view.Load())
	for _, c := range []struct {
		to, start int64
		err       *kerr.Error
	}{{0, 0, nil}, {41, 0, kerr.OffsetOutOfRange}, {-2, 0, kerr.OffsetOutOfRange}, {3, 3, nil}, {2, 3, nil}, {21, 21, nil}} {
		start, err := l.DeleteRecords(c.to)
		wantErr(t, err, c.err)
		if start != c.start {
			t.Errorf("delete to %d: start %d, want %d", c.to, start, c.start)
		}
	}
	if n := len(*l.view.Load()); n >= segments {
		t.Errorf("%d segments of %d are left", n, segments)
	}
	res, err := l.Read(ReadOptions{From: 20, MaxBytes: 1000, MinOne: true})
	wantErr(t, err, kerr.OffsetOutOfRange)
	if res.Bounds.LogStart != 21 {
		t.Errorf("bounds with the error: %+v", res.Bounds)
	}
	// It holds after a power cut at once.
	crashed := fs.CrashClone(0, nil)
	mustClose(t, l)
	l = mustOpen(t, crashed, cfg, nil)
	if b := l.Bounds(); b != (Bounds{21, 40, 40, 40}) {
		t.Errorf("bounds after a crash: %+v", b)
	}
	if start, err := l.DeleteRecords(-1); err != nil || start != 40 {
		t.Errorf("delete all: %d %v", start, err)
	}
	if got := readAll(t, l, false, 1000); len(got) != 0 {
		t.Errorf("%d batches are left", len(got))
	}
	if a := mustAppend(t, l, plain(1, "next")); a.BaseOffset != 40 {
		t.Errorf("next offset %d", a.BaseOffset)
	}
	mustClose(t, l)
}

func TestRetention(t *testing.T) {
	for _, c := range []struct {
		name  string
		cfg   Config
		now   time.Duration
		start int64
	}{
		{"nothing due", Config{RetentionAge: time.Hour}, time.Hour, 0},
		{"by age", Config{RetentionAge: 4 * time.Second}, 10 * time.Second, 6},
		{"all by age", Config{RetentionAge: time.Hour}, 100 * time.Hour, 10},
		{"by size", Config{RetentionBytes: 150}, 0, 7},
		{"compact only", Config{Compact: true, RetentionAge: time.Second}, 100 * time.Hour, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.cfg.SegmentBytes = 100 // a batch each
			l := mustOpen(t, vfs.NewMem(), c.cfg, nil)
			defer l.Close()
			for i := range 10 {
				mustAppend(t, l, timed(i))
			}
			if _, err := l.Retain(epochTime.Add(c.now)); err != nil {
				t.Fatal(err)
			}
			if b := l.Bounds(); b.LogStart != c.start || b.End != 10 {
				t.Errorf("bounds %+v, want start %d", b, c.start)
			}
			mustAppend(t, l, timed(11))
		})
	}
}

// What a configuration keeps that came while old segments were being looked for is kept.
func TestRetentionIsRaisedMeanwhile(t *testing.T) {
	fs := &vfs.Faulty{FS: vfs.NewMem()}
	cfg := Config{SegmentBytes: 100, Delete: true, RetentionAge: 4 * time.Second} // a batch each
	l := mustOpen(t, fs, cfg, nil)
	for i := range 10 {
		mustAppend(t, l, timed(i))
	}
	mustClose(t, l)
	l = mustOpen(t, fs, cfg, nil)
	defer l.Close()
	fs.Fail(func(op vfs.Op, _ string) error {
		if op != vfs.OpOpen {
			return nil
		}
		fs.Fail(nil)
		more := cfg
		more.RetentionAge = time.Hour
		return l.SetConfig(more)
	})
	if n, err := l.Retain(epochTime.Add(10 * time.Second)); n != 0 || err != nil || l.Bounds().LogStart != 0 {
		t.Errorf("%d segments went, %v; the log begins at %d", n, err, l.Bounds().LogStart)
	}
	if n, err := l.Retain(epochTime.Add(2 * time.Hour)); n == 0 || err != nil {
		t.Errorf("%d segments went, %v, by the retention that holds now", n, err)
	}
}

func TestLeaderEpochGrowsWhereRecordsMayBeLost(t *testing.T) {
	fs := vfs.NewMem()
	cfg := Config{Flush: FlushOS}
	l := mustOpen(t, fs, cfg, nil)
	mustAppend(t, l, plain(3, "a"))
	mustClose(t, l)
	l = mustOpen(t, fs, cfg, nil)
	if l.LeaderEpoch() != 0 {
		t.Errorf("epoch %d after a clean restart", l.LeaderEpoch())
	}
	mustAppend(t, l, plain(2, "b"))
	crashed := fs.CrashClone(100, nil)
	mustClose(t, l)
	l = mustOpen(t, crashed, cfg, nil)
	mustAppend(t, l, plain(1, "c"))
	if l.LeaderEpoch() != 1 {
		t.Errorf("epoch %d after a kill", l.LeaderEpoch())
	}
	check := func() {
		t.Helper()
		for _, c := range []struct {
			ask, epoch int32
			end        int64
		}{{-1, -1, -1}, {0, 0, 5}, {1, 1, 6}, {2, -1, -1}} {
			if e, end := l.EpochEnd(c.ask); e != c.epoch || end != c.end {
				t.Errorf("epoch %d ends %d at %d, want %d at %d", c.ask, e, end, c.epoch, c.end)
			}
		}
	}
	check()
	got := readAll(t, l, false, 1000)
	if e := fmt.Sprint(got[0].LeaderEpoch(), got[1].LeaderEpoch(), got[2].LeaderEpoch()); e != "0 0 1" {
		t.Errorf("epochs in batches: %s", e)
	}
	mustClose(t, l)
	l = mustOpen(t, crashed, cfg, nil)
	check()
	mustClose(t, l)
}

// TestEpochsUnderFlushOS: with a generation for each start, no leader epoch that anybody has heard of begins again where a power
// cut took records, though nothing was synced for it; and every batch that is there finds its epoch.
func TestEpochsUnderFlushOS(t *testing.T) {
	for seed := range uint64(150) {
		rng := rand.New(rand.NewPCG(seed, 3))
		fs := vfs.NewMem()
		cfg := Config{Flush: FlushOS, SegmentBytes: 400}
		s := NewSyncer(SyncerOptions{}) // driven by hand
		top := int32(0)
		for start := range int32(8) {
			if start > 0 {
				var err error
				if cfg.Generation, err = NextGeneration(fs, "/data"); err != nil {
					t.Fatal(err)
				}
			}
			l := mustOpen(t, fs, cfg, s)
			if e := l.LeaderEpoch(); start > 0 && e <= top {
				t.Fatalf("seed %d, start %d: epoch %d, clients have heard of %d", seed, start, e, top)
			}
			top = l.LeaderEpoch()
			for range rng.IntN(6) {
				mustAppend(t, l, plain(1+rng.IntN(3), "some"))
				if rng.IntN(4) == 0 {
					l.syncOnce()
				}
			}
			for _, b := range readAll(t, l, false, 1<<20) {
				e, end := l.EpochEnd(b.LeaderEpoch())
				if e != b.LeaderEpoch() || end <= b.LastOffset() {
					t.Fatalf("seed %d, start %d: batch at %d has epoch %d; EpochEnd %d, %d", seed, start, b.BaseOffset(), b.LeaderEpoch(), e, end)
				}
			}
			if rng.IntN(3) == 0 || start == 0 {
				mustClose(t, l)
			}
			if rng.IntN(3) > 0 { // otherwise only the process died
				fs = fs.CrashClone([]int{0, 50, 100}[rng.IntN(3)], rng)
			}
		}
	}
}

// TestKillUnderFlushOSNeedsNoSync: what recovery finds is as durable as it was, and a broker with thousands of partitions has no
// time for more.
func TestKillUnderFlushOSNeedsNoSync(t *testing.T) {
	mem := vfs.NewMem()
	mustAppend(t, mustOpen(t, mem, Config{Flush: FlushOS}, NewSyncer(SyncerOptions{})), plain(3, "a"))
	fs := &vfs.Faulty{FS: mem}
	syncs := 0
	fs.Fail(func(op vfs.Op, name string) error {
		if op == vfs.OpSync || op == vfs.OpSyncDir {
			syncs++
		}
		return nil
	})
	l := mustOpen(t, fs, Config{Flush: FlushOS, Generation: 1}, NewSyncer(SyncerOptions{}))
	if b := l.Bounds(); syncs != 0 || b.HighWatermark != 3 || l.LeaderEpoch() != 1 {
		t.Errorf("%d syncs, %+v, epoch %d", syncs, b, l.LeaderEpoch())
	}
	mustClose(t, l)
}

func TestOffsetsOutOfRange(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Config{}, NewSyncer(SyncerOptions{}))
	defer l.Close()
	mustAppend(t, l, plain(2, "x"))
	for _, c := range []struct {
		from int64
		err  *kerr.Error
	}{{-1, kerr.OffsetOutOfRange}, {0, nil}, {2, nil}, {3, kerr.OffsetOutOfRange}} {
		res, err := l.Read(ReadOptions{From: c.from, MaxBytes: 1000, MinOne: true})
		wantErr(t, err, c.err)
		if len(res.Batches) != 0 || res.Batches == nil || res.Bounds.End != 2 {
			t.Errorf("from %d: %+v", c.from, res) // not synced: nothing is visible
		}
	}
	l.syncOnce()
	if n := l.Available(0, false); n != l.Size() {
		t.Errorf("%d bytes available of %d", n, l.Size())
	}
	if n := l.Available(2, false); n != 0 {
		t.Errorf("%d bytes available at the end", n)
	}
}

func TestReadLimits(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Config{}, nil)
	defer l.Close()
	small, large := plain(1, "s"), plain(1, string(make([]byte, 5000)))
	for _, b := range []record.Batch{small, large, small} {
		b.SetBaseOffset(0)
		mustAppend(t, l, b)
	}
	buf := make([]byte, 6000)
	for _, c := range []struct {
		from     int64
		maxBytes int
		minOne   bool
		want     int
	}{
		{0, 0, false, 0}, {0, len(small) - 1, false, 0}, {0, len(small), false, len(small)}, {0, len(small) + 1, true, len(small)},
		{0, 0, true, len(small)}, {1, 100, false, 0}, {1, 100, true, len(large)}, {0, 1 << 30, false, 2*len(small) + len(large)},
	} {
		for _, b := range [][]byte{nil, buf[:0], buf[:100:100]} {
			res, err := l.Read(ReadOptions{From: c.from, MaxBytes: c.maxBytes, MinOne: c.minOne, Buf: b})
			if err != nil || len(res.Batches) != c.want || cap(res.Batches) != len(res.Batches) {
				t.Errorf("%+v: %d bytes (cap %d) %v", c, len(res.Batches), cap(res.Batches), err)
			}
			if cap(b) >= max(c.want, 1) && c.want > 0 && &res.Batches[0] != &b[:1][0] {
				t.Errorf("%+v: the buffer given was not used", c)
			}
		}
	}
}

// TestClientBatchesAreChecked goes through broker.md's list of what a broker refuses.
func TestClientBatchesAreChecked(t *testing.T) {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer enc.Close()
	good := func() record.Batch { return plain(2, "v") }
	with := func(f func(b record.Batch)) record.Batch {
		b := good()
		f(b)
		reseal(b)
		return b
	}
	ms := epochTime.UnixMilli()
	for _, c := range []struct {
		name  string
		batch record.Batch
		cfg   Config
		o     AppendOptions
		err   *kerr.Error
	}{
		{"good", good(), Config{}, AppendOptions{}, nil},
		{"empty", nil, Config{}, AppendOptions{}, kerr.CorruptMessage},
		{"cut", good()[:70], Config{}, AppendOptions{}, kerr.CorruptMessage},
		{"two batches", append(good(), good()...), Config{}, AppendOptions{}, kerr.InvalidRecord},
		{"magic", with(func(b record.Batch) { b[16] = 1 }), Config{}, AppendOptions{}, kerr.InvalidRecord},
		{"crc", func() record.Batch { b := good(); b[len(b)-1] ^= 1; return b }(), Config{}, AppendOptions{}, kerr.CorruptMessage},
		{"too large", good(), Config{MaxBatchBytes: 78}, AppendOptions{}, kerr.MessageTooLarge},
		{"larger than a segment", good(), Config{SegmentBytes: 78}, AppendOptions{}, kerr.RecordListTooLarge},
		{"control", with(func(b record.Batch) { b[22] |= record.AttrControl }), Config{}, AppendOptions{}, kerr.InvalidRecord},
		{"count", with(func(b record.Batch) { b[60] = 9 }), Config{}, AppendOptions{}, kerr.InvalidRecord},
		{"no records", with(func(b record.Batch) { b[60], b[26] = 0, 0 }), Config{}, AppendOptions{}, kerr.InvalidRecord},
		{"base offset", with(func(b record.Batch) { b.SetBaseOffset(1) }), Config{}, AppendOptions{}, kerr.InvalidRecord},
		{"horizon", with(func(b record.Batch) { b[22] |= record.AttrDeleteHorizon }), Config{}, AppendOptions{}, kerr.InvalidRecord},
		{"codec", with(func(b record.Batch) { b[22] |= 6 }), Config{}, AppendOptions{}, kerr.UnsupportedCompressionType},
		{"zstd, old client", with(func(b record.Batch) { b[22] |= 4 }), Config{}, AppendOptions{ProduceVersion: 6}, kerr.UnsupportedCompressionType},
		{"zstd", with(func(b record.Batch) { b[22] |= 4 }), Config{}, AppendOptions{ProduceVersion: 7}, nil},
		{"sequence", from(1, 0, -1, 1), Config{}, AppendOptions{}, kerr.InvalidRecord},
		{"producer epoch", from(1, -1, 0, 1), Config{}, AppendOptions{}, kerr.InvalidRecord},
		{"transaction of nobody", with(func(b record.Batch) { b[22] |= record.AttrTransactional }), Config{}, AppendOptions{}, kerr.InvalidRecord},
		{"append time claimed", with(func(b record.Batch) { b[22] |= record.AttrLogAppendTime }), Config{}, AppendOptions{}, kerr.InvalidTimestamp},
		{"future", timed(3601), Config{}, AppendOptions{}, kerr.InvalidTimestamp},
		{"future allowed", timed(3601), Config{MaxTimestampAhead: -1}, AppendOptions{}, nil},
		{"past", timed(-61), Config{MaxTimestampBehind: time.Minute}, AppendOptions{}, kerr.InvalidTimestamp},
		{"future under append time", timed(3601), Config{LogAppendTime: true}, AppendOptions{}, nil},
		{"compacted", good(), Config{Compact: true}, AppendOptions{}, nil},
		{"compacted, garbage inside", with(func(b record.Batch) { b[61] = 0xff }), Config{Compact: true}, AppendOptions{}, kerr.CorruptMessage},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := mustOpen(t, vfs.NewMem(), c.cfg, nil)
			defer l.Close()
			c.o.Now = time.UnixMilli(ms)
			a, err := l.Append(c.batch, c.o)
			wantErr(t, err, c.err)
			if err != nil {
				if l.Bounds().End != 0 {
					t.Error("it was appended all the same")
				}
				return
			}
			got := readAll(t, l, false, 1000)
			if len(got) != 1 || c.cfg.LogAppendTime && (got[0].MaxTimestamp() != ms || a.AppendTime != ms || !got[0].LogAppendTime()) {
				t.Errorf("%d batches, %+v", len(got), a)
			}
		})
	}
}

func TestKeylessRecordsOnACompactedLog(t *testing.T) {
	l := mustOpen(t, vfs.NewMem(), Config{Compact: true}, nil)
	defer l.Close()
	b := record.Build(record.NoProducer(), []record.Record{
		{Timestamp: 1, Key: []byte("k")}, {Timestamp: 1, Value: []byte("v")}, {Timestamp: 1, Key: []byte{}},
	})
	_, err := l.Append(bytes.Clone(b), AppendOptions{Now: epochTime})
	var bad *InvalidRecordsError
	if !errors.As(err, &bad) || !errors.Is(err, kerr.InvalidRecord) || len(bad.Records) != 1 || bad.Records[0].Index != 1 {
		t.Fatalf("got %v", err)
	}
	if _, err := l.Append(b, AppendOptions{Now: epochTime, Origin: FromCoordinator}); err != nil {
		t.Fatal(err)
	}
}

func TestTopicIDIsChecked(t *testing.T) {
	fs := vfs.NewMem()
	id := [16]byte{1, 2, 3, 250}
	mustClose(t, mustOpen(t, fs, Config{TopicID: id}, nil))
	if got, err := ReadTopicID(fs, "/data/t-0"); err != nil || got != id {
		t.Fatalf("%x %v", got, err)
	}
	if _, err := Open(fs, "/data/t-0", Config{TopicID: [16]byte{9}}, nil); err == nil {
		t.Fatal("opened with another topic's id")
	}
	mustClose(t, mustOpen(t, fs, Config{}, nil))
}
