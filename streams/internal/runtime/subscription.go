package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/session"
)

// subscription is what the workers read: the topics there are, and what they mean for the group. It is not changed. When a
// pattern finds other topics, or a source topic has got more partitions or was made anew, a new one takes its place; the
// workers commit, end their sessions and begin new ones with it, and a rebalance gives out what has come.
type subscription struct {
	layout  []subTopology
	sources []string         // topics to subscribe to, sorted
	resets  map[string]reset // of topics that do not begin at the log's start without a committed offset
	found   map[string]mark  // topics that patterns found
	named   map[string]mark  // topics that sources name
}

// reset says where a topic begins without a committed offset.
type reset struct {
	reset engine.Reset
	by    time.Duration
	known int32 // partitions from this one on came while we ran, and begin at their starts; 0: none did
}

// of is what holds for one partition.
func (r reset) of(p int32) reset {
	if r.known > 0 && p >= r.known {
		return reset{}
	}
	return r
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
	sub := &subscription{resets: map[string]reset{}, found: l.marks, named: map[string]mark{}}
	for _, name := range rt.cfg.Plan.Named() {
		if info, ok := rt.topics.get(name); ok {
			sub.named[name] = mark{info.id, int(info.partitions)}
		}
	}
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
			how := reset{reset: src.Reset, by: src.ResetBy, known: before.grown(name, info)}
			if src.Pattern != "" && before != nil {
				// One that came while we ran has no record from before: it is read from its start.
				var known bool
				grown := how.known
				if how, known = before.resets[name]; !known {
					continue
				}
				how.known = grown
			}
			if how.moves() || how.reset == engine.ResetNone {
				to.resets[name] = how
			}
		}
	}
	for _, store := range sub.Stores {
		if store.FromSource {
			st.sourced = append(st.sourced, store.Changelog.In(rt.cfg.AppID))
		} else if store.Changelog.Name != "" {
			st.changelogs = append(st.changelogs, store.Changelog.In(rt.cfg.AppID))
		}
	}
	return st
}

// grown is the number of partitions that a topic had when it was first read, if it has got more since; 0 if not.
func (s *subscription) grown(name string, now topicInfo) int32 {
	if s == nil {
		return 0
	}
	if known := s.resets[name].known; known > 0 {
		return known
	}
	was, ok := s.named[name]
	if !ok {
		was, ok = s.found[name]
	}
	if ok && was.id == now.id && int32(was.partitions) < now.partitions {
		return int32(was.partitions)
	}
	return 0
}

// reads reports whether a partition is one of a task.
func (s *subscription) reads(at tp) bool {
	return slices.ContainsFunc(s.layout, func(sub subTopology) bool { return at.p < sub.topics[at.topic] })
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

// watch looks for topics that match a pattern, and for source topics that are gone, have more partitions or are others than
// they were, until ctx is done.
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
	cfg, now := &rt.cfg, rt.current.Load()
	var existing map[string]mark
	err := session.Retry(ctx, cfg.Logger, "the brokers, for the topics there are", func() (err error) {
		existing, err = rt.topics.existing(ctx, cfg)
		return err
	})
	if err != nil {
		return err
	}
	found, err := cfg.Plan.Matching(cfg.AppID, slices.Collect(maps.Keys(existing)))
	if err != nil {
		return err
	}
	changed := !maps.Equal(marks(found, existing), now.found)
	for name, was := range now.named {
		switch is, ok := existing[name]; {
		case !ok:
			cfg.Logger.Warn("a source topic is gone: it is waited for; create it again, or stop the application", "topic", name)
		case is != was:
			changed = true
			cfg.Logger.Info("a source topic is not what it was", "topic", name, "partitions", is.partitions, "had", was.partitions, "made_anew", is.id != was.id)
		}
	}
	if !changed {
		return nil
	}
	var l *layout
	err = session.Retry(ctx, cfg.Logger, "the source topics", func() (err error) {
		l, err = rt.topics.layout(ctx, cfg)
		return err
	})
	if err != nil {
		return fmt.Errorf("the source topics have changed: %w", err)
	}
	rt.subscribe(l)
	cfg.Logger.Info("the source topics have changed: asking the group to give them out", "topics", rt.current.Load().sources)
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

// existing lists the topics that sources name and, if there are patterns, all of the cluster, but for its own internal ones.
func (t *topics) existing(ctx context.Context, cfg *Config) (map[string]mark, error) {
	named := cfg.Plan.Named()
	ask := named
	if cfg.Plan.HasPatterns() {
		ask = nil
	} else if len(named) == 0 {
		return nil, nil
	}
	list, err := t.admin.ListTopics(ctx, ask...)
	if err != nil {
		return nil, err
	}
	names := map[string]mark{}
	for name, d := range list {
		switch {
		case d.Err == nil && len(d.Partitions) > 0:
			names[name] = mark{d.ID, len(d.Partitions)}
		case d.Err != nil && kerr.IsRetriable(d.Err) && !errors.Is(d.Err, kerr.UnknownTopicOrPartition):
			if ours, err := cfg.Plan.Matching(cfg.AppID, []string{name}); err != nil || len(ours) > 0 || slices.Contains(named, name) {
				return nil, fmt.Errorf("metadata of topic %s: %w", name, d.Err) // it may be there or not
			}
		}
	}
	return names, nil
}
