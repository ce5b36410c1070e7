package log

import (
	"testing"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// FuzzOpen puts arbitrary bytes where the only segment, its seal and a snapshot should be. The log opens or refuses, it
// never panics, and what it opened can be read and goes on.
func FuzzOpen(f *testing.F) {
	seed := append(append([]byte{}, plain(2, "a")...), inTxn(1, 0, 0, 1)...)
	f.Add(seed, []byte{}, []byte{})
	marker := record.ControlMarker(1, 0, false, 0, 5)
	marker.SetBaseOffset(3)
	f.Add([]byte(marker), (&seal{size: 10, end: 3}).encode(), newProducers().encode())
	f.Fuzz(func(t *testing.T, data, seal, snapshot []byte) {
		fs := vfs.NewMem()
		if err := fs.MkdirAll("/data/t-0"); err != nil {
			t.Fatal(err)
		}
		for suffix, b := range map[string][]byte{".log": data, ".seal": seal, ".snapshot": snapshot} {
			if err := vfs.WriteFile(fs, fileName("/data/t-0", 0, suffix), b); err != nil {
				t.Fatal(err)
			}
		}
		l, err := Open(fs, "/data/t-0", Config{}, nil)
		if err != nil {
			return
		}
		defer l.Close()
		for off := l.Bounds().LogStart; ; {
			res, err := l.Read(ReadOptions{From: off, MaxBytes: 1000, MinOne: true, Committed: true})
			if err != nil || len(res.Batches) == 0 {
				break
			}
			for rest := res.Batches; len(rest) > 0; {
				b, err := record.Parse(rest)
				if err != nil || b.LastOffset() < off {
					t.Fatalf("at %d: %v", off, err)
				}
				off = b.LastOffset() + 1
				rest = rest[len(b):]
			}
		}
		if _, _, err := l.OffsetForTime(0, false); err != nil {
			t.Log(err)
		}
		if _, err := l.Append(plain(1, "x"), AppendOptions{Now: epochTime}); err != nil {
			t.Fatal(err)
		}
	})
}
