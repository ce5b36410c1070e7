package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/leatstream/leat/internal/txnclient"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
)

// What queries wait for: that a record which was written before has taken effect, or that a copy of state is recent.

// Position is a record on the log.
type Position struct {
	Topic     string
	Partition int32
	Offset    int64
}

// ErrUnknownPosition is returned for a position in a topic that has no way to the store.
var ErrUnknownPosition = errors.New("the position's topic does not lead to the store")

// ErrNotHere is returned for a partition whose task does not run here, and of which there is no copy that may answer.
var ErrNotHere = errors.New("no task of the partition runs on this instance")

// committed is what a task's last commit brought: the offsets below which its inputs are processed, and when the state that
// goes with them can be read.
type committed struct {
	next map[tp]int64
	done <-chan struct{} // nil: it can be
}

// publish says what was committed, to those who wait for it. The task's worker calls it.
func (t *task) publish(done <-chan struct{}) {
	c := &committed{next: make(map[tp]int64, len(t.parts)), done: done}
	for _, p := range t.parts {
		c.next[p.tp] = p.committed
	}
	t.progress.committed.Store(c)
	t.unsaid = false
}

// Await waits until the records at the given positions have taken effect in the partitions of a store that run here, as far
// as they concern them: directly, or through the repartition topics that lead from the records' topics to the store.
func (rt *Runtime) Await(ctx context.Context, store string, partitions []int32, after []Position) error {
	sub, _ := rt.cfg.Plan.Store(store)
	wanted := map[tp]int64{}
	for _, p := range after {
		if err := rt.lead(ctx, sub, p, wanted); err != nil {
			return err
		}
	}
	if sub.Global {
		return rt.awaitGlobal(ctx, store, wanted)
	}
	for _, n := range partitions {
		if err := rt.awaitTask(ctx, engine.TaskID{Sub: sub.ID, Partition: n}, wanted); err != nil {
			return err
		}
	}
	return nil
}

// lead adds to wanted how far the inputs of sub have to be processed for the record at p to have taken effect.
func (rt *Runtime) lead(ctx context.Context, sub *engine.Sub, p Position, wanted map[tp]int64) error {
	found := false
	for i, other := range rt.cfg.Plan.Subs {
		if !rt.reads(other, p.Topic) || !rt.leads(i, sub.ID) {
			continue
		}
		found = true
		at := tp{p.Topic, p.Partition}
		if other == sub {
			wanted[at] = max(wanted[at], p.Offset+1)
			continue
		}
		if err := rt.groupHas(ctx, at, p.Offset+1); err != nil {
			return err
		}
		if err := rt.hop(ctx, i, sub, wanted); err != nil {
			return err
		}
	}
	if !found {
		return fmt.Errorf("%w: topic %s", ErrUnknownPosition, p.Topic)
	}
	return nil
}

// hop follows what a sub-topology has written so far into repartition topics.
func (rt *Runtime) hop(ctx context.Context, from int, sub *engine.Sub, wanted map[tp]int64) error {
	for _, r := range rt.cfg.Plan.Repartitions {
		if !slices.Contains(r.From, from) || r.To != sub.ID && !rt.leads(r.To, sub.ID) {
			continue
		}
		topic := r.Topic.In(rt.cfg.AppID)
		// The high watermark: the marker of the transaction that committed the input may not have reached this topic yet.
		ends, err := rt.topics.admin.ListEndOffsets(ctx, topic)
		if err == nil {
			err = ends.Error()
		}
		if err != nil {
			return fmt.Errorf("where topic %s ends: %w", topic, err)
		}
		for _, end := range ends.Offsets().Sorted() {
			at := tp{end.Topic, end.Partition}
			if r.To == sub.ID {
				wanted[at] = max(wanted[at], end.At)
				continue
			}
			if err := rt.groupHas(ctx, at, end.At); err != nil {
				return err
			}
		}
		if r.To != sub.ID {
			if err := rt.hop(ctx, r.To, sub, wanted); err != nil {
				return err
			}
		}
	}
	return nil
}

// groupHas waits until the group has committed an input up to next.
func (rt *Runtime) groupHas(ctx context.Context, at tp, next int64) error {
	const firstWait, lastWait = 5 * time.Millisecond, 100 * time.Millisecond
	for wait := firstWait; next > 0; wait = min(2*wait, lastWait) {
		has, err := txnclient.StableOffsets(ctx, rt.topics.cl, rt.cfg.AppID, at.topic)
		if err != nil && !kerr.IsRetriable(err) { // unstable offsets of a transaction that ends just now are, too
			return err
		}
		if o, ok := has.Lookup(at.topic, at.p); err == nil && ok && o.At >= next {
			return nil
		}
		if err := sleep(ctx, wait); err != nil {
			return fmt.Errorf("%s is not processed up to offset %d: %w", at, next, err)
		}
	}
	return nil
}

// reads reports whether a sub-topology has the topic as an input.
func (rt *Runtime) reads(sub *engine.Sub, topic string) bool {
	for _, src := range sub.Sources {
		for _, t := range src.Topics {
			if t.In(rt.cfg.AppID) == topic {
				return true
			}
		}
	}
	if now := rt.current.Load(); now != nil { // a pattern may have found it
		return slices.ContainsFunc(now.layout, func(st subTopology) bool { return st.id == sub.ID && st.found[topic] })
	}
	return false
}

// leads reports whether records go from one sub-topology to another, or whether they are the same. A topology has no loops
// of repartition topics.
func (rt *Runtime) leads(from, to int) bool {
	if from == to {
		return true
	}
	for _, r := range rt.cfg.Plan.Repartitions {
		if slices.Contains(r.From, from) && rt.leads(r.To, to) {
			return true
		}
	}
	return false
}

