package log

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/leatstream/leat/broker/internal/record"
	"github.com/leatstream/leat/internal/vfs"
)

// epochEntry says at which offset a leader epoch begins.
type epochEntry struct {
	epoch int32
	start int64
}

func writeEpochs(fsys vfs.FS, dir string, es []epochEntry) error {
	var b strings.Builder
	fmt.Fprintf(&b, "0\n%d\n", len(es))
	for _, e := range es {
		fmt.Fprintf(&b, "%d %d\n", e.epoch, e.start)
	}
	return vfs.ReplaceFile(fsys, path.Join(dir, epochFile), []byte(b.String()))
}

// readEpochs returns nil without an error if there is no file, and an error if it says nothing usable.
func readEpochs(fsys vfs.FS, dir string) ([]epochEntry, error) {
	data, err := vfs.ReadFile(fsys, path.Join(dir, epochFile), maxSmallFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	if len(lines) < 2 || lines[0] != "0" || lines[1] != strconv.Itoa(len(lines)-2) {
		return nil, fmt.Errorf("%s: not a leader epoch checkpoint of version 0", path.Join(dir, epochFile))
	}
	var es []epochEntry
	for _, line := range lines[2:] {
		var e epochEntry
		if _, err := fmt.Sscanf(line, "%d %d", &e.epoch, &e.start); err != nil || e.epoch < 0 || e.start < 0 {
			return nil, fmt.Errorf("%s: line %q", path.Join(dir, epochFile), line)
		}
		if n := len(es); n > 0 && (e.epoch <= es[n-1].epoch || e.start < es[n-1].start) {
			return nil, fmt.Errorf("%s: epoch %d does not follow %d", path.Join(dir, epochFile), e.epoch, es[n-1].epoch)
		}
		es = append(es, e)
	}
	return es, nil
}

// epochsLocked reads the leader epochs and begins a new one where readers may have seen records that are gone.
func (r *recovery) epochsLocked(end int64) error {
	l := r.l
	l.mu.newEpochs = math.MaxInt64
	es, err := readEpochs(l.fsys, l.dir)
	if err != nil {
		r.cfg.Logger.Warn("leader epochs are taken from the batches", "partition", r.cfg.Name, "error", err)
		if es, err = r.epochsOfBatches(); err != nil {
			return err
		}
		r.epochs, l.mu.newEpochs = nil, r.start
	}
	epoch := int32(0)
	if len(es) > 0 {
		epoch = es[len(es)-1].epoch
	}
	for len(es) > 0 && es[len(es)-1].start > end {
		es = es[:len(es)-1]
		r.lost = true
	}
	if len(es) == 0 {
		// Epoch 0 from the start needs no file; creating a partition is quicker without.
		es = []epochEntry{{epoch, r.start}}
	}
	for _, e := range r.epochs {
		if e.epoch > epoch { // begun after the file was written
			es, epoch, l.mu.newEpochs = append(es, e), e.epoch, min(l.mu.newEpochs, e.start)
		}
	}
	l.mu.epochs = es
	switch {
	case r.cfg.Generation > epoch:
		l.beginEpochLocked(r.cfg.Generation, end)
		if r.lost && r.cfg.Flush == FlushAlways { // the generation stays the same there
			return l.writeEpochsLocked()
		}
		return nil
	case r.lost || r.scanned && r.cfg.Flush == FlushOS:
		l.beginEpochLocked(epoch+1, end)
		return l.writeEpochsLocked()
	}
	l.epoch.Store(epoch)
	return nil
}

// epochsOfBatches makes the leader epochs from the headers of all batches.
func (r *recovery) epochsOfBatches() (es []epochEntry, err error) {
	for _, s := range r.segs {
		f, err := s.acquire()
		if err != nil {
			return nil, err
		}
		_, err = s.hop(f, 0, s.size.Load(), r.l.window(), func(b record.Batch) bool {
			if n := len(es); n == 0 || es[n-1].epoch < b.LeaderEpoch() {
				es = append(es, epochEntry{b.LeaderEpoch(), b.BaseOffset()})
			}
			return false
		})
		s.release()
		if err != nil {
			return nil, err
		}
	}
	return es, nil
}

// beginEpochLocked begins a new leader epoch at the end of the log. Epochs that began there without a record go.
func (l *Log) beginEpochLocked(epoch int32, end int64) {
	es := slices.DeleteFunc(slices.Clone(l.mu.epochs), func(e epochEntry) bool { return e.start >= end })
	l.mu.epochs = append(es, epochEntry{epoch, end})
	l.mu.newEpochs = min(l.mu.newEpochs, end)
	l.epoch.Store(epoch)
}

// writeEpochsLocked makes the leader epochs durable.
func (l *Log) writeEpochsLocked() error {
	if err := writeEpochs(l.fsys, l.dir, l.mu.epochs); err != nil {
		return err
	}
	l.mu.newEpochs = math.MaxInt64
	return nil
}

// takeEpochsLocked returns the leader epochs if they have to be written before what was appended so far counts as synced, or is
// sealed: a later start looks for epochs in the file and in batches that are not sealed. An epoch without a batch needs no place.
func (l *Log) takeEpochsLocked() []epochEntry {
	if l.mu.newEpochs >= l.end.Load() {
		return nil
	}
	l.mu.newEpochs = math.MaxInt64
	return l.mu.epochs
}

// LastGeneration returns what NextGeneration returned last for dir, 0 if it never did.
func LastGeneration(fsys vfs.FS, dir string) (int32, error) {
	last, err := readOffset(fsys, dir, generationFile)
	return int32(min(last, math.MaxInt32-1)), err
}

// NextGeneration returns a number for Config.Generation that is larger than all before, and durable.
func NextGeneration(fsys vfs.FS, dir string) (int32, error) {
	last, err := LastGeneration(fsys, dir)
	if err != nil {
		return 0, err
	}
	return last + 1, writeOffset(fsys, dir, generationFile, int64(last)+1)
}
