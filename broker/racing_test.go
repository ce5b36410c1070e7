package broker

import (
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// racing has all of steps wait for their turn to change topics, in this order, before the first of them has it: what they look at
// without that turn is what there was before any of them.
func racing(b *Broker, steps ...func()) {
	var wg sync.WaitGroup
	b.changes.Lock()
	for _, step := range steps {
		wg.Go(step)
		time.Sleep(50 * time.Millisecond)
	}
	b.changes.Unlock()
	wg.Wait()
}

// A request for fewer partitions that waits for one for more must not take away what that has made.
func TestPartitionsAreAskedForAtOnce(t *testing.T) {
	b := start(t, nil)
	createTopic(t, b, "t", 1)
	codes := make([]int16, 3)
	grow := func(i int, count int32) func() {
		r := dialRaw(t, b)
		return func() {
			req := kmsg.NewPtrCreatePartitionsRequest()
			req.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: "t", Count: count}}
			codes[i] = do[*kmsg.CreatePartitionsResponse](r, req, 3).Topics[0].ErrorCode
		}
	}
	racing(b, grow(0, 3), grow(1, 10), grow(2, 5))
	if want := kerr.InvalidPartitions.Code; codes[0] != 0 || codes[1] != 0 || codes[2] != want {
		t.Errorf("codes %v, want 0, 0, %d", codes, want)
	}
	if n := len(b.topic("t").parts); n != 10 {
		t.Errorf("%d partitions, want the 10 that were acknowledged", n)
	}
}
