package log

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"syscall"
	"testing"
	"time"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
)

// snapshotOf copies a directory's files, the unsynced ones too.
func snapshotOf(t *testing.T, fs vfs.FS, dir string) map[string][]byte {
	t.Helper()
	names, err := fs.List(dir)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]byte{}
	for _, n := range names {
		if out[n], err = vfs.ReadFile(fs, path.Join(dir, n), 1<<30); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

func restore(t *testing.T, files map[string][]byte) *vfs.Mem {
	t.Helper()
	fs := vfs.NewMem()
	if err := fs.MkdirAll("/data/t-0"); err != nil {
		t.Fatal(err)
	}
	for n, data := range files {
		if err := vfs.WriteFile(fs, path.Join("/data/t-0", n), data); err != nil {
			t.Fatal(err)
		}
	}
	return fs
}

// A log that was closed is opened by its small files alone, however long it is: no batch is read.
func TestClosedLogIsOpenedUnread(t *testing.T) {
	fs := &vfs.Faulty{FS: vfs.NewMem()}
	cfg := Config{SegmentBytes: 1500, IndexIntervalBytes: 100}
	l := mustOpen(t, fs, cfg, nil)
	for i := range int32(21) {
		mustAppend(t, l, from(7, 0, i*2, 2))
	}
	mustClose(t, l)
	fs.Fail(func(op vfs.Op, name string) error {
		if op == vfs.OpRead && path.Ext(name) == ".log" {
			t.Errorf("%s is read", name)
		}
		return nil
	})
	l = mustOpen(t, fs, cfg, nil)
	fs.Fail(nil)
	if a, err := l.Append(from(7, 0, 40, 2), AppendOptions{}); err != nil || !a.Duplicate {
		t.Errorf("the producer of the last batch is not known: %+v, %v", a, err)
	}
	mustClose(t, l)
}

// A rotten batch is told of when it is its turn; what is before it can be read, however much is asked for.
func TestBatchesBeforeDamageAreRead(t *testing.T) {
	fs := vfs.NewMem()
	l := mustOpen(t, fs, Config{}, nil)
	for range 4 {
		mustAppend(t, l, plain(1, "value"))
	}
	mustClose(t, l)
	files := snapshotOf(t, fs, "/data/t-0")
	log := files["00000000000000000000.log"]
	log[len(log)*3/4-1] ^= 1 // in the third of four
	l = mustOpen(t, restore(t, files), Config{}, nil)
	defer mustClose(t, l)
	for range 2 {
		for from, want := range map[int64]int{0: 2, 1: 1, 2: 0, 3: 1} {
			res, err := l.Read(ReadOptions{From: from, MaxBytes: 1 << 20, MinOne: true})
			if got := len(res.Batches) / len(plain(1, "value")); got != want || errors.Is(err, ErrCorrupt) != (want == 0) {
				t.Errorf("from %d: %d batches, %v; want %d", from, got, err, want)
			}
		}
	}
}

// TestTornWrite cuts the active segment at every byte of its last three batches, of a log that was closed and of one
// that was killed; and instead of cutting, fills the rest with zeros, and with noise.
func TestTornWrite(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprintf("clean=%v", clean), func(t *testing.T) {
			fs := vfs.NewMem()
			cfg := Config{SegmentBytes: 1500, IndexIntervalBytes: 100}
			l := mustOpen(t, fs, cfg, nil)
			var ends []int64 // size of the active segment after each of its batches
			var batches []record.Batch
			for i := range int32(21) {
				b := from(7, 0, i*2, 2)
				mustAppend(t, l, b)
				batches = append(batches, bytes.Clone(b))
				if n := l.mu.active.size.Load(); n == int64(len(b)) {
					ends = ends[:0]
				}
				ends = append(ends, l.mu.active.size.Load())
			}
			name := path.Base(l.mu.active.name)
			if clean {
				mustClose(t, l)
			} else {
				defer mustClose(t, l)
			}
			files := snapshotOf(t, fs, "/data/t-0")
			whole := files[name]
			if int64(len(whole)) != ends[len(ends)-1] || len(ends) < 4 {
				t.Fatalf("active segment has %d bytes, want %v", len(whole), ends)
			}
			first := len(batches) - len(ends)
			for cut := ends[len(ends)-4]; cut <= int64(len(whole)); cut++ {
				for kind, tail := range map[string][]byte{
					"cut": nil, "zeros": make([]byte, 5000), "noise": bytes.Repeat([]byte{0xa5, 0, 3, 0, 0, 0}, 100),
				} {
					if clean && kind != "cut" && cut < int64(len(whole)) {
						continue // damage below what a seal covers: see TestBitFlips
					}
					files[name] = append(bytes.Clone(whole[:cut]), tail...)
					kept := first // zeros may be just what was cut
					for kept < len(batches) && bytes.HasPrefix(files[name], whole[:ends[kept-first]]) {
						kept++
					}
					checkTorn(t, restore(t, files), cfg, batches[:kept], fmt.Sprintf("%s at %d", kind, cut))
				}
			}
		})
	}
}