// awaitTask waits until a task that runs here has committed its inputs as far as wanted, and its state shows it.
func (rt *Runtime) awaitTask(ctx context.Context, id engine.TaskID, wanted map[tp]int64) error {
	var done <-chan struct{}
	gone := false
	err := rt.until(ctx, func() bool {
		rt.mu.Lock()
		p := rt.mu.progress[id]
		rt.mu.Unlock()
		if gone = p == nil || Role(p.role.Load()) != Running; gone {
			return true
		}
		c := p.committed.Load()
		if c == nil {
			return false
		}
		for at, next := range wanted {
			if have, ok := c.next[at]; ok && have < next {
				return false
			}
		}
		done = c.done
		return true
	})
	switch {
	case err != nil:
		return fmt.Errorf("task %s has not processed what the query waits for: %w", id, err)
	case gone:
		return fmt.Errorf("%w: task %s", ErrNotHere, id)
	case done == nil:
		return nil
	}
	select {
	case <-done:
		return rt.cfg.DB.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitGlobal waits until a global table has its topic as far as wanted.
func (rt *Runtime) awaitGlobal(ctx context.Context, store string, wanted map[tp]int64) error {
	shards := rt.Shards(store)
	if len(shards) == 0 {
		return ErrNotHere
	}
	return rt.until(ctx, func() bool {
		pos, _ := shards[0].Position()
		at := offsetsOf(pos)
		for p, next := range wanted {
			if int(p.p) >= len(at) || at[p.p] < next {
				return false
			}
		}
		return true
	})
}

// copied is a copy of one store's state that is kept here.
type copied struct {
	sh         *state.Shard
	changelog  tp
	fromSource bool // changelog is a source topic, of which the copy has what the task has processed
}

// showCopy makes the stores of a copy visible to queries that take copies; hideCopy is before they are closed.
func (rt *Runtime) showCopy(t *task) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, s := range t.stores {
		if s.changelog == "" {
			continue
		}
		name := s.store.Name()
		if rt.mu.copies[name] == nil {
			rt.mu.copies[name] = map[int32]*copied{}
		}
		rt.mu.copies[name][t.id.Partition] = &copied{s.store.Shard(), tp{s.changelog, t.id.Partition}, s.fromSource}
	}
}

func (rt *Runtime) hideCopy(t *task) {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, s := range t.stores {
		delete(rt.mu.copies[s.store.Name()], t.id.Partition)
	}
}

// Copy returns a copy of a store's partition that has everything which was committed so long ago, waiting for it if it has
// to. ErrNotHere: none is kept here.
func (rt *Runtime) Copy(ctx context.Context, store string, partition int32, staleness time.Duration) (*state.Shard, error) {
	rt.mu.Lock()
	c := rt.mu.copies[store][partition]
	rt.mu.Unlock()
	if c == nil {
		return nil, fmt.Errorf("%w: %s, partition %d", ErrNotHere, store, partition)
	}
	end, err := rt.recentEnd(ctx, c, staleness)
	if err != nil {
		return nil, err
	}
	gone := false
	err = rt.until(ctx, func() bool {
		rt.mu.Lock()
		gone = rt.mu.copies[store][partition] != c && rt.mu.shards[store][partition] != c.sh
		rt.mu.Unlock()
		if gone { // nobody brings it on any more
			return true
		}
		pos, ok := c.sh.Position()
		return end == 0 || ok && pos.Offset >= end
	})
	switch {
	case err != nil:
		return nil, fmt.Errorf("the copy of %s, partition %d, is behind: %w", store, partition, err)
	case gone:
		return nil, fmt.Errorf("%w: %s, partition %d: the copy was given up", ErrNotHere, store, partition)
	}
	return c.sh, nil
}

// logEnd is where a changelog ended at a time.
type logEnd struct {
	offset int64
	asked  time.Time
}

// recentEnd is where the changelog of a copy ended no longer ago than that, as far as it is committed; of a source topic, how
// far it was processed.
func (rt *Runtime) recentEnd(ctx context.Context, c *copied, age time.Duration) (int64, error) {
	at := c.changelog
	rt.mu.Lock()
	known, ok := rt.mu.ends[at]
	rt.mu.Unlock()
	now := time.Now()
	if ok && now.Sub(known.asked) <= age {
		return known.offset, nil
	}
	list := rt.committedEnds
	if c.fromSource {
		list = rt.processed
	}
	ends, err := list(ctx, at.topic)
	if err != nil {
		return 0, fmt.Errorf("where changelog %s ends: %w", at, err)
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for of, end := range ends {
		rt.mu.ends[of] = logEnd{end, now}
	}
	return rt.mu.ends[at].offset, nil
}

// committedEnds are the ends of topics as far as they are committed.
func (rt *Runtime) committedEnds(ctx context.Context, topics ...string) (map[tp]int64, error) {
	ends, err := rt.topics.admin.ListCommittedOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	out := map[tp]int64{}
	ends.Each(func(o kadm.ListedOffset) { out[tp{o.Topic, o.Partition}] = o.Offset })
	return out, err
}

// processed are the group's positions in topics.
func (rt *Runtime) processed(ctx context.Context, topics ...string) (map[tp]int64, error) {
	at, err := rt.topics.admin.FetchOffsetsForTopics(ctx, rt.cfg.AppID, topics...)
	if err == nil {
		err = at.Error()
	}
	out := map[tp]int64{}
	at.Each(func(o kadm.OffsetResponse) { out[tp{o.Topic, o.Partition}] = max(o.At, 0) })
	return out, err
}
