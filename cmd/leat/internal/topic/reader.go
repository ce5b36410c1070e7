package topic

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

// idle is how long a reader that is to stop at the end waits for a partition's last offset. It is needed where no record lies
// before the end: compaction may have left an empty batch there.
const idle = 5 * time.Second

// reader consumes a topic's partitions and knows when it is at the end. The client must keep control records: the last offset
// may be that of a transaction's marker.
type reader struct {
	cl   *cli.Cluster
	stop bool // at the end
	// ends are offsets, by partition: where the reader stops, or says that it waits.
	ends map[int32]int64
	// reached is called once when the end is reached and the reader goes on. May be nil.
	reached func(partitions int)

	mu struct {
		sync.Mutex
		// pending are the partitions that are read and not at their end. A group's change as the coordinator says.
		pending map[int32]bool
		own     map[int32]bool
	}
}

// assigned says which partitions are read, from where.
func (rd *reader) assigned(from map[int32]int64) {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	if rd.mu.own == nil {
		rd.mu.own, rd.mu.pending = map[int32]bool{}, map[int32]bool{}
	}
	for p, at := range from {
		rd.mu.own[p] = true
		if at < rd.ends[p] {
			rd.mu.pending[p] = true
		}
	}
}

// revoked says which partitions are read no more.
func (rd *reader) revoked(partitions []int32) {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	for _, p := range partitions {
		delete(rd.mu.own, p)
		delete(rd.mu.pending, p)
	}
}

// passed notes that offset next of p is the next to come.
func (rd *reader) passed(p int32, next int64) {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	if next >= rd.ends[p] {
		delete(rd.mu.pending, p)
	}
}

// done reports whether all partitions are at their end, and how many they are. It is not while there are none.
func (rd *reader) done() (bool, int) {
	rd.mu.Lock()
	defer rd.mu.Unlock()
	return len(rd.mu.own) > 0 && len(rd.mu.pending) == 0, len(rd.mu.own)
}

var errEnough = errors.New("enough records")

// each calls f with every record in order until f returns errEnough, or the end is reached and the reader is to stop there.
func (rd *reader) each(ctx context.Context, f func(r *kgo.Record) error) error {
	said := false
	for {
		if done, n := rd.done(); done && rd.stop {
			return nil
		} else if done && !said && rd.reached != nil {
			said = true
			rd.reached(n)
		}
		fetches, silent := rd.poll(ctx)
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		if silent && rd.stop {
			return nil
		}
		for _, e := range fetches.Errors() {
			if errors.Is(e.Err, context.DeadlineExceeded) {
				continue // of poll
			}
			return fmt.Errorf("read %s partition %d: %w", e.Topic, e.Partition, e.Err)
		}
		for r := range fetches.RecordsAll() {
			beyond := rd.stop && r.Offset >= rd.ends[r.Partition]
			if !r.Attrs.IsControl() && !beyond {
				if err := f(r); err != nil {
					if errors.Is(err, errEnough) {
						return nil
					}
					return err
				}
			}
			rd.passed(r.Partition, r.Offset+1)
		}
	}
}

// poll polls; a reader that stops at the end does not wait for ever. Silent: it has partitions and nothing came.
func (rd *reader) poll(ctx context.Context) (fetches kgo.Fetches, silent bool) {
	if !rd.stop {
		return rd.cl.PollFetches(ctx), false
	}
	ctx, cancel := context.WithTimeout(ctx, idle)
	defer cancel()
	fetches = rd.cl.PollFetches(ctx)
	_, n := rd.done()
	return fetches, n > 0 && ctx.Err() != nil && fetches.NumRecords() == 0
}

// ErrEnough is returned by a function that [Read] calls to end the reading.
var ErrEnough = errEnough

// Read calls f with the committed records of a topic, in the order of each partition, from offsets, which those it leaves out
// begin without, to where they end now. only chooses partitions; none: all. It returns the partitions' ends.
func Read(ctx context.Context, env *cli.Env, name string, only []int32, from map[int32]int64, f func(*kgo.Record) error) (map[int32]int64, error) {
	c := consuming{partitions: only}
	admin, err := env.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	rd, starts, err := c.plan(ctx, admin, name, cli.Position{Kind: cli.AtStart}, cli.Position{})
	if err != nil {
		return nil, err
	}
	for p, at := range starts {
		starts[p] = max(at, from[p])
	}
	rd.stop = true
	cl, err := env.Connect(ctx, append(readerOpts(false), rd.direct(name, starts))...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	rd.cl = cl
	return rd.ends, rd.each(ctx, f)
}

// Cut shows what deleting the records of a topic before a position would delete, and deletes it if the user agrees.
func Cut(ctx context.Context, env *cli.Env, cl *cli.Cluster, d *cli.Destruction, name, to string, only []int32) (*cli.Result, error) {
	before, err := cutAt(ctx, cl, name, to, only)
	if err != nil {
		return nil, err
	}
	return cut(ctx, env, cl, d, before)
}