func checkTorn(t *testing.T, fs *vfs.Mem, cfg Config, want []record.Batch, what string) {
	t.Helper()
	l, err := Open(fs, "/data/t-0", cfg, nil)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer mustClose(t, l)
	got := readAll(t, l, false, 1<<20)
	if len(got) != len(want) {
		t.Fatalf("%s: %d batches, want %d", what, len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("%s: batch %d differs", what, i)
		}
	}
	// The producer knows its last batch, and goes on where the log ends.
	n := int32(len(want))
	dup, err := l.Append(from(7, 0, (n-1)*2, 2), AppendOptions{Now: epochTime})
	if err != nil || !dup.Duplicate || dup.LastOffset != int64(n)*2-1 {
		t.Fatalf("%s: retry of the last batch: %+v %v", what, dup, err)
	}
	if a := mustAppend(t, l, from(7, 0, n*2, 1)); a.BaseOffset != int64(n)*2 {
		t.Fatalf("%s: next batch went to %d", what, a.BaseOffset)
	}
	if got := readAll(t, l, false, 1); len(got) != len(want)+1 {
		t.Fatalf("%s: %d batches after an append", what, len(got))
	}
}

// TestBitFlips flips each byte of each file of a closed log in turn. What is read afterwards is right, or there is an
// error that names file and position; nothing is lost in silence.
func TestBitFlips(t *testing.T) {
	fs := vfs.NewMem()
	cfg := Config{SegmentBytes: 700, IndexIntervalBytes: 100}
	l := mustOpen(t, fs, cfg, nil)
	for i := range int32(4) {
		mustAppend(t, l, from(7, 0, i*2, 2))
		mustAppend(t, l, inTxn(8, 0, i, 1))
		mark(8, 0, "ca"[i%2], 0).run(t, l, int(i))
	}
	want := readAll(t, l, false, 1<<20)
	wantCommitted := fmt.Sprint(committedValues(t, l, 1<<20))
	if n := len(*l.view.Load()); n < 3 {
		t.Fatalf("%d segments", n)
	}
	mustClose(t, l)
	files := snapshotOf(t, fs, "/data/t-0")
	rng := rand.New(rand.NewPCG(1, 2))
	for name, data := range files {
		for i := range data {
			flipped := bytes.Clone(data)
			flipped[i] ^= 1 << rng.IntN(8)
			files[name] = flipped
			checkFlip(t, restore(t, files), cfg, want, wantCommitted, fmt.Sprintf("%s byte %d", name, i), path.Ext(name) == ".log")
		}
		files[name] = data
	}
}

func checkFlip(t *testing.T, fs *vfs.Mem, cfg Config, want []record.Batch, wantCommitted, what string, data bool) {
	t.Helper()
	l, err := Open(fs, "/data/t-0", cfg, nil)
	if err != nil {
		if !data || !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%s: %v", what, err)
		}
		return
	}
	defer l.Close()
	var got []record.Batch
	for off := int64(0); ; {
		res, err := l.Read(ReadOptions{From: off, MaxBytes: 300, MinOne: true})
		if err != nil {
			if !data || !errors.Is(err, ErrCorrupt) || !errors.Is(err, kerr.KafkaStorageError) || !bytes.Contains([]byte(err.Error()), []byte(".log at byte ")) {
				t.Fatalf("%s: read at %d: %v", what, off, err)
			}
			return // detected
		}
		if len(res.Batches) == 0 {
			break
		}
		for rest := res.Batches; len(rest) > 0; {
			b, _ := record.Parse(rest)
			got = append(got, b)
			off = b.LastOffset() + 1
			rest = rest[len(b):]
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%s: %d batches, want %d, and no error", what, len(got), len(want))
	}
	for i := range got {
		// The leader epoch is not under the CRC.
		got[i].SetLeaderEpoch(0)
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("%s: batch %d differs, and no error", what, i)
		}
	}
	if c := fmt.Sprint(committedValues(t, l, 1<<20)); c != wantCommitted {
		t.Fatalf("%s: committed %s, want %s", what, c, wantCommitted)
	}
}

