package state

import (
	"fmt"
	"os"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
)

// fence stands between a Pebble and its file system. Pebble tries again what failed, at once and for ever, and whoever waits for
// that waits for ever, too; of what it cannot try again, its MANIFEST and its log, a failed write ends the process. Instead the
// database ends, which shuts the fence: from then on Pebble is told that everything works, and nothing of it reaches the disk.
// So everybody who waits goes on, to find the database's error, Close does not wait for a disk, and what is on it is what a
// crash at that moment would have left.
type fence struct {
	vfs.FS
	db *DB
}

func (f *fence) shut() bool { return f.db.Err() != nil }

// vital reports whether Pebble cannot go on without a file.
func vital(fs vfs.FS, path string) bool {
	name := fs.PathBase(path)
	return strings.HasPrefix(name, "MANIFEST-") || strings.HasPrefix(name, "marker.") || strings.HasSuffix(name, ".log")
}

// lost ends the database for a write of a vital file, and returns nil then.
func (f *fence) lost(isVital bool, what string, err error) error {
	if err == nil || f.shut() {
		return nil
	}
	if !isVital {
		return err
	}
	f.db.fail(fmt.Errorf("%s: %w; %s", what, err, seeToDisk))
	return nil
}

func (f *fence) file(name string, file vfs.File, err error) (vfs.File, error) {
	isVital := vital(f.FS, name)
	if err != nil {
		if err = f.lost(isVital, "create "+name, err); err != nil {
			return nil, err
		}
		return &fenced{File: nowhere{}, fence: f, name: name, vital: isVital}, nil
	}
	return &fenced{File: file, fence: f, name: name, vital: isVital}, nil
}

func (f *fence) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if f.shut() {
		return nowhere{}, nil
	}
	file, err := f.FS.Create(name, c)
	return f.file(name, file, err)
}

func (f *fence) ReuseForWrite(from, to string, c vfs.DiskWriteCategory) (vfs.File, error) {
	if f.shut() {
		return nowhere{}, nil
	}
	file, err := f.FS.ReuseForWrite(from, to, c)
	return f.file(to, file, err)
}

func (f *fence) OpenReadWrite(name string, c vfs.DiskWriteCategory, o ...vfs.OpenOption) (vfs.File, error) {
	if f.shut() {
		return nowhere{}, nil
	}
	file, err := f.FS.OpenReadWrite(name, c, o...)
	return f.file(name, file, err)
}

// OpenDir opens a directory for its sync, without which nobody knows which files there are.
func (f *fence) OpenDir(name string) (vfs.File, error) {
	if f.shut() {
		return nowhere{}, nil
	}
	file, err := f.FS.OpenDir(name)
	if err != nil {
		return nil, err
	}
	return &fenced{File: file, fence: f, name: name, vital: true}, nil
}

// change makes a change of the directory, which is none when the fence is shut.
func (f *fence) change(name string, do func() error) error {
	if f.shut() {
		return nil
	}
	return f.lost(vital(f.FS, name), "change "+name, do())
}

func (f *fence) Link(from, to string) error {
	return f.change(to, func() error { return f.FS.Link(from, to) })
}

func (f *fence) Rename(from, to string) error {
	return f.change(to, func() error { return f.FS.Rename(from, to) })
}

func (f *fence) Remove(name string) error {
	if f.shut() {
		return nil
	}
	return f.FS.Remove(name)
}

func (f *fence) RemoveAll(name string) error {
	if f.shut() {
		return nil
	}
	return f.FS.RemoveAll(name)
}

func (f *fence) MkdirAll(name string, perm os.FileMode) error {
	return f.change(name, func() error { return f.FS.MkdirAll(name, perm) })
}

// Unwrap implements vfs.FS.
func (f *fence) Unwrap() vfs.FS { return f.FS }

// fenced is a file that Pebble writes.
type fenced struct {
	vfs.File
	fence *fence
	name  string
	vital bool
}

func (f *fenced) lost(what string, err error) error {
	if err == nil {
		return nil
	}
	return f.fence.lost(f.vital, what+" "+f.name, err)
}

func (f *fenced) Write(p []byte) (int, error) {
	if f.fence.shut() {
		return len(p), nil
	}
	n, err := f.File.Write(p)
	if err = f.lost("write", err); err == nil {
		n = len(p)
	}
	return n, err
}

func (f *fenced) WriteAt(p []byte, off int64) (int, error) {
	if f.fence.shut() {
		return len(p), nil
	}
	n, err := f.File.WriteAt(p, off)
	if err = f.lost("write", err); err == nil {
		n = len(p)
	}
	return n, err
}

func (f *fenced) Preallocate(off, n int64) error {
	if f.fence.shut() {
		return nil
	}
	return f.lost("preallocate", f.File.Preallocate(off, n))
}

func (f *fenced) Sync() error {
	if f.fence.shut() {
		return nil
	}
	return f.lost("sync", f.File.Sync())
}

func (f *fenced) SyncData() error {
	if f.fence.shut() {
		return nil
	}
	return f.lost("sync", f.File.SyncData())
}

func (f *fenced) SyncTo(n int64) (bool, error) {
	if f.fence.shut() {
		return true, nil
	}
	whole, err := f.File.SyncTo(n)
	return whole, f.lost("sync", err)
}

func (f *fenced) Close() error { return f.lost("close", f.File.Close()) }

// nowhere is a file that takes everything and has nothing.
type nowhere struct{}

func (nowhere) Close() error                           { return nil }
func (nowhere) Read([]byte) (int, error)               { return 0, os.ErrClosed }
func (nowhere) ReadAt([]byte, int64) (int, error)      { return 0, os.ErrClosed }
func (nowhere) Write(p []byte) (int, error)            { return len(p), nil }
func (nowhere) WriteAt(p []byte, _ int64) (int, error) { return len(p), nil }
func (nowhere) Preallocate(int64, int64) error         { return nil }
func (nowhere) Stat() (vfs.FileInfo, error)            { return nil, os.ErrClosed }
func (nowhere) Sync() error                            { return nil }
func (nowhere) SyncTo(int64) (bool, error)             { return true, nil }
func (nowhere) SyncData() error                        { return nil }
func (nowhere) Prefetch(int64, int64) error            { return nil }
func (nowhere) Fd() uintptr                            { return vfs.InvalidFd }
