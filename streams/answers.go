package streams

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"slices"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/query"
	"github.com/leatstream/leat/streams/internal/runtime"
)

// What an instance says of itself and of the rows that it has, for its own views and for those of others.

func (a *App) runtime() *runtime.Runtime {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.mu.rt
}

// storeOf says what is known of a store.
func (a *App) storeOf(_ context.Context, name string) (query.Store, error) {
	rt := a.runtime()
	if rt == nil {
		return query.Store{}, fmt.Errorf("%w: %q: the application does not run", ErrNotReady, name)
	}
	sub, spec := a.topology.plan.Store(name)
	if spec == nil {
		return query.Store{}, fmt.Errorf("the topology has no store %q", name)
	}
	st := a.describeStore(rt, sub, spec)
	if st.Partitions == 0 {
		return st, fmt.Errorf("%w: %q: the application is starting", ErrNotReady, name)
	}
	return st, nil
}

func (a *App) describeStore(rt *runtime.Runtime, sub *engine.Sub, spec *engine.StoreSpec) query.Store {
	st := query.Store{Name: spec.Name, Kind: spec.Kind.String(), Sub: sub.ID, Global: sub.Global, Topic: a.placeOf(spec), FromSource: spec.FromSource,
		Key: serde.FormatOf(spec.Key), Value: serde.FormatOf(spec.Value), Size: time.Duration(spec.SizeMillis) * time.Millisecond, Partitions: 1}
	if spec.Changelog.Name != "" {
		st.Changelog = st.Topic
	}
	if rt != nil {
		for _, sh := range rt.Shards(spec.Name) {
			pos, _ := sh.Position()
			st.Here, st.Positions = append(st.Here, sh.Partition()), append(st.Positions, pos.Offset)
		}
		if !sub.Global {
			st.Partitions = rt.Tasks(sub.ID)
		}
	}
	return st
}

// placeOf is the topic that a store's serdes are told.
func (a *App) placeOf(spec *engine.StoreSpec) string {
	if spec.Changelog.Name == "" {
		return spec.Name
	}
	return spec.Changelog.In(a.cfg.AppID)
}

// localRows reads what the instance has: query.Local.
type localRows App

// Partitions implements query.Local.
func (l *localRows) Partitions(store string, copies bool) []int32 {
	rt := (*App)(l).runtime()
	if rt == nil {
		return nil
	}
	return rt.Partitions(store, copies)
}

// Rows implements query.Local.
func (l *localRows) Rows(ctx context.Context, r *query.Request) iter.Seq2[query.Row, error] {
	return func(yield func(query.Row, error) bool) {
		shards, spec, err := l.shards(ctx, r)
		if err != nil {
			yield(query.Row{}, err)
			return
		}
		topic := (*App)(l).placeOf(spec)
		sources := make([]iter.Seq2[query.Row, error], len(shards))
		for i, sh := range shards {
			if sources[i], err = shardRows(sh, spec, topic, r); err != nil {
				yield(query.Row{}, err)
				return
			}
			if r.Placed {
				sources[i] = placed(sh, sources[i])
			}
		}
		if len(sources) == 1 {
			sources[0](yield)
			return
		}
		query.Merge(r.Op, r.Backward, sources, nil)(yield)
	}
}

// Count implements query.Local.
func (l *localRows) Count(ctx context.Context, r *query.Request) (sum int64, err error) {
	shards, _, err := l.shards(ctx, r)
	if err != nil {
		return 0, err
	}
	for _, sh := range shards {
		n, err := sh.ApproximateCount()
		if err != nil {
			return sum, notReady(err)
		}
		sum += n
	}
	return sum, nil
}

// shards finds what a request asks for, once it has what the request waits for.
func (l *localRows) shards(ctx context.Context, r *query.Request) ([]*state.Shard, *engine.StoreSpec, error) {
	a := (*App)(l)
	rt := a.runtime()
	_, spec := a.topology.plan.Store(r.Store)
	switch {
	case spec == nil:
		return nil, nil, query.Fail(query.CodeNoStore, "application %s has no store %q", a.cfg.AppID, r.Store)
	case rt == nil:
		return nil, nil, query.Fail(query.CodeNotReady, "store %q: the application does not run", r.Store)
	}
	if len(r.After) > 0 {
		after := make([]runtime.Position, len(r.After))
		for i, p := range r.After {
			after[i] = runtime.Position(p)
		}
		if err := rt.Await(ctx, r.Store, r.Partitions, after); err != nil {
			return nil, nil, notReady(err)
		}
	}
	var found []*state.Shard
	here := rt.Shards(r.Store)
	for _, p := range r.Partitions {
		if i := slices.IndexFunc(here, func(sh *state.Shard) bool { return sh.Partition() == p }); i >= 0 {
			found = append(found, here[i])
			continue
		}
		if r.Staleness <= 0 || len(r.After) > 0 {
			return nil, nil, query.Fail(query.CodeNotHere, "store %q: the task of partition %d does not run here", r.Store, p)
		}
		sh, err := rt.Copy(ctx, r.Store, p, r.Staleness)
		if err != nil {
			return nil, nil, notReady(err)
		}
		found = append(found, sh)
	}
	return found, spec, nil
}

