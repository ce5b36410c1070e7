package vfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"path/filepath"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// each runs a test on the real file system and on the one in memory: they must behave alike.
func each(t *testing.T, f func(t *testing.T, fsys FS, dir string)) {
	t.Run("os", func(t *testing.T) { f(t, OS{}, t.TempDir()) })
	t.Run("mem", func(t *testing.T) {
		m := NewMem()
		if err := m.MkdirAll("/tmp/x"); err != nil {
			t.Fatal(err)
		}
		f(t, m, "/tmp/x")
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFiles(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, "a")
		f, err := fsys.Create(name)
		must(t, err)
		_, err = f.WriteAt([]byte("world"), 6)
		must(t, err)
		_, err = f.WriteAt([]byte("hello"), 0)
		must(t, err)
		must(t, Preallocate(f, 11, 100_000))
		must(t, f.Truncate(12))
		must(t, f.SyncData())
		buf := make([]byte, 20)
		if n, err := f.ReadAt(buf, 0); n != 12 || err != io.EOF || string(buf[:n]) != "hello\x00world\x00" {
			t.Errorf("read %q, %v", buf[:n], err)
		}
		if n, err := f.ReadAt(buf, 12); n != 0 || err != io.EOF {
			t.Errorf("read %d at the end, %v", n, err)
		}
		if size, err := f.Size(); size != 12 || err != nil {
			t.Errorf("size %d, %v", size, err)
		}
		must(t, f.Truncate(14))
		must(t, f.Close())
		if _, err := f.Size(); err == nil {
			t.Error("size of a closed file")
		}
		r, err := fsys.Open(name)
		must(t, err)
		if _, err := r.WriteAt([]byte("x"), 0); err == nil {
			t.Error("wrote to a file open for reading")
		}
		must(t, r.Close())
		info, err := fsys.Stat(name)
		if err != nil || info.Size != 14 || info.Dir {
			t.Errorf("stat %+v %v", info, err)
		}
		w, err := fsys.OpenReadWrite(name)
		must(t, err)
		if size, _ := w.Size(); size != 14 {
			t.Errorf("size %d after opening again", size)
		}
		must(t, w.Close())
		f, err = fsys.Create(name)
		must(t, err)
		if size, _ := f.Size(); size != 0 {
			t.Errorf("size %d after creating again", size)
		}
		must(t, f.Close())
	})
}

func TestNames(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		p := func(s string) string { return filepath.Join(dir, s) }
		if _, err := fsys.Open(p("none")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("open: %v", err)
		}
		if _, err := fsys.Stat(p("none")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("stat: %v", err)
		}
		if err := fsys.Remove(p("none")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("remove: %v", err)
		}
		if _, err := fsys.Create(p("no/dir")); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("create: %v", err)
		}
		must(t, fsys.RemoveAll(p("none")))
		must(t, fsys.MkdirAll(p("d/e")))
		must(t, fsys.MkdirAll(p("d/e")))
		must(t, ReplaceFile(fsys, p("d/f"), []byte("1")))
		must(t, ReplaceFile(fsys, p("d/f"), []byte("22")))
		must(t, WriteFile(fsys, p("d/a"), []byte("3")))
		names, err := fsys.List(p("d"))
		if err != nil || fmt.Sprint(names) != "[a e f]" {
			t.Errorf("list %v %v", names, err)
		}
		must(t, fsys.Rename(p("d/a"), p("d/f")))
		if b, err := ReadFile(fsys, p("d/f"), 10); string(b) != "3" || err != nil {
			t.Errorf("%q %v", b, err)
		}
		if _, err := ReadFile(fsys, p("d/f"), 0); err == nil {
			t.Error("read more than the limit")
		}
		if err := fsys.Remove(p("d")); err == nil {
			t.Error("removed a directory that is not empty")
		}
		must(t, fsys.SyncDir(p("d")))
		must(t, fsys.RemoveAll(p("d")))
		if ok, err := Exists(fsys, p("d")); ok || err != nil {
			t.Errorf("exists %v %v", ok, err)
		}
	})
}

func TestLocks(t *testing.T) {
	each(t, func(t *testing.T, fsys FS, dir string) {
		name := filepath.Join(dir, "lock")
		l, err := fsys.Lock(name)
		must(t, err)
		if _, err := fsys.Lock(name); !errors.Is(err, ErrLocked) {
			t.Errorf("second lock: %v", err)
		}
		must(t, l.Close())
		l, err = fsys.Lock(name)
		must(t, err)
		must(t, l.Close())
	})
}

