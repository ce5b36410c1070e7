package vfs

import (
	"io"
	"sync/atomic"
)

// Op names an operation for a [Faulty] file system.
type Op int8

// The operations that can be made to fail.
const (
	OpCreate Op = iota
	OpOpen
	OpRemove
	OpRename
	OpMkdir
	OpList
	OpStat
	OpSyncDir
	OpRead
	OpWrite
	OpTruncate
	OpSync
)

// Faulty passes every operation to FS after asking the hook, whose error is returned in place of the operation. A write
// that fails by [ShortWrite] has written half of its bytes. A sync that fails by [LostSync] leaves what it did not sync
// as the kernel does.
type Faulty struct {
	FS
	hook atomic.Pointer[func(op Op, name string) error]
}

// ShortWrite wraps the error of a write that got half way.
type ShortWrite struct{ Err error }

// Error implements error.
func (s ShortWrite) Error() string { return "short write: " + s.Err.Error() }

// Unwrap returns the cause.
func (s ShortWrite) Unwrap() error { return s.Err }

// LostSync wraps the error of a sync after which what was to be synced counts as synced, and is not: it is read as it was
// written, and no later sync writes it, until it is written anew. Above [Mem] only.
type LostSync struct{ Err error }

// Error implements error.
func (l LostSync) Error() string { return "lost sync: " + l.Err.Error() }

// Unwrap returns the cause.
func (l LostSync) Unwrap() error { return l.Err }

// Fail sets the hook; nil lets everything pass. It may be called at any time.
func (f *Faulty) Fail(hook func(op Op, name string) error) {
	if hook == nil {
		f.hook.Store(nil)
		return
	}
	f.hook.Store(&hook)
}

func (f *Faulty) check(op Op, name string) error {
	if h := f.hook.Load(); h != nil {
		return (*h)(op, name)
	}
	return nil
}

func (f *Faulty) wrap(file File, err error, name string) (File, error) {
	if err != nil {
		return nil, err
	}
	return &faultyFile{File: file, fs: f, name: name}, nil
}

// Create implements FS.
func (f *Faulty) Create(name string) (File, error) {
	if err := f.check(OpCreate, name); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name)
	return f.wrap(file, err, name)
}

// Open implements FS.
func (f *Faulty) Open(name string) (File, error) {
	if err := f.check(OpOpen, name); err != nil {
		return nil, err
	}
	file, err := f.FS.Open(name)
	return f.wrap(file, err, name)
}

// OpenReadWrite implements FS.
func (f *Faulty) OpenReadWrite(name string) (File, error) {
	if err := f.check(OpCreate, name); err != nil {
		return nil, err
	}
	file, err := f.FS.OpenReadWrite(name)
	return f.wrap(file, err, name)
}

// Remove implements FS.
func (f *Faulty) Remove(name string) error {
	if err := f.check(OpRemove, name); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

// RemoveAll implements FS.
func (f *Faulty) RemoveAll(name string) error {
	if err := f.check(OpRemove, name); err != nil {
		return err
	}
	return f.FS.RemoveAll(name)
}

// Rename implements FS.
func (f *Faulty) Rename(from, to string) error {
	if err := f.check(OpRename, to); err != nil {
		return err
	}
	return f.FS.Rename(from, to)
}

// MkdirAll implements FS.
func (f *Faulty) MkdirAll(dir string) error {
	if err := f.check(OpMkdir, dir); err != nil {
		return err
	}
	return f.FS.MkdirAll(dir)
}

// List implements FS.
func (f *Faulty) List(dir string) ([]string, error) {
	if err := f.check(OpList, dir); err != nil {
		return nil, err
	}
	return f.FS.List(dir)
}

// Stat implements FS.
func (f *Faulty) Stat(name string) (Info, error) {
	if err := f.check(OpStat, name); err != nil {
		return Info{}, err
	}
	return f.FS.Stat(name)
}

// SyncDir implements FS.
func (f *Faulty) SyncDir(dir string) error {
	if err := f.check(OpSyncDir, dir); err != nil {
		return err
	}
	return f.FS.SyncDir(dir)
}

// Lock implements FS.
func (f *Faulty) Lock(name string) (io.Closer, error) { return f.FS.Lock(name) }

type faultyFile struct {
	File
	fs   *Faulty
	name string
}

func (f *faultyFile) ReadAt(p []byte, off int64) (int, error) {
	if err := f.fs.check(OpRead, f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, off)
}

func (f *faultyFile) WriteAt(p []byte, off int64) (int, error) {
	err := f.fs.check(OpWrite, f.name)
	if err == nil {
		return f.File.WriteAt(p, off)
	}
	if _, short := err.(ShortWrite); short {
		n, werr := f.File.WriteAt(p[:len(p)/2], off)
		if werr != nil {
			err = werr
		}
		return n, err
	}
	return 0, err
}

func (f *faultyFile) Truncate(size int64) error {
	if err := f.fs.check(OpTruncate, f.name); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

func (f *faultyFile) SyncData() error {
	err := f.fs.check(OpSync, f.name)
	if err == nil {
		return f.File.SyncData()
	}
	if _, lost := err.(LostSync); lost {
		if m, ok := f.File.(*memFile); ok {
			m.loseSync()
		}
	}
	return err
}
