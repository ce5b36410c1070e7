package log

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

func keyed(txn bool, pid int64, seq int32, kv ...string) record.Batch {
	info := record.NoProducer()
	if pid >= 0 {
		info = record.BatchInfo{ProducerID: pid, BaseSequence: seq, Transactional: txn}
	}
	var recs []record.Record
	for i := 0; i < len(kv); i += 2 {
		r := record.Record{Timestamp: epochTime.UnixMilli(), Key: []byte(kv[i])}
		if kv[i+1] != "" {
			r.Value = []byte(kv[i+1])
		}
		recs = append(recs, r)
	}
	return record.Build(info, recs)
}

// shape describes what lies in a log: records by offset, markers, empty batches.
func shape(t *testing.T, l *Log) string {
	t.Helper()
	out := ""
	for _, b := range readAll(t, l, false, 1<<20) {
		switch {
		case b.Control():
			out += fmt.Sprintf("%d:marker ", b.BaseOffset())
		case b.Filling():
			out += fmt.Sprintf("%d-%d:nothing ", b.BaseOffset(), b.LastOffset())
		case b.Count() == 0:
			out += fmt.Sprintf("%d-%d:empty ", b.BaseOffset(), b.LastOffset())
		}
		for it := record.NewIterator(b, nil); it.Next(); {
			if r := it.Record(); !b.Control() {
				out += fmt.Sprintf("%d:%s=%s ", r.Offset, r.Key, r.Value)
			}
		}
	}
	return out
}

// Tombstones and the markers of transactions that nothing is left of go, after their horizon, and not before.
func TestCompactionForgetsInTheEnd(t *testing.T) {
	cfg := Config{SegmentBytes: 1 << 20, Compact: true, TombstoneRetention: time.Hour, MaxCompactionLag: time.Minute, ProducerExpiry: time.Hour, SegmentAge: 1e6 * time.Hour}
	l := mustOpen(t, vfs.NewMem(), cfg, nil)
	defer l.Close()
	mustAppend(t, l, keyed(false, -1, 0, "a", "1", "b", "1"))
	mustAppend(t, l, keyed(true, 7, 0, "a", "2"))
	if _, err := l.AppendMarker(7, 0, true, 0); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, keyed(true, 7, 1, "a", "aborted"))
	if _, err := l.AppendMarker(7, 0, false, 0); err != nil {
		t.Fatal(err)
	}
	mustAppend(t, l, keyed(false, -1, 0, "a", "", "c", "1"))
	l.mu.Lock() // the producer is not remembered any more
	delete(l.mu.producers.byID, 7)
	l.mu.Unlock()
	now := time.Now() // the markers' clock
	clean := func(later time.Duration, want string) {
		t.Helper()
		now = now.Add(later)
		mustAppend(t, l, keyed(false, -1, 0, "x", fmt.Sprint(later)))
		for range 2 { // the first rolls: the records are old
			if _, err := l.Clean(context.Background(), CleanOptions{Now: now.Add(2 * time.Minute)}); err != nil {
				t.Fatal(err)
			}
		}
		if got := shape(t, l); got != want {
			t.Errorf("after %s: %s, want %s", later, got, want)
		}
	}
	clean(0, "1:b=1 2-2:nothing 3:marker 4-4:nothing 5:marker 6:a= 7:c=1 8:x=0s ")
	clean(59*time.Minute, "1:b=1 2-2:nothing 3:marker 4-4:nothing 5:marker 6:a= 7:c=1 8-8:nothing 9:x=59m0s ")
	clean(2*time.Minute, "1:b=1 2-5:nothing 7:c=1 8-8:nothing 9-9:nothing 10:x=2m0s ")
	clean(time.Hour, "1:b=1 2-5:nothing 7:c=1 8-8:nothing 9-9:nothing 10-10:nothing 11:x=1h0m0s ")
}

// A rebuilt batch has the records it was given, in its codec, at their offsets and times, and everything else of the first one.
func TestRebuiltBatches(t *testing.T) {
	var r record.Rebuilder
	for codec := range 5 {
		b := keyed(true, 7, 3, "a", "1", "b", "", "c", "3")
		b.SetBaseOffset(100)
		b[22] |= byte(codec)
		var all []record.Record
		plain := keyed(true, 7, 3, "a", "1", "b", "", "c", "3")
		plain.SetBaseOffset(100)
		for it := record.NewIterator(plain, nil); it.Next(); {
			all = append(all, *it.Record())
		}
		out, err := r.Rebuild(b, all[1:], 1_800_000_000_000)
		if err != nil {
			t.Fatal(err)
		}
		if err := out.Validate(); err != nil {
			t.Fatal(err)
		}
		h, ok := out.DeleteHorizon()
		if out.Codec() != record.Codec(codec) || out.BaseOffset() != 100 || out.LastOffset() != 102 || out.BaseSequence() != 3 || out.LastSequence() != 5 ||
			out.Count() != 2 || !ok || h != 1_800_000_000_000 || out.MaxTimestamp() != epochTime.UnixMilli() || !out.Transactional() {
			t.Errorf("codec %d: %x", codec, out[:record.HeaderBytes])
		}
		got := ""
		it := record.NewIterator(out, nil)
		for it.Next() {
			rec := it.Record()
			got += fmt.Sprintf("%d:%s=%s@%d ", rec.Offset, rec.Key, rec.Value, rec.Timestamp-epochTime.UnixMilli())
		}
		if it.Err() != nil || got != "101:b=@0 102:c=3@0 " {
			t.Errorf("codec %d: %s %v", codec, got, it.Err())
		}
	}
}