// TestFsyncErrorPoisons: after a failed fsync nothing is acknowledged any more, even if later ones succeed; what was
// synced can be read, and opening again recovers.
func TestFsyncErrorPoisons(t *testing.T) {
	mem := vfs.NewMem()
	fs := &vfs.Faulty{FS: mem}
	l := mustOpen(t, fs, Config{}, startSyncer(t))
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	good := mustAppend(t, l, plain(1, "good"))
	if err := l.WaitSynced(ctx, good.LastOffset+1); err != nil {
		t.Fatal(err)
	}
	once := true
	fs.Fail(func(op vfs.Op, name string) error {
		if op == vfs.OpSync && once {
			once = false
			return syscall.EIO
		}
		return nil
	})
	bad := mustAppend(t, l, plain(1, "bad"))
	wantErr(t, l.WaitSynced(ctx, bad.LastOffset+1), kerr.KafkaStorageError)
	_, err := l.Append(plain(1, "late"), AppendOptions{Now: epochTime})
	wantErr(t, err, kerr.KafkaStorageError)
	_, err = l.AppendMarker(1, 0, true, 0)
	wantErr(t, err, kerr.KafkaStorageError)
	wantErr(t, l.WaitSynced(ctx, bad.LastOffset+1), kerr.KafkaStorageError)
	if b := l.Bounds(); b.HighWatermark != 1 {
		t.Fatalf("bounds %+v", b)
	}
	if got := readAll(t, l, false, 1000); len(got) != 1 {
		t.Fatalf("%d batches can be read", len(got))
	}
	if err := l.Close(); !errors.Is(err, syscall.EIO) {
		t.Fatalf("close: %v", err)
	}
	crashed := mem.CrashClone(0, nil)
	l = mustOpen(t, crashed, Config{}, nil)
	if got := readAll(t, l, false, 1000); len(got) != 1 {
		t.Fatalf("%d batches after opening again", len(got))
	}
	mustAppend(t, l, plain(1, "again"))
	mustClose(t, l)
}

// TestDiskFull fails every write in turn, half done: the producer gets an error, reads go on, and once there is space
// appends go on where they were.
func TestDiskFull(t *testing.T) {
	for failAt := range 60 {
		why := []error{syscall.ENOSPC, syscall.EFBIG}[failAt%2]
		failAt /= 2
		fs := &vfs.Faulty{FS: vfs.NewMem()}
		cfg := Config{SegmentBytes: 500, IndexIntervalBytes: 50}
		l := mustOpen(t, fs, cfg, nil)
		n, full := 0, false
		fs.Fail(func(op vfs.Op, name string) error {
			if op != vfs.OpWrite && op != vfs.OpCreate {
				return nil
			}
			if n++; n-1 == failAt {
				full = true
			}
			if full && op == vfs.OpWrite {
				return vfs.ShortWrite{Err: why}
			} else if full {
				return why
			}
			return nil
		})
		var good int32
		for i := int32(0); i < 12; i++ {
			_, err := l.Append(from(1, 0, i, 1), AppendOptions{Now: epochTime})
			if err != nil {
				wantErr(t, err, kerr.KafkaStorageError)
				if got := len(readAll(t, l, false, 1000)); got != int(i) {
					t.Fatalf("fail at %d: %d batches can be read, want %d", failAt, got, i)
				}
				full = false
				i--
				continue
			}
			good++
		}
		if err := l.Close(); err != nil {
			t.Logf("fail at %d: close: %v", failAt, err)
		}
		fs.Fail(nil)
		l = mustOpen(t, fs, cfg, nil)
		got := readAll(t, l, false, 1000)
		if int32(len(got)) != good {
			t.Fatalf("fail at %d: %d batches, want %d", failAt, len(got), good)
		}
		mustAppend(t, l, from(1, 0, 12, 1))
		mustClose(t, l)
	}
}
