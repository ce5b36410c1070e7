package log

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"path/filepath"
	"testing"
	"time"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var epochTime = time.UnixMilli(1_700_000_000_000)

// startSyncer runs a syncer for the time of the test.
func startSyncer(t testing.TB) *Syncer {
	t.Helper()
	s := NewSyncer(SyncerOptions{})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

func mustOpen(t testing.TB, fs vfs.FS, cfg Config, s *Syncer) *Log {
	t.Helper()
	l, err := Open(fs, "/data/t-0", cfg, s)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	return l
}

func mustClose(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Fatalf("close: %v", err)
	}
}

// plain makes a batch of n records without a producer.
func plain(n int, value string) record.Batch {
	recs := make([]record.Record, n)
	for i := range recs {
		recs[i] = record.Record{Timestamp: epochTime.UnixMilli() + int64(i), Key: []byte("k"), Value: []byte(value)}
	}
	return record.Build(record.NoProducer(), recs)
}

// from makes a batch of an idempotent producer.
func from(pid int64, epoch int16, seq int32, n int) record.Batch {
	recs := make([]record.Record, n)
	for i := range recs {
		recs[i] = record.Record{Timestamp: epochTime.UnixMilli(), Key: []byte("k"), Value: fmt.Appendf(nil, "%d/%d/%d", pid, epoch, int(seq)+i)}
	}
	return record.Build(record.BatchInfo{ProducerID: pid, ProducerEpoch: epoch, BaseSequence: seq}, recs)
}

func inTxn(pid int64, epoch int16, seq int32, n int) record.Batch {
	recs := make([]record.Record, n)
	for i := range recs {
		recs[i] = record.Record{Timestamp: epochTime.UnixMilli(), Value: fmt.Appendf(nil, "%d/%d/%d", pid, epoch, int(seq)+i)}
	}
	return record.Build(record.BatchInfo{ProducerID: pid, ProducerEpoch: epoch, BaseSequence: seq, Transactional: true}, recs)
}

// A log with a codec of its own stores what clients send in it, and nothing else changes.
func TestBatchesAreStoredInTheLogsCodec(t *testing.T) {
	for _, to := range []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd} {
		l := mustOpen(t, vfs.NewMem(), Config{Recode: true, Codec: to}, nil)
		var sent record.Rebuilder
		var dec record.Decompressor
		for seq, from1 := range []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd} {
			b, err := sent.Recode(from(7, 0, int32(seq)*2, 2), from1, &dec)
			if err != nil {
				t.Fatal(err)
			}
			for round := range 2 { // the second is a duplicate
				if a, err := l.Append(bytes.Clone(b), AppendOptions{}); err != nil || a.BaseOffset != int64(seq)*2 || a.Duplicate != (round == 1) {
					t.Fatalf("codec %d to %d: %+v, %v", from1, to, a, err)
				}
			}
		}
		for i, b := range readAll(t, l, false, 1<<20) {
			want := from(7, 0, int32(i)*2, 2)
			if b.Codec() != to || b.CheckCRC() != nil || b.BaseSequence() != want.BaseSequence() || b.Count() != 2 {
				t.Errorf("codec %d: batch %d of codec %d, sequence %d, %d records, %v", to, i, b.Codec(), b.BaseSequence(), b.Count(), b.CheckCRC())
			}
			raw, err := dec.Decompress(b.Codec(), b.Payload())
			if err != nil || !bytes.Equal(raw, want.Payload()) {
				t.Errorf("codec %d: records of batch %d differ: %v", to, i, err)
			}
		}
		mustClose(t, l)
	}
	l := mustOpen(t, vfs.NewMem(), Config{Recode: true, Codec: record.Zstd}, nil)
	defer mustClose(t, l)
	broken := plain(1, "x")
	broken[22] |= byte(record.Gzip) // which it is not
	binary.BigEndian.PutUint32(broken[17:], crc32.Checksum(broken[21:], castagnoli))
	_, err := l.Append(broken, AppendOptions{})
	wantErr(t, err, kerr.CorruptMessage)
}

func mustAppend(t testing.TB, l *Log, b record.Batch) Appended {
	t.Helper()
	a, err := l.Append(b, AppendOptions{Now: epochTime})
	if err != nil {
		t.Fatalf("append: %v", err)
	}
	return a
}

