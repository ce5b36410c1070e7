package broker

import (
	"errors"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/leatstream/leat/internal/vfs"
)

// The reserve is a file that holds some space back. Deleting records, topics and old segments frees space, but needs a few bytes
// first, to say durably what goes; on a disk that is full to the last block it is given up for them. So the broker can always be
// started, and asked to make room.
const (
	reserveFile  = "reserve"
	reserveBytes = 256 << 10
)

// reserve is the state of that file.
type reserve struct {
	sync.Mutex           // held over a change of the file, protects following fields
	said       time.Time // when it was logged last that the disk is full
}

// fullEvery is how often it is logged that the disk is full: every append says so.
const fullEvery = time.Minute

// noteFull logs an error that says that the disk is full, now and then; it passes over others.
func (b *Broker) noteFull(err error) {
	if !vfs.IsFull(err) {
		return
	}
	b.reserve.Lock()
	defer b.reserve.Unlock()
	if now := time.Now(); now.Sub(b.reserve.said) >= fullEvery {
		b.reserve.said = now
		b.logger.Error("the disk is full: nothing can be written. Make room: delete topics or records, or shorten a topic's retention; the broker goes on by itself", "dir", b.cfg.Dir, "err", err)
	}
}

// fillReserve takes as much of the reserve's space as there is.
func (b *Broker) fillReserve() {
	b.reserve.Lock()
	defer b.reserve.Unlock()
	f, err := b.cfg.FS.OpenReadWrite(filepath.Join(b.cfg.Dir, reserveFile))
	if err != nil {
		b.logger.Warn("no space is held back for when the disk is full", "err", err)
		return
	}
	size, err := f.Size()
	if err == nil && size < reserveBytes {
		err = vfs.Preallocate(f, size, reserveBytes-size)
	}
	if err = errors.Join(err, f.Close()); err != nil && !vfs.IsFull(err) {
		b.logger.Warn("no space is held back for when the disk is full", "err", err)
	}
}

// spendReserve gives the reserve up. It reports whether there was one.
func (b *Broker) spendReserve() bool {
	b.reserve.Lock()
	defer b.reserve.Unlock()
	err := b.cfg.FS.Remove(filepath.Join(b.cfg.Dir, reserveFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.logger.Warn("the space that is held back cannot be given up", "err", err)
	}
	return err == nil
}

// makingRoom calls f, which frees space or records a change of the metadata, and calls it once more with the reserve given up where
// the disk was full.
func (b *Broker) makingRoom(f func() error) error {
	err := f()
	b.noteFull(err)
	if !vfs.IsFull(err) || !b.spendReserve() {
		return err
	}
	defer b.fillReserve()
	return f()
}
