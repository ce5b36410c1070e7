package runtime

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/session"
)

// subscription is what the workers read: the topics there are, and what they mean for the group. It is not changed. When a
// pattern finds other topics a new one takes its place; the workers commit, end their sessions and begin new ones with it,
// and a rebalance gives out what has come.
type subscription struct {
	layout  []subTopology
	sources []string         // topics to subscribe to, sorted
	resets  map[string]reset // of topics that do not begin at the log's start without a committed offset
	found   map[string]mark  // topics that patterns found
}

// reset says where a topic begins without a committed offset.
type reset struct {
	reset engine.Reset
	by    time.Duration
}

// moves reports whether the topic begins elsewhere than at the log's start.
func (r reset) moves() bool { return r.by > 0 || r.reset == engine.ResetLatest }

// layout is the plan's layout, and the topics that its patterns found.
type layout struct {
	*engine.Layout
	found map[string][]string // by pattern
	marks map[string]mark     // of those
}

// subscribe works out what a layout means for the group, and has the workers read it.
func (rt *Runtime) subscribe(l *layout) {
	before := rt.current.Load()
	sub := &subscription{resets: map[string]reset{}, found: l.marks}
	all := map[string]bool{}
	for i, s := range rt.cfg.Plan.Subs {
		if !s.Global {
			if st := rt.subTopology(i, s, l, sub, before); len(st.topics) > 0 {
				sub.layout = append(sub.layout, st)
				for name := range st.topics {
					all[name] = true
				}
			}
		}
		rt.mu.Lock()
		rt.mu.tasks[i] = l.Tasks[i]
		rt.mu.Unlock()
	}
	sub.sources = slices.Sorted(maps.Keys(all))
	rt.current.Store(sub)
}

func (rt *Runtime) subTopology(id int, sub *engine.Sub, l *layout, to, before *subscription) subTopology {
	st := subTopology{id: id, topics: map[string]int32{}, found: map[string]bool{}}
	for _, src := range sub.Sources {
		names := l.found[src.Pattern]
		for _, topic := range src.Topics {
			names = append(names, topic.In(rt.cfg.AppID))
		}
		for _, name := range names {
			info, _ := rt.topics.get(name)
			if info.partitions == 0 {
				continue // of a repartition that nothing is written to yet
			}
			st.topics[name] = info.partitions
			st.found[name] = src.Pattern != ""
			how := reset{src.Reset, src.ResetBy}
			if src.Pattern != "" && before != nil {
				// One that came while we ran has no record from before: it is read from its start.
				var known bool
				if how, known = before.resets[name]; !known {
					continue
				}
			}
			if how.moves() || how.reset == engine.ResetNone {
				to.resets[name] = how
			}
		}
	}
	for _, store := range sub.Stores {
		if store.FromSource {
			st.sourced = true
		} else if store.Changelog.Name != "" {
			st.changelogs = append(st.changelogs, store.Changelog.In(rt.cfg.AppID))
		}
	}
	return st
}

// repartitions names the repartition topics whose processed records nobody needs any more.
func (rt *Runtime) repartitions() map[string]bool {
	names := map[string]bool{}
	for _, rp := range rt.cfg.Plan.Repartitions {
		names[rp.Topic.In(rt.cfg.AppID)] = true
	}
	for _, sub := range rt.cfg.Plan.Subs {
		for _, st := range sub.Stores {
			delete(names, st.Changelog.In(rt.cfg.AppID))
		}
	}
	return names
}

// look has the watcher look at the cluster's topics now. It does not wait for it.
func (rt *Runtime) look() {
	select {
	case rt.poke <- struct{}{}:
	default:
	}
}

// watch looks for topics that match a pattern, and for those that are gone, until ctx is done.
func (rt *Runtime) watch(ctx context.Context) error {
	every := time.NewTicker(rt.cfg.LookInterval)
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-every.C:
		case <-rt.poke:
		}
		if err := rt.lookNow(ctx); err != nil {
			return stopped(ctx, err)
		}
	}
}

func (rt *Runtime) lookNow(ctx context.Context) error {
	var existing map[string]mark
	err := session.Retry(ctx, rt.cfg.Logger, "the brokers, for topics that match a pattern", func() (err error) {
		existing, err = rt.topics.existing(ctx)
		return err
	})
	if err != nil {
		return err
	}
	found, err := rt.cfg.Plan.Matching(rt.cfg.AppID, slices.Collect(maps.Keys(existing)))
	if err != nil {
		return err
	}
	if maps.Equal(marks(found, existing), rt.current.Load().found) {
		return nil
	}
	var l *layout
	err = session.Retry(ctx, rt.cfg.Logger, "the topics that match a pattern", func() (err error) {
		l, err = rt.topics.layout(ctx, &rt.cfg)
		return err
	})
	if err != nil {
		return err
	}
	rt.subscribe(l)
	rt.cfg.Logger.Info("the topics that match a pattern have changed: asking the group to give them out", "topics", slices.Sorted(maps.Keys(l.marks)))
	rt.wakeAll()
	return nil
}

// mark tells a topic from another one of its name, and from what it was before it got more partitions.
type mark struct {
	id         kadm.TopicID
	partitions int
}

// marks are those of the topics found.
func marks(found map[string][]string, existing map[string]mark) map[string]mark {
	out := map[string]mark{}
	for _, names := range found {
		for _, name := range names {
			out[name] = existing[name]
		}
	}
	return out
}

func (rt *Runtime) wakeAll() {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	for _, w := range rt.crew.all() {
		w.wake()
	}
}

// existing lists the cluster's topics, but for its own internal ones.
func (t *topics) existing(ctx context.Context) (map[string]mark, error) {
	list, err := t.admin.ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	names := map[string]mark{}
	for name, d := range list {
		switch {
		case d.Err == nil && len(d.Partitions) > 0:
			names[name] = mark{d.ID, len(d.Partitions)}
		case d.Err != nil && kerr.IsRetriable(d.Err) && !errors.Is(d.Err, kerr.UnknownTopicOrPartition):
			return nil, d.Err // it may be there or not
		}
	}
	return names, nil
}