// readAll reads everything a reader may see, in reads of maxBytes, and returns the batches.
func readAll(t testing.TB, l *Log, committed bool, maxBytes int) []record.Batch {
	t.Helper()
	var out []record.Batch
	for off := l.Bounds().LogStart; ; {
		res, err := l.Read(ReadOptions{From: off, MaxBytes: maxBytes, MinOne: true, Committed: committed})
		if err != nil {
			t.Fatalf("read at %d: %v", off, err)
		}
		if len(res.Batches) == 0 {
			return out
		}
		for rest := res.Batches; len(rest) > 0; {
			b, err := record.Parse(rest)
			if err != nil {
				t.Fatalf("batch at %d: %v", off, err)
			}
			if err := b.Validate(); err != nil {
				t.Fatalf("batch at %d: %v", off, err)
			}
			out = append(out, b)
			off = b.LastOffset() + 1
			rest = rest[len(b):]
		}
	}
}

func wantErr(t *testing.T, err error, want *kerr.Error) {
	t.Helper()
	var k *kerr.Error
	if want == nil {
		if err != nil {
			t.Fatalf("got error %v", err)
		}
		return
	}
	if !errors.As(err, &k) || k.Code != want.Code {
		t.Fatalf("got %v, want %v", err, want)
	}
}

func TestAppendReadAcrossSegmentsAndRestart(t *testing.T) {
	for _, osFS := range []bool{false, true} {
		t.Run(fmt.Sprintf("os=%v", osFS), func(t *testing.T) {
			var fs vfs.FS = vfs.NewMem()
			dir := "/data/t-0"
			if osFS {
				fs, dir = vfs.OS{}, filepath.Join(t.TempDir(), "t-0")
			}
			cfg := Config{SegmentBytes: 2000, IndexIntervalBytes: 100, TopicID: [16]byte{1, 2, 3}}
			s := startSyncer(t)
			l, err := Open(fs, dir, cfg, s)
			if err != nil {
				t.Fatal(err)
			}
			var want [][]byte
			for i := range 100 {
				b := plain(i%7+1, fmt.Sprint("value ", i))
				mustAppend(t, l, b)
				want = append(want, bytes.Clone(b))
			}
			if err := l.WaitSynced(context.Background(), l.Bounds().End); err != nil {
				t.Fatal(err)
			}
			check := func() {
				t.Helper()
				for _, max := range []int{1, 150, 700, 1 << 20} {
					got := readAll(t, l, false, max)
					if len(got) != len(want) {
						t.Fatalf("max %d: %d batches, want %d", max, len(got), len(want))
					}
					for i := range got {
						if !bytes.Equal(got[i], want[i]) {
							t.Fatalf("max %d: batch %d differs", max, i)
						}
					}
				}
				// Every offset, also in the middle of a batch, leads to its batch.
				for off := int64(0); off < l.Bounds().End; off++ {
					res, err := l.Read(ReadOptions{From: off, MaxBytes: 1, MinOne: true})
					if err != nil {
						t.Fatal(err)
					}
					if b := record.Batch(res.Batches); b.BaseOffset() > off || b.LastOffset() < off {
						t.Fatalf("offset %d: got %d-%d", off, b.BaseOffset(), b.LastOffset())
					}
				}
			}
			check()
			for range 2 {
				mustClose(t, l)
				if l, err = Open(fs, dir, cfg, s); err != nil {
					t.Fatal(err)
				}
				if n := len(*l.view.Load()); n < 5 {
					t.Fatalf("%d segments", n)
				}
				check()
				b := plain(2, "more")
				mustAppend(t, l, b)
				want = append(want, bytes.Clone(b))
				if err := l.WaitSynced(context.Background(), l.Bounds().End); err != nil {
					t.Fatal(err)
				}
				check()
			}
			mustClose(t, l)
		})
	}
}

// resequence turns a batch that was appended before into the next one of its producer.
func resequence(b record.Batch, seq int32) {
	b.SetBaseOffset(0)
	b[53], b[54], b[55], b[56] = byte(seq>>24), byte(seq>>16), byte(seq>>8), byte(seq)
	reseal(b)
}

// reseal renews the CRC of a batch that a test has changed.
func reseal(b record.Batch) {
	crc := crc32.Checksum(b[21:], castagnoli)
	b[17], b[18], b[19], b[20] = byte(crc>>24), byte(crc>>16), byte(crc>>8), byte(crc)
}
