package broker

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"

	"github.com/leatstream/leat/broker/internal/log"
	"github.com/leatstream/leat/broker/internal/meta"
)

// partitionName is what a partition's directory is called.
var partitionName = regexp.MustCompile(`^[a-zA-Z0-9._-]+-\d+$`)

// openMetadata opens the log of the metadata. A data directory that was a broker's and has none is refused: going on would be beginning
// anew beside all that is there. there are the names in it, sorted.
func (b *Broker) openMetadata(self meta.Topic, there []string) (*log.Log, error) {
	has := func(topic string) bool { return slices.Contains(there, topic+"-0") }
	lost := fmt.Errorf("the metadata of data directory %s is gone, and its partitions are there: restore %s-0 from a copy, or give the broker an empty directory",
		b.cfg.Dir, metadataTopic)
	// Under FlushOS a power cut soon after the first start may take the metadata.
	if used := has(offsetsTopic) && b.cfg.Flush == FlushAlways; !used {
		return b.openLog(self, 0, true)
	}
	if !has(metadataTopic) {
		return nil, lost
	}
	own, err := b.openLog(self, 0, true)
	if err == nil && own.Bounds().End == 0 {
		return nil, errors.Join(lost, own.Close())
	}
	return own, err
}

// advise adds to the error of a damaged log what can be done.
func (b *Broker) advise(err error, topic string, p int32) error {
	dir := b.partitionDir(topic, p)
	switch {
	case !errors.Is(err, log.ErrCorrupt):
		return err
	case topic == metadataTopic:
		return fmt.Errorf("%w (restore %s from a copy)", err, dir)
	}
	return fmt.Errorf("%w (restore the file from a copy, or move %s away: the partition then begins empty)", err, dir)
}

// openOrOffline opens a partition at a start. One whose files are damaged, or cannot be read, is offline: who asks for it is told
// KAFKA_STORAGE_ERROR, and everything else is served. The broker's own topics it cannot do without.
func (b *Broker) openOrOffline(m meta.Topic, p int32) (*log.Log, error) {
	l, err := b.openLog(m, p, true)
	if err == nil || m.Internal || !errors.Is(err, log.ErrCorrupt) && !errors.Is(err, log.ErrForeign) && !errors.Is(err, syscall.EIO) {
		return l, err
	}
	b.logger.Error("a partition is offline until the next start: its files are damaged. Everything else is served", "topic", m.Name, "partition", p, "err", err)
	return log.Offline(b.cfg.FS, b.partitionDir(m.Name, p), b.logConfig(m, p), err), nil
}

// checkDir compares what lies in the data directory with the topics that the metadata knows: a partition without its directory, and a
// directory without its topic, are for somebody to look at.
func (b *Broker) checkDir(there []string) {
	known := map[string]bool{metadataTopic + "-0": true}
	for _, m := range b.meta.Topics() {
		for p := range m.Partitions {
			name := filepath.Base(b.partitionDir(m.Name, p))
			known[name] = true
			if _, ok := slices.BinarySearch(there, name); !ok && !m.Deleting {
				b.logger.Warn("a partition's directory is missing: it begins empty. Unless the broker was killed while the topic was made, restore the directory from a copy",
					"dir", b.partitionDir(m.Name, p))
			}
		}
	}
	var strays []string
	for _, name := range there {
		if partitionName.MatchString(name) && !known[name] {
			strays = append(strays, name)
		}
	}
	if len(strays) == 0 {
		return
	}
	const most = 5
	more := ""
	if len(strays) > most {
		strays, more = strays[:most], fmt.Sprintf(" and %d more", len(strays)-most)
	}
	b.logger.Warn("directories that look like partitions belong to no topic; they are left alone", "dir", b.cfg.Dir, "names", strings.Join(strays, ", ")+more)
}
