package log

import (
	"fmt"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// benchBatch is a batch of about 16 KiB.
func benchBatch() record.Batch {
	recs := make([]record.Record, 150)
	for i := range recs {
		recs[i] = record.Record{Timestamp: epochTime.UnixMilli(), Value: make([]byte, 100)}
	}
	return record.Build(record.BatchInfo{ProducerID: 1}, recs)
}

func BenchmarkAppend(b *testing.B) {
	for _, f := range []struct {
		name  string
		flush FlushPolicy
	}{{"os", FlushOS}, {"always", FlushAlways}} {
		b.Run(f.name, func(b *testing.B) {
			l, err := Open(vfs.OS{}, filepath.Join(b.TempDir(), "t-0"), Config{Flush: f.flush}, startSyncer(b))
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			batch := benchBatch()
			b.SetBytes(int64(len(batch)))
			b.ReportAllocs()
			seq := int32(0)
			for b.Loop() {
				resequence(batch, seq)
				if _, err := l.Append(batch, AppendOptions{Now: epochTime}); err != nil {
					b.Fatal(err)
				}
				seq = record.AddSequence(seq, batch.Count())
			}
		})
	}
}

func BenchmarkRead1MiB(b *testing.B) {
	l, err := Open(vfs.OS{}, filepath.Join(b.TempDir(), "t-0"), Config{Flush: FlushOS}, startSyncer(b))
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	batch := benchBatch()
	for seq := int32(0); l.Size() < 256<<20; seq += batch.Count() {
		resequence(batch, seq)
		if _, err := l.Append(batch, AppendOptions{Now: epochTime}); err != nil {
			b.Fatal(err)
		}
	}
	buf := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	off := int64(0)
	for b.Loop() {
		res, err := l.Read(ReadOptions{From: off, MaxBytes: len(buf), Buf: buf})
		if err != nil {
			b.Fatal(err)
		}
		if off += int64(len(res.Batches)/len(batch)) * int64(batch.Count()); off+10000 > l.Bounds().End {
			off = 0
		}
	}
}

// BenchmarkAppendSynced appends small batches and waits for the disk each time, alone and with many at once.
func BenchmarkAppendSynced(b *testing.B) {
	for _, perCPU := range []int{1, 8} {
		b.Run(fmt.Sprint("writers=", perCPU*runtime.GOMAXPROCS(0)), func(b *testing.B) {
			l, err := Open(vfs.OS{}, filepath.Join(b.TempDir(), "t-0"), Config{}, startSyncer(b))
			if err != nil {
				b.Fatal(err)
			}
			defer l.Close()
			b.ReportAllocs()
			b.SetParallelism(perCPU)
			b.RunParallel(func(pb *testing.PB) {
				batch := plain(4, "a value of some length, as an order may have one")
				for pb.Next() {
					batch.SetBaseOffset(0)
					a, err := l.Append(batch, AppendOptions{Now: epochTime})
					if err == nil {
						err = l.WaitSynced(b.Context(), a.LastOffset+1)
					}
					if err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
