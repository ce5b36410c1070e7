package broker

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/meta"
	"github.com/leatstream/leat/internal/vfs"
)

// fullDisk is a file system on which nothing more can be written while it is full, but for what the reserve gives back.
type fullDisk struct {
	vfs.Faulty
	full, room atomic.Bool
}

func newFullDisk() *fullDisk {
	d := &fullDisk{Faulty: vfs.Faulty{FS: vfs.NewMem()}}
	d.Fail(func(op vfs.Op, name string) error {
		reserve := filepath.Base(name) == reserveFile
		switch {
		case op == vfs.OpRemove && reserve:
			d.room.Store(true)
		case op == vfs.OpWrite && reserve:
			d.room.Store(false)
		case op == vfs.OpWrite && d.full.Load() && !d.room.Load():
			return syscall.ENOSPC
		}
		return nil
	})
	return d
}

// On a disk that is full to the last block nothing can be appended, but everything that makes room works, and so does a start.
func TestFullDiskCanBeFreed(t *testing.T) {
	disk := newFullDisk()
	var said syncBuffer
	cfg := Config{Dir: "/data", FS: disk, Logger: slog.New(slog.NewTextHandler(&said, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	b, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"records", "topic", "old", "old2"} {
		createTopic(t, b, name, 1)
		if resp := do[*kmsg.ProduceResponse](dialRaw(t, b), produceRequest1(name, 0, -1, batch(strings.Repeat("x", 5000))), 9); resp.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Fatal(resp)
		}
	}
	disk.full.Store(true)
	r := dialRaw(t, b)
	write := func(r *raw, topic string) int16 {
		return do[*kmsg.ProduceResponse](r, produceRequest1(topic, 0, -1, batch("y")), 9).Topics[0].Partitions[0].ErrorCode
	}
	if got := write(r, "records"); got != kerr.KafkaStorageError.Code {
		t.Errorf("an append on a full disk: %v", kerr.ErrorForCode(got))
	}
	if got := said.String(); strings.Count(got, "the disk is full") != 1 {
		t.Errorf("logged: %s", got)
	}
	if _, err := b.createTopic(meta.Topic{Name: "no-room", Partitions: 1}); err == nil {
		t.Error("a topic is made on a full disk")
	}
	if ok, err := vfs.Exists(disk, "/data/no-room-0"); ok || err != nil {
		t.Error("something remains of a topic that could not be made", err)
	}
	if start, err := b.deleteRecords(t.Context(), "records", 0, -1); err != nil || start != 1 {
		t.Errorf("records are deleted up to %d: %v", start, err)
	}
	if err := b.deleteTopic("topic"); err != nil {
		t.Error("a topic is deleted:", err)
	}
	if err := b.setConfigs("old", map[string]string{"retention.ms": "1000"}); err != nil {
		t.Error("retention is changed:", err)
	}
	b.retainAll(time.Now().Add(time.Hour))
	if l, _ := b.partition("old", 0); l.Bounds().LogStart != 1 {
		t.Error("retention did nothing")
	}
	if err := b.Close(); err != nil && !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	b = startWith(t, cfg)
	if r = dialRaw(t, b); write(r, "records") == 0 {
		t.Error("the disk is not full")
	}
	disk.full.Store(false)
	if got := write(r, "records"); got != 0 {
		t.Errorf("an append when there is space again: %v", kerr.ErrorForCode(got))
	}
	if b.topic("topic") != nil || b.topic("old2") == nil {
		t.Error("the topics are not those that there were")
	}
}