// notReady makes errors that pass what they are to those who ask.
func notReady(err error) error {
	switch {
	case errors.Is(err, runtime.ErrNotHere):
		return query.Fail(query.CodeNotHere, "%v", err)
	case errors.Is(err, runtime.ErrUnknownPosition):
		return query.Fail(query.CodeBad, "%v", err)
	case errors.Is(err, state.ErrClosed):
		return query.Fail(query.CodeNotReady, "%v: the application has ended", err)
	}
	return err
}

// answered says which operations a kind of store answers.
var answered = map[engine.StoreKind][]query.Op{
	engine.KeyValue: {query.Get, query.Range, query.Prefix, query.ByIndex},
	engine.Window:   {query.Fetch, query.Starts},
	engine.Session:  {query.Sessions, query.Ends},
}

// shardRows reads one partition, in encoded bytes.
func shardRows(sh *state.Shard, spec *engine.StoreSpec, topic string, r *query.Request) (iter.Seq2[query.Row, error], error) {
	if !slices.Contains(answered[spec.Kind], r.Op) {
		return nil, query.Fail(query.CodeBad, "store %q is a %s store, which does not answer %q", r.Store, spec.Kind, r.Op)
	}
	p := sh.Partition()
	switch spec.Kind {
	case engine.Window:
		v := state.ViewWindow(sh, serde.Bytes, serde.Bytes, topic)
		switch {
		case r.Op == query.Fetch:
			return windowRows(p, spec.WindowEnd, v.Fetch(r.Key, r.Since, r.Until)), nil
		case r.Backward:
			return ofKeys(r, windowRows(p, spec.WindowEnd, v.BackwardRange(r.Since, r.Until))), nil
		}
		return ofKeys(r, windowRows(p, spec.WindowEnd, v.Range(r.Since, r.Until))), nil
	case engine.Session:
		v := state.ViewSession(sh, serde.Bytes, serde.Bytes, topic)
		switch {
		case r.Op == query.Sessions:
			return sessionRows(p, v.Sessions(r.Key, r.Since, r.Until)), nil
		case r.Backward:
			return ofKeys(r, sessionRows(p, v.BackwardRange(r.Since, r.Until))), nil
		}
		return ofKeys(r, sessionRows(p, v.Range(r.Since, r.Until))), nil
	}
	none := func(start int64) int64 { return start }
	v := state.ViewKeyValue(sh, serde.Bytes, serde.Bytes, topic)
	switch {
	case r.Op == query.Get:
		return func(yield func(query.Row, error) bool) {
			if row, ok, err := v.Get(r.Key); err != nil {
				yield(query.Row{}, notReady(err))
			} else if ok {
				yield(query.Row{Key: row.Key, Value: row.Value, Time: row.Time, Partition: p}, nil)
			}
		}, nil
	case r.Op == query.ByIndex:
		x, err := state.ViewIndex(sh, r.Index, serde.Bytes, serde.Bytes, serde.Bytes, topic)
		if err != nil {
			return nil, err
		}
		if r.Backward {
			return indexRows(p, x.BackwardRange(bounds(r))), nil
		}
		return indexRows(p, x.Range(bounds(r))), nil
	case r.Op == query.Prefix && r.Backward:
		return windowRows(p, none, v.BackwardPrefix(r.Key)), nil
	case r.Op == query.Prefix:
		return windowRows(p, none, v.Prefix(r.Key)), nil
	}
	if r.Backward {
		return windowRows(p, none, v.BackwardRange(bounds(r))), nil
	}
	return windowRows(p, none, v.Range(bounds(r))), nil
}

// placed yields first where in its changelog the rows stand: rows and position change together, so rows that begin between
// two looks at the same position are of that one.
func placed(sh *state.Shard, rows iter.Seq2[query.Row, error]) iter.Seq2[query.Row, error] {
	const tries = 1000 // of which one fails if a commit is applied just then
	type place struct {
		of [16]byte
		at int64
	}
	where := func() place {
		if pos, ok := sh.Position(); ok {
			return place{pos.TopicID, pos.Offset}
		}
		return place{at: -1}
	}
	return func(yield func(query.Row, error) bool) {
		for range tries {
			is := where()
			next, stop := iter.Pull2(rows)
			row, err, ok := next()
			if err == nil && where() != is {
				stop()
				continue
			}
			defer stop()
			stand := query.Row{At: &is.at, Partition: sh.Partition(), Start: math.MinInt64, End: math.MinInt64}
			if is.of != [16]byte{} {
				stand.Of = is.of[:]
			}
			more := err != nil || yield(stand, nil)
			for ok && more {
				more = yield(row, err)
				row, err, ok = next()
			}
			return
		}
		yield(query.Row{}, query.Fail(query.CodeNotReady, "store partition %d is written so fast that no moment of it can be read", sh.Partition()))
	}
}

