package vfs

import (
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"
)

// Mem is a file system in memory. Use [NewMem].
//
// It remembers, for each file, the contents at its last sync and every write and truncation since, and for each
// directory the entries at its last sync, so that CrashClone can build what a power cut may have left.
type Mem struct {
	mu struct {
		sync.Mutex // guards everything below, the nodes included
		root       *memNode
		locks      map[string]bool
	}
}

// memNode is a file or a directory.
type memNode struct {
	data    []byte
	synced  []byte  // contents at the last sync; shared with data up to where pending changes begin
	pending []memOp // since the last sync, in order
	modTime time.Time

	children map[string]*memNode // nil for a file
	durable  map[string]*memNode // entries at the last SyncDir
}

// memOp is a write (data non-nil) or a truncation to off.
type memOp struct {
	off  int64
	data []byte
}

// NewMem returns an empty file system.
func NewMem() *Mem {
	m := &Mem{}
	m.mu.root = newMemDir()
	m.mu.locks = map[string]bool{}
	return m
}

func newMemDir() *memNode {
	return &memNode{children: map[string]*memNode{}, durable: map[string]*memNode{}}
}

func splitPath(name string) []string {
	name = strings.Trim(path.Clean("/"+strings.ReplaceAll(name, "\\", "/")), "/")
	if name == "" {
		return nil
	}
	return strings.Split(name, "/")
}

// findLocked returns the node of a name, or nil.
func (m *Mem) findLocked(name string) *memNode {
	n := m.mu.root
	for _, part := range splitPath(name) {
		if n == nil || n.children == nil {
			return nil
		}
		n = n.children[part]
	}
	return n
}

// parentLocked returns the directory that holds (or would hold) name, and name's last element.
func (m *Mem) parentLocked(op, name string) (*memNode, string, error) {
	dir, base := path.Split(path.Clean("/" + name))
	p := m.findLocked(dir)
	if p == nil || p.children == nil || base == "" {
		return nil, "", &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
	}
	return p, base, nil
}

// Create implements FS.
func (m *Mem) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parentLocked("create", name)
	if err != nil {
		return nil, err
	}
	// A file that exists is truncated in place, as O_TRUNC does: its old contents may come back after a crash.
	n := dir.children[base]
	if n == nil {
		n = &memNode{}
		dir.children[base] = n
	}
	n.truncate(0)
	return &memFile{fs: m, n: n, write: true, name: name}, nil
}

// Open implements FS.
func (m *Mem) Open(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.findLocked(name)
	if n == nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return &memFile{fs: m, n: n, name: name}, nil
}

// OpenReadWrite implements FS.
func (m *Mem) OpenReadWrite(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parentLocked("open", name)
	if err != nil {
		return nil, err
	}
	n := dir.children[base]
	if n == nil {
		n = &memNode{modTime: time.Now()}
		dir.children[base] = n
	}
	return &memFile{fs: m, n: n, write: true, name: name}, nil
}

// Remove implements FS.
func (m *Mem) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	dir, base, err := m.parentLocked("remove", name)
	if err != nil {
		return err
	}
	n := dir.children[base]
	if n == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	if len(n.children) > 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrExist}
	}
	delete(dir.children, base)
	return nil
}

// RemoveAll implements FS.
func (m *Mem) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if dir, base, err := m.parentLocked("remove", name); err == nil {
		delete(dir.children, base)
	}
	return nil
}

// Rename implements FS.
func (m *Mem) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	fdir, fbase, err := m.parentLocked("rename", from)
	if err != nil {
		return err
	}
	tdir, tbase, err := m.parentLocked("rename", to)
	if err != nil {
		return err
	}
	n := fdir.children[fbase]
	if n == nil {
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	delete(fdir.children, fbase)
	tdir.children[tbase] = n
	return nil
}

// MkdirAll implements FS. The directory is an entry of its parent like any other; the parents count as durable at once,
// which file systems do not promise.
func (m *Mem) MkdirAll(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.mu.root
	parts := splitPath(dir)
	for i, part := range parts {
		c := n.children[part]
		if c == nil {
			c = newMemDir()
			n.children[part] = c
			if i < len(parts)-1 {
				n.durable[part] = c
			}
		}
		if c.children == nil {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: fs.ErrExist}
		}
		n = c
	}
	return nil
}

// List implements FS.
func (m *Mem) List(dir string) ([]string, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.findLocked(dir)
	if n == nil || n.children == nil {
		return nil, &fs.PathError{Op: "list", Path: dir, Err: fs.ErrNotExist}
	}
	return slices.Sorted(maps.Keys(n.children)), nil
}

// Stat implements FS.
func (m *Mem) Stat(name string) (Info, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.findLocked(name)
	if n == nil {
		return Info{}, &fs.PathError{Op: "stat", Path: name, Err: fs.ErrNotExist}
	}
	return Info{Size: int64(len(n.data)), ModTime: n.modTime, Dir: n.children != nil}, nil
}

// SyncDir implements FS.
func (m *Mem) SyncDir(dir string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := m.findLocked(dir)
	if n == nil || n.children == nil {
		return &fs.PathError{Op: "syncdir", Path: dir, Err: fs.ErrNotExist}
	}
	n.durable = maps.Clone(n.children)
	return nil
}

