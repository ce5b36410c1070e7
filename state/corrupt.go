package state

import (
	"errors"
	"fmt"
	"os"

	"github.com/cockroachdb/pebble/v2"
)

// corruptFile marks a directory in which a file of Pebble's was found that is not what was written. It says which.
const corruptFile = "CORRUPT"

// corrupted notes such a file: the database is over, and the next Open begins without it. Pebble calls it, from whoever reads
// the file, its own compactions among them.
func (db *DB) corrupted(m Medium, info pebble.DataCorruptionInfo) {
	if db.Err() != nil {
		return
	}
	err := fmt.Errorf("%w: %s is not what was written to it: %w", ErrCorrupt, info.Path, info.Details)
	switch m {
	case Logged:
		err = fmt.Errorf("%w; it holds stores without a changelog, which nothing brings back: restore the directory from a copy, or remove %s to begin them empty",
			err, db.path(m))
	case Disk:
		if failed := db.writeFile(corruptFile, err.Error()+"\n"); failed != nil {
			err = errors.Join(err, failed)
		}
		err = fmt.Errorf("%w; the next start removes %s and rebuilds its stores from their changelogs", err, db.path(m))
	}
	db.fail(err)
}

// discardCorrupt removes what an earlier run has marked: every row of it is in a changelog, or in a global table's topic.
func (db *DB) discardCorrupt() error {
	why, err := db.readFile(corruptFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = db.discard(why)
	}
	if err != nil {
		return fmt.Errorf("state: remove what is corrupt in %s: %w", db.opt.Dir, err)
	}
	return nil
}

// discard removes the data of stores with changelogs.
func (db *DB) discard(why string) error {
	db.opt.Logger.Warn("state on disk is corrupt: it is removed, and the stores are rebuilt from their changelogs", "dir", db.path(Disk), "why", why)
	if err := db.opt.FS.RemoveAll(db.path(Disk)); err != nil {
		return err
	}
	if err := syncDir(db.opt.FS, db.opt.Dir); err != nil {
		return err
	}
	db.failed.Store(nil)
	err := db.opt.FS.Remove(db.opt.FS.PathJoin(db.opt.Dir, corruptFile))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// unreadableFile ends the database when Pebble cannot read its files: what a store says then is no record's fault.
func (db *DB) unreadableFile(err error) error {
	if err == nil || errors.Is(err, pebble.ErrClosed) {
		return err
	}
	db.fail(err)
	return db.Err()
}
