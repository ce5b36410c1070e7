package state

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/gofrs/flock"
)

// lockDir takes the directory for this process. The PID is written beside the lock for the error of the next one.
func lockDir(fs vfs.FS, dir string) (io.Closer, error) {
	if fs != vfs.Default {
		l, err := fs.Lock(fs.PathJoin(dir, lockFile))
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %v", ErrLocked, dir, err)
		}
		return l, nil
	}
	l := flock.New(filepath.Join(dir, lockFile))
	ok, err := l.TryLock()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("state: lock %s: %w", dir, err), l.Close())
	}
	pid := filepath.Join(dir, pidFile)
	if !ok {
		holder := "unknown"
		if b, err := os.ReadFile(pid); err == nil {
			holder = strings.TrimSpace(string(b))
		}
		return nil, errors.Join(fmt.Errorf("%w: %s is held by the process with PID %s: stop it, or use another directory",
			ErrLocked, dir, holder), l.Close())
	}
	if err := os.WriteFile(pid, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return nil, errors.Join(fmt.Errorf("state: write %s: %w", pid, err), l.Close())
	}
	return l, nil
}