// TestCrashClone: what was synced is there, entries too; what was not may be there, whole, torn or not.
func TestCrashClone(t *testing.T) {
	seen := map[string]bool{}
	for seed := range uint64(200) {
		m := NewMem()
		must(t, m.MkdirAll("/d"))
		if ok, _ := Exists(m.CrashClone(0, nil), "/d"); ok {
			t.Fatal("a directory survived whose parent was not synced")
		}
		must(t, m.SyncDir("/"))
		f, err := m.Create("/d/synced")
		must(t, err)
		_, err = f.WriteAt([]byte("safe"), 0)
		must(t, err)
		must(t, f.SyncData())
		must(t, m.SyncDir("/d"))
		_, err = f.WriteAt([]byte("MORE"), 4)
		must(t, err)
		g, err := m.Create("/d/new")
		must(t, err)
		_, err = g.WriteAt([]byte("new"), 0)
		must(t, err)
		must(t, g.SyncData()) // the data is, its entry is not

		none := m.CrashClone(0, nil)
		if b, err := ReadFile(none, "/d/synced", 100); string(b) != "safe" || err != nil {
			t.Fatalf("%q %v", b, err)
		}
		if ok, _ := Exists(none, "/d/new"); ok {
			t.Fatal("an entry survived that was not synced")
		}
		all := m.CrashClone(100, nil)
		if b, err := ReadFile(all, "/d/synced", 100); string(b) != "safeMORE" || err != nil {
			t.Fatalf("%q %v", b, err)
		}
		if b, err := ReadFile(all, "/d/new", 100); string(b) != "new" || err != nil {
			t.Fatalf("%q %v", b, err)
		}
		rng := rand.New(rand.NewPCG(seed, 0))
		some := m.CrashClone(50, rng)
		b, err := ReadFile(some, "/d/synced", 100)
		if err != nil || !bytes.HasPrefix([]byte("safeMORE"), b) || len(b) < 4 {
			t.Fatalf("seed %d: %q %v", seed, b, err)
		}
		seen[string(b)] = true
		if ok, _ := Exists(some, "/d/new"); ok {
			seen["new"] = true
		}
		must(t, f.Close())
		must(t, g.Close())
	}
	for _, want := range []string{"safe", "safeM", "safeMORE", "new"} {
		if !seen[want] {
			t.Errorf("200 crashes never left %q", want)
		}
	}
}

func TestCrashUndoesUnsyncedRenamesAndTruncations(t *testing.T) {
	m := NewMem()
	must(t, m.MkdirAll("/d"))
	must(t, m.SyncDir("/"))
	must(t, ReplaceFile(m, "/d/f", []byte("old")))
	must(t, WriteFile(m, "/d/g", []byte("g")))
	must(t, m.Rename("/d/g", "/d/f"))
	c := m.CrashClone(0, nil)
	if b, err := ReadFile(c, "/d/f", 10); string(b) != "old" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	f, err := c.OpenReadWrite("/d/f")
	must(t, err)
	must(t, f.Truncate(1))
	if b, _ := ReadFile(c.CrashClone(0, nil), "/d/f", 10); string(b) != "old" {
		t.Errorf("%q", b)
	}
	must(t, f.SyncData())
	if b, _ := ReadFile(c.CrashClone(0, nil), "/d/f", 10); string(b) != "o" {
		t.Errorf("%q", b)
	}
	must(t, f.Close())
	must(t, c.Remove("/d/f"))
	if ok, _ := Exists(c.CrashClone(0, nil), "/d/f"); !ok {
		t.Error("an unsynced removal holds")
	}
	must(t, c.SyncDir("/d"))
	if ok, _ := Exists(c.CrashClone(0, nil), "/d/f"); ok {
		t.Error("a synced removal does not hold")
	}
}

func TestFaulty(t *testing.T) {
	f := &Faulty{FS: NewMem()}
	must(t, f.MkdirAll("/d"))
	file, err := f.Create("/d/a")
	must(t, err)
	var fail Op = -1
	f.Fail(func(op Op, name string) error {
		if op != fail {
			return nil
		}
		if op == OpWrite {
			return ShortWrite{syscall.ENOSPC}
		}
		return syscall.EIO
	})
	fail = OpWrite
	if n, err := file.WriteAt([]byte("abcd"), 0); n != 2 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("write %d %v", n, err)
	}
	for op, do := range map[Op]func() error{
		OpCreate:   func() error { _, err := f.Create("/d/b"); return err },
		OpOpen:     func() error { _, err := f.Open("/d/a"); return err },
		OpRemove:   func() error { return f.Remove("/d/a") },
		OpRename:   func() error { return f.Rename("/d/a", "/d/b") },
		OpMkdir:    func() error { return f.MkdirAll("/e") },
		OpList:     func() error { _, err := f.List("/d"); return err },
		OpStat:     func() error { _, err := f.Stat("/d/a"); return err },
		OpSyncDir:  func() error { return f.SyncDir("/d") },
		OpRead:     func() error { _, err := file.ReadAt(make([]byte, 1), 0); return err },
		OpTruncate: func() error { return file.Truncate(0) },
		OpSync:     file.SyncData,
	} {
		fail = op
		if err := do(); !errors.Is(err, syscall.EIO) {
			t.Errorf("op %d: %v", op, err)
		}
	}
	f.Fail(nil)
	must(t, file.SyncData())
	must(t, file.Close())
}