// bounds are the ends of a range; nil for none.
func bounds(r *query.Request) (from, to *[]byte) {
	if r.From != nil {
		from = &r.From
	}
	if r.To != nil {
		to = &r.To
	}
	return from, to
}

func indexRows(p int32, rows iter.Seq2[state.IndexRow[[]byte, []byte], error]) iter.Seq2[query.Row, error] {
	return func(yield func(query.Row, error) bool) {
		for r, err := range rows {
			if err != nil {
				yield(query.Row{}, notReady(err))
				return
			}
			if !yield(query.Row{Key: r.Key, Value: r.Value, Time: r.Time, By: bytes.Clone(r.By), Partition: p}, nil) {
				return
			}
		}
	}
}

// ofKeys leaves of a window or session store's rows those whose keys lie between the request's.
func ofKeys(r *query.Request, rows iter.Seq2[query.Row, error]) iter.Seq2[query.Row, error] {
	if r.From == nil && r.To == nil {
		return rows
	}
	return func(yield func(query.Row, error) bool) {
		for row, err := range rows {
			out := bytes.Compare(row.Key, r.From) < 0 || r.To != nil && bytes.Compare(row.Key, r.To) > 0
			if (err != nil || !out) && !yield(row, err) {
				return
			}
		}
	}
}

// windowRows are those of a window store, or of a key-value store, whose Start is 0. end is where a window ends.
func windowRows(p int32, end func(start int64) int64, rows iter.Seq2[state.Row[[]byte, []byte], error]) iter.Seq2[query.Row, error] {
	return func(yield func(query.Row, error) bool) {
		for r, err := range rows {
			if err != nil {
				yield(query.Row{}, notReady(err))
				return
			}
			if !yield(query.Row{Key: r.Key, Value: r.Value, Time: r.Time, Start: r.Start, End: end(r.Start), Partition: p}, nil) {
				return
			}
		}
	}
}

func sessionRows(p int32, rows iter.Seq2[state.Row[state.SessionKey[[]byte], []byte], error]) iter.Seq2[query.Row, error] {
	return func(yield func(query.Row, error) bool) {
		for r, err := range rows {
			if err != nil {
				yield(query.Row{}, notReady(err))
				return
			}
			if !yield(query.Row{Key: r.Key.Key, Value: r.Value, Time: r.Time, Start: r.Key.Start, End: r.Start, Partition: p}, nil) {
				return
			}
		}
	}
}

// answers is the instance as others see it: query.Source.
type answers App

// Describe implements query.Source.
func (s *answers) Describe(counts bool) query.Instance {
	a := (*App)(s)
	rt := a.runtime()
	a.mu.Lock()
	id := a.mu.id
	a.mu.Unlock()
	d := query.Instance{App: a.cfg.AppID, ID: id, State: a.State().String(), Paused: a.Paused(), Tasks: []query.Task{}, Stores: []query.Store{}}
	if rt != nil {
		all := rt.Statuses()
		d.Restored = restoredPercent(all)
		for _, t := range all {
			how := restoreOf(t, time.Now())
			d.Tasks = append(d.Tasks, query.Task{ID: t.ID.String(), Sub: t.ID.Sub, Partition: t.ID.Partition, Role: roles[t.Role].String(),
				Worker: t.Worker, Lag: t.Lag, Remaining: t.Remaining, Restored: t.Records, Bytes: t.Bytes, Left: how.Left})
		}
	}
	for _, sub := range a.topology.plan.Subs {
		for _, spec := range sub.Stores {
			st := a.describeStore(rt, sub, spec)
			if counts && rt != nil {
				st.Rows, _ = (*localRows)(a).Count(context.Background(), &query.Request{Store: st.Name, Partitions: st.Here})
			}
			d.Stores = append(d.Stores, st)
		}
	}
	return d
}

// Topology implements query.Source.
func (s *answers) Topology(as string) (string, bool) {
	switch t := s.topology; as {
	case "", "text":
		return t.Describe(), true
	case "dot":
		return t.DOT(), true
	case "mermaid":
		return t.Mermaid(), true
	case "json":
		return t.JSON(), true
	}
	return "", false
}

// Health implements query.Source.
func (s *answers) Health() (alive, ready bool) {
	st := (*App)(s).State()
	return st != StateFailed && st != StateStopped, st == StateRunning
}

// SetPaused implements query.Source.
func (s *answers) SetPaused(p bool) { (*App)(s).setPaused(p) }

// Read implements query.Source.
func (s *answers) Read(ctx context.Context, r *query.Request, yield func(query.Row) bool) (int64, error) {
	l := (*localRows)(s)
	if r.Op == query.Count {
		return l.Count(ctx, r)
	}
	n := 0
	for row, err := range l.Rows(ctx, r) {
		if err != nil {
			return 0, err
		}
		if !yield(row) {
			break
		}
		if n++; n == r.Limit {
			break
		}
	}
	return 0, nil
}
