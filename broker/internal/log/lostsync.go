package log

import (
	"path"

	"github.com/leatstream/leat/internal/vfs"
)

// opSync is what poisonLocked is told of a failed sync.
const opSync = "fsync"

// lostSyncFile says that a sync of the log failed. The kernel may then count as written what is not on the disk: it goes on being read,
// from memory, and no later sync writes it (what is known as fsyncgate). Who opens the log again reads it, too, and would promise it
// anew; so all that no seal vouches for is first written once more where it is. The file itself needs no sync: a power cut that takes it
// takes that memory as well.
const lostSyncFile = "sync-failed"

// noteLostSync leaves the note. A disk that does not even take this has nothing that can be promised.
func noteLostSync(fsys vfs.FS, dir string) {
	_ = vfs.WriteFile(fsys, path.Join(dir, lostSyncFile), nil)
}

// rewrite writes the bytes from one position of f to another once more in their place, so that the next sync writes them.
func rewrite(f vfs.File, from, to int64) error {
	buf := make([]byte, min(1<<20, max(to-from, 0)))
	for from < to {
		b := buf[:min(int64(len(buf)), to-from)]
		if err := readFull(f, b, from); err != nil {
			return err
		}
		if _, err := f.WriteAt(b, from); err != nil {
			return err
		}
		from += int64(len(b))
	}
	return nil
}

// syncScanned makes what was read batch by batch, up to pos, durable.
func (r *recovery) syncScanned(f vfs.File, from, pos int64) error {
	if r.lostSync {
		if err := rewrite(f, from, pos); err != nil {
			return err
		}
	}
	err := f.SyncData()
	if err != nil {
		noteLostSync(r.l.fsys, r.l.dir)
	}
	return err
}
