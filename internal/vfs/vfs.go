// Package vfs is the broker's view of files: what a partition log needs and nothing more.
//
// [OS] is the operating system's file system. [Mem] keeps files in memory and can tell what a power cut would have left
// of them ([Mem.CrashClone]): what was not synced may be lost, torn or reordered, directory entries included. [Faulty]
// wraps a file system and fails chosen operations.
//
// It is our own and not Pebble's vfs because a log truncates, writes at positions, and preallocates with zeros, and
// because the crash model has to tear single writes rather than lose blocks of a file.
package vfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"syscall"
	"time"
)

// FS is a namespace of files. Names are slash- or OS-separated paths. It is safe for use by several goroutines.
// Errors satisfy errors.Is with the fs.Err… values.
type FS interface {
	// Create opens a new, empty file for reading and writing; a file of that name is replaced.
	Create(name string) (File, error)
	// Open opens a file for reading.
	Open(name string) (File, error)
	// OpenReadWrite opens a file for reading and writing, and creates it if there is none.
	OpenReadWrite(name string) (File, error)
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// RemoveAll removes a file or directory with all it holds; a missing one is no error.
	RemoveAll(name string) error
	// Rename gives a file or directory another name, replacing a file that has it.
	Rename(from, to string) error
	// MkdirAll creates a directory and its parents; one that exists is no error.
	MkdirAll(dir string) error
	// List returns the names in a directory, sorted.
	List(dir string) ([]string, error)
	// Stat describes a file.
	Stat(name string) (Info, error)
	// SyncDir makes the entries of a directory durable: files created, renamed and removed in it.
	SyncDir(dir string) error
	// Lock takes an exclusive lock on a file, which it creates, until the Closer is closed. ErrLocked says that another
	// process (or another holder in this one) has it.
	Lock(name string) (io.Closer, error)
}

// Spacious is what a file system is, too, that knows how large it is and how much more it holds, in bytes.
type Spacious interface {
	Space(dir string) (total, usable int64, err error)
}

// File is an open file. ReadAt may be called by several goroutines, also beside WriteAt; the other methods one at a
// time, except that SyncData may run beside WriteAt (what is written meanwhile may or may not be synced).
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Size returns the size in bytes.
	Size() (int64, error)
	// Truncate sets the size; growth is filled with zeros.
	Truncate(size int64) error
	// SyncData makes the contents and the size durable. The directory entry is SyncDir's.
	SyncData() error
}

// Info describes a file.
type Info struct {
	Size    int64
	ModTime time.Time
	Dir     bool
}

// ErrLocked says that a lock is held by somebody else.
var ErrLocked = errors.New("vfs: file is locked by another process")

// zeros is what Preallocate writes.
var zeros [64 << 10]byte

// IsFull reports whether err says that there is no space, or that the file must not become larger: nothing is lost, and it may
// pass.
func IsFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) || errors.Is(err, syscall.EFBIG)
}

// Preallocate writes n zero bytes at off. Real zeros rather than fallocate: syncing a write into an extent that was
// never written needs a journal entry as well, and costs what growing costs.
func Preallocate(f File, off, n int64) error {
	for n > 0 {
		k := min(n, int64(len(zeros)))
		if _, err := f.WriteAt(zeros[:k], off); err != nil {
			return err
		}
		off, n = off+k, n-k
	}
	return nil
}

// ReadFile reads a whole file of at most limit bytes.
func ReadFile(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	if size > limit {
		return nil, fmt.Errorf("read %s: %d bytes, more than the %d it may have", name, size, limit)
	}
	buf := make([]byte, size)
	n, err := f.ReadAt(buf, 0)
	if err != nil && !(errors.Is(err, io.EOF) && int64(n) == size) {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	return buf, nil
}

// WriteFile writes a whole file. A crash may leave any part of it.
func WriteFile(fsys FS, name string, data []byte) error {
	f, err := fsys.Create(name)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	return errors.Join(err, f.Close())
}

// ReplaceFile writes a whole file durably and all at once: after a crash there is the old content or the new.
func ReplaceFile(fsys FS, name string, data []byte) error {
	tmp := name + ".tmp"
	f, err := fsys.Create(tmp)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(data, 0)
	if err == nil {
		err = f.SyncData()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write %s: %w", tmp, err)
	}
	if err := fsys.Rename(tmp, name); err != nil {
		return err
	}
	return fsys.SyncDir(path.Dir(name))
}

// Exists reports whether there is a file or directory of that name.
func Exists(fsys FS, name string) (bool, error) {
	_, err := fsys.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
