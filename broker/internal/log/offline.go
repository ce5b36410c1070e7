package log

import (
	"errors"
	"fmt"
	"math"
	"path"

	"github.com/leatstream/leat/internal/vfs"
)

// ErrForeign says that a directory is another topic's.
var ErrForeign = errors.New("the directory belongs to another topic")

// Offline returns a log that stands for one that Open has refused with why: whoever wants something of it is told KafkaStorageError,
// bounds are 0, and there are no producers. Nothing of its directory is touched but by Delete, which removes it.
func Offline(fsys vfs.FS, dir string, cfg Config, why error) *Log {
	cfg = cfg.withDefaults(path.Base(dir))
	l := &Log{fsys: fsys, dir: dir, offline: why}
	l.cfg.Store(&cfg)
	none := newSegment(fsys, dir, 0)
	l.view.Store(&[]*segment{none})
	l.mu.active, l.mu.producers, l.mu.newEpochs = none, newProducers(), math.MaxInt64
	l.mu.failed = why
	return l
}

// Online reports why the log stands for one that could not be opened, nil if it does not. The error wraps KafkaStorageError.
func (l *Log) Online() error {
	if l.offline == nil {
		return nil
	}
	return fmt.Errorf("log %s is offline since the broker's start: %w", l.cfg.Load().Name, storageError(l.cfg.Load().Name, "open", l.offline))
}
