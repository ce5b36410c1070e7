package runtime

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
)

// A restore of 1,000 offsets in two steps, on virtual time: what is read and left, the rate, and the time that the rest takes.
func TestARestoreSaysHowItGoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rt, p := New(Config{}), new(progress)
		p.remaining.Store(-1)
		p.set(Restoring, 2)
		rt.mu.progress[engine.TaskID{Sub: 1, Partition: 3}] = p
		want := func(total, remaining, records, bytes int64, rate float64, left time.Duration) {
			t.Helper()
			s := rt.Statuses()[0]
			if s.ID.String() != "1_3" || s.Role != Restoring || s.Worker != 2 || s.Total != total || s.Remaining != remaining || s.Records != records || s.Bytes != bytes {
				t.Errorf("%+v, want %d of %d left, %d records of %d bytes", s, remaining, total, records, bytes)
			}
			if gotRate, gotLeft := s.Pace(time.Now()); gotRate != rate || gotLeft != left {
				t.Errorf("%v records a second and %v left, want %v and %v", gotRate, gotLeft, rate, left)
			}
		}
		row := state.Restored{Key: []byte("key"), Value: []byte("value")}
		p.restoring(1000)
		want(1000, 1000, 0, 0, 0, 0)
		time.Sleep(time.Second)
		want(1000, 1000, 0, 0, 0, 0) // nobody can tell yet
		time.Sleep(time.Second)
		p.read(250, []state.Restored{row, row, row}) // the rest are deletes that the cleaner took, and markers
		want(1000, 750, 3, 24, 1.5, 6*time.Second)
		time.Sleep(2 * time.Second)
		want(1000, 750, 3, 24, 0.75, 12*time.Second) // it stands still, and says so
		p.read(750, []state.Restored{row})
		want(1000, 0, 4, 32, 1, 0)
		p.ended.Store(time.Now().UnixNano())
		time.Sleep(time.Hour)
		want(1000, 0, 4, 32, 1, 0) // the rate is that of the restore, whenever it is asked for
	})
}
