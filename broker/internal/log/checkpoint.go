package log

import (
	"encoding/base64"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"path"
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
	// generationFile is ours, in the same form, beside the partitions: the last number of Config.Generation.
	generationFile = "generation"
	maxSmallFile   = 16 << 20
)

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
