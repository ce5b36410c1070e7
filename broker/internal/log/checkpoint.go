package log

import (
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/leatstream/leat/internal/vfs"
)

// The small files beside the segments, all text. The first and the last are replaced as a whole and durably.
const (
	epochFile    = "leader-epoch-checkpoint" // Kafka's: version, count, "epoch startOffset" lines
	metadataFile = "partition.metadata"      // Kafka's: version and topic id
	startFile    = "log-start-offset"        // ours: the log start with a checksum
	cleanFile    = "cleaner-offset"          // ours, in the same form: compacted up to here
	maxSmallFile = 16 << 20
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

// writeStart makes a new log start durable.
func writeStart(fsys vfs.FS, dir string, start int64) error {
	return writeOffset(fsys, dir, startFile, start)
}

// readStart returns 0 if there is no file.
func readStart(fsys vfs.FS, dir string) (int64, error) { return readOffset(fsys, dir, startFile) }

func writeOffset(fsys vfs.FS, dir, file string, offset int64) error {
	body := fmt.Sprintf("1\n%d\n", offset)
	body += fmt.Sprintf("%08x\n", crc32.Checksum([]byte(body), castagnoli))
	return vfs.ReplaceFile(fsys, path.Join(dir, file), []byte(body))
}

// readOffset returns 0 if there is no file.
func readOffset(fsys vfs.FS, dir, file string) (int64, error) {
	name := path.Join(dir, file)
	data, err := vfs.ReadFile(fsys, name, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	lines := strings.SplitAfter(string(data), "\n")
	if len(lines) != 4 || lines[0] != "1\n" || lines[2] != fmt.Sprintf("%08x\n", crc32.Checksum([]byte(lines[0]+lines[1]), castagnoli)) {
		return 0, fmt.Errorf("%s is damaged", name)
	}
	v, err := strconv.ParseInt(strings.TrimSpace(lines[1]), 10, 64)
	if err != nil || v < 0 {
		return 0, fmt.Errorf("%s is damaged: %q", name, lines[1])
	}
	return v, nil
}

// writeMetadata writes the topic id as Kafka does: URL-safe base64 without padding. It is a cross-check only: one that a
// crash has torn is written anew.
func writeMetadata(fsys vfs.FS, dir string, id [16]byte) error {
	body := "version: 0\ntopic_id: " + base64.RawURLEncoding.EncodeToString(id[:]) + "\n"
	return vfs.WriteFile(fsys, path.Join(dir, metadataFile), []byte(body))
}

// ReadTopicID returns the topic id that a partition's directory was made for; zero if none is noted.
func ReadTopicID(fsys vfs.FS, dir string) (id [16]byte, err error) {
	name := path.Join(dir, metadataFile)
	data, err := vfs.ReadFile(fsys, name, 4096)
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	if err != nil {
		return id, err
	}
	for line := range strings.Lines(string(data)) {
		v, ok := strings.CutPrefix(strings.TrimSpace(line), "topic_id: ")
		if !ok {
			continue
		}
		b, err := base64.RawURLEncoding.DecodeString(v)
		if err != nil || len(b) != len(id) {
			return id, fmt.Errorf("%s: topic id %q", name, v)
		}
		return [16]byte(b), nil
	}
	return id, fmt.Errorf("%s: no topic id", name)
}

// addEpochLocked begins a new leader epoch at the end of the log. Epochs that began there without a record go.
func (l *Log) addEpochLocked(epoch int32, start int64) error {
	es := slices.DeleteFunc(slices.Clone(l.mu.epochs), func(e epochEntry) bool { return e.start >= start })
	es = append(es, epochEntry{epoch, start})
	if err := writeEpochs(l.fsys, l.dir, es); err != nil {
		return err
	}
	l.mu.epochs = es
	l.epoch.Store(epoch)
	return nil
}