// Lock implements FS. Locks are not part of a crash clone.
func (m *Mem) Lock(name string) (io.Closer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := path.Clean("/" + name)
	if m.mu.locks[key] {
		return nil, ErrLocked
	}
	dir, base, err := m.parentLocked("lock", name)
	if err != nil {
		return nil, err
	}
	if dir.children[base] == nil {
		dir.children[base] = &memNode{}
	}
	m.mu.locks[key] = true
	return &memLock{fs: m, key: key}, nil
}

type memLock struct {
	fs  *Mem
	key string
}

func (l *memLock) Close() error {
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.mu.locks, l.key)
	return nil
}

// CrashClone returns what a power cut at this moment may leave. Everything synced is there. Of the rest, each write,
// truncation and directory entry survives with a chance of keepPercent in 100; a surviving write may be torn at any
// byte. With 0 nothing unsynced survives and rng may be nil; with 100 nothing is lost, as after a SIGKILL. The same
// seed and the same history give the same clone.
func (m *Mem) CrashClone(keepPercent int, rng *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := NewMem()
	out.mu.root = m.mu.root.crash(keepPercent, rng)
	return out
}

func (n *memNode) crash(keep int, rng *rand.Rand) *memNode {
	survives := func() bool { return keep >= 100 || keep > 0 && rng.IntN(100) < keep }
	if n.children == nil {
		c := &memNode{modTime: n.modTime, data: slices.Clone(n.synced)}
		for _, op := range n.pending {
			if !survives() {
				continue
			}
			if op.data != nil && keep < 100 && rng.IntN(4) == 0 { // torn
				op.data = op.data[:rng.IntN(len(op.data)+1)]
			}
			c.apply(op)
		}
		c.synced, c.pending = slices.Clone(c.data), nil
		return c
	}
	c := newMemDir()
	names := map[string]bool{}
	for name := range n.children {
		names[name] = true
	}
	for name := range n.durable {
		names[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		child := n.durable[name]
		if child != n.children[name] && survives() {
			child = n.children[name]
		}
		if child != nil {
			c.children[name] = child.crash(keep, rng)
		}
	}
	c.durable = maps.Clone(c.children)
	return c
}

// apply performs an op on the data, without noting it.
func (n *memNode) apply(op memOp) {
	if op.data == nil {
		if op.off <= int64(len(n.data)) {
			n.data = n.data[:op.off]
		} else {
			n.data = append(n.data, make([]byte, op.off-int64(len(n.data)))...)
		}
		return
	}
	if end := op.off + int64(len(op.data)); end > int64(len(n.data)) {
		n.data = append(n.data, make([]byte, end-int64(len(n.data)))...)
	}
	copy(n.data[op.off:], op.data)
}

func (n *memNode) truncate(size int64) {
	op := memOp{off: size}
	n.apply(op)
	n.pending = append(n.pending, op)
	n.modTime = time.Now()
}

// sync brings the synced contents up to date by applying what changed, so that its cost is that of the change.
func (n *memNode) sync() {
	shadow := memNode{data: n.synced}
	for _, op := range n.pending {
		shadow.apply(op)
	}
	n.synced, n.pending = shadow.data, nil
}

type memFile struct {
	fs    *Mem
	n     *memNode
	name  string
	write bool
}

func (f *memFile) writable(op string) error {
	if f.n == nil {
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrClosed}
	}
	if !f.write {
		return &fs.PathError{Op: op, Path: f.name, Err: fs.ErrPermission}
	}
	return nil
}

// ReadAt implements io.ReaderAt.
func (f *memFile) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.n == nil {
		return 0, &fs.PathError{Op: "read", Path: f.name, Err: fs.ErrClosed}
	}
	if off >= int64(len(f.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, f.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// WriteAt implements io.WriterAt.
func (f *memFile) WriteAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.writable("write"); err != nil || len(p) == 0 {
		return 0, err
	}
	op := memOp{off: off, data: slices.Clone(p)}
	f.n.apply(op)
	f.n.pending = append(f.n.pending, op)
	f.n.modTime = time.Now()
	return len(p), nil
}

// Truncate implements File.
func (f *memFile) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.writable("truncate"); err != nil {
		return err
	}
	f.n.truncate(size)
	return nil
}

// Size implements File.
func (f *memFile) Size() (int64, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.n == nil {
		return 0, &fs.PathError{Op: "stat", Path: f.name, Err: fs.ErrClosed}
	}
	return int64(len(f.n.data)), nil
}

// SyncData implements File.
func (f *memFile) SyncData() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.n == nil {
		return &fs.PathError{Op: "sync", Path: f.name, Err: fs.ErrClosed}
	}
	f.n.sync()
	return nil
}

// loseSync forgets what is to be synced, as the kernel does when it cannot write it: it is still read.
func (f *memFile) loseSync() {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.n != nil {
		f.n.pending = nil
	}
}

// Close implements io.Closer.
func (f *memFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if f.n == nil {
		return &fs.PathError{Op: "close", Path: f.name, Err: fs.ErrClosed}
	}
	f.n = nil
	return nil
}
