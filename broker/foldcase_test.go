package broker

import (
	"io"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/internal/vfs"
)

// folding is a file system that does not tell upper from lower case.
type folding struct{ fs *vfs.Mem }

func (f folding) Create(n string) (vfs.File, error) { return f.fs.Create(strings.ToLower(n)) }
func (f folding) Open(n string) (vfs.File, error)   { return f.fs.Open(strings.ToLower(n)) }
func (f folding) OpenReadWrite(n string) (vfs.File, error) {
	return f.fs.OpenReadWrite(strings.ToLower(n))
}
func (f folding) Remove(n string) error    { return f.fs.Remove(strings.ToLower(n)) }
func (f folding) RemoveAll(n string) error { return f.fs.RemoveAll(strings.ToLower(n)) }
func (f folding) Rename(from, to string) error {
	return f.fs.Rename(strings.ToLower(from), strings.ToLower(to))
}
func (f folding) MkdirAll(n string) error          { return f.fs.MkdirAll(strings.ToLower(n)) }
func (f folding) List(n string) ([]string, error)  { return f.fs.List(strings.ToLower(n)) }
func (f folding) Stat(n string) (vfs.Info, error)  { return f.fs.Stat(strings.ToLower(n)) }
func (f folding) SyncDir(n string) error           { return f.fs.SyncDir(strings.ToLower(n)) }
func (f folding) Lock(n string) (io.Closer, error) { return f.fs.Lock(strings.ToLower(n)) }

// Where names that differ in case only are the same to the file system, a second such topic would take the directories of the first.
func TestTopicsThatAFileSystemCannotTellApart(t *testing.T) {
	for fs, want := range map[vfs.FS]int16{folding{vfs.NewMem()}: kerr.InvalidTopicException.Code, vfs.NewMem(): 0} {
		b := startWith(t, Config{Dir: "/data", FS: fs})
		createTopic(t, b, "orders", 1)
		req := &kmsg.CreateTopicsRequest{Topics: []kmsg.CreateTopicsRequestTopic{{Topic: "Orders", NumPartitions: 1, ReplicationFactor: 1}}}
		if got := do[*kmsg.CreateTopicsResponse](dialRaw(t, b), req, 7).Topics[0]; got.ErrorCode != want {
			t.Errorf("%T: %v", fs, kerr.ErrorForCode(got.ErrorCode))
		}
	}
}
