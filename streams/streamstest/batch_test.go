package streamstest_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

func batchDriver(t *testing.T, n int, wait time.Duration) *streamstest.Driver {
	t.Helper()
	var b streams.Builder
	streams.Batch(b.Stream(plain), "batch", n, wait).
		MapValues(func(_ string, vs []string) (string, error) { return strings.Join(vs, "+"), nil }).
		To(asyncOut)
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return streamstest.New(t, topology)
}

// A batch goes out when it is full, or has waited long enough since its first record, over a restart, too; each value once.
func TestBatch(t *testing.T) {
	d := batchDriver(t, 3, time.Second)
	d.Send(plain, "a", "1", at(5))
	d.Send(plain, "a", "2", at(9))
	d.Send(plain, "b", "x", at(2))
	want(t, show(d.Read(asyncOut)))
	d.Send(plain, "a", "3", at(7))
	want(t, show(d.Read(asyncOut)), "a=1+2+3@9")
	d.Advance(500 * time.Millisecond)
	d.Send(plain, "a", "4", at(10))
	d.Advance(499 * time.Millisecond)
	want(t, show(d.Read(asyncOut)))
	d.Advance(time.Millisecond) // a second after x, and after the batch that has gone out
	want(t, show(d.Read(asyncOut)), "b=x@2")
	d.Restart()
	d.Advance(499 * time.Millisecond)
	want(t, show(d.Read(asyncOut)))
	d.Advance(time.Millisecond)
	want(t, show(d.Read(asyncOut)), "a=4@10")
	d.Restart()
	d.Advance(time.Hour)
	want(t, show(d.Read(asyncOut)))
	if rows := d.ReadRaw("test-batch-changelog"); len(rows) == 0 || rows[len(rows)-1].Value != nil {
		t.Error("what has gone out stays in the store")
	}
}

// A batch of one passes each record on, without a word to the store.
func TestBatchOfOne(t *testing.T) {
	d := batchDriver(t, 1, time.Second)
	for i := range 3 {
		d.Send(plain, "a", fmt.Sprint(i), at(int64(i)))
	}
	want(t, show(d.Read(asyncOut)), "a=0@0", "a=1@1", "a=2@2")
	if n := len(d.ReadRaw("test-batch-changelog")); n != 0 {
		t.Errorf("%d records in the changelog", n)
	}
}

func TestBatchSaysWhatIsWrong(t *testing.T) {
	var b streams.Builder
	s := b.Stream(plain)
	streams.Batch(s, "x", 0, time.Second)
	streams.Batch(s, "y", 1, 0)
	streams.Batch(s, "y", 1, time.Second)
	_, err := b.Build()
	for _, part := range []string{"of 0 records", "at least a millisecond", "store of its own"} {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%v does not say %q", err, part)
		}
	}
}
