package streams

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
)

// Builder puts a topology together. The zero value is ready. Its methods, and those of the handles that they return,
// never fail and never panic: mistakes are collected, each with the file and line of the call, and Build returns them
// all. A Builder and its handles are for one goroutine.
type Builder struct {
	// Optimize does what Kafka Streams does with topology.optimization=all: the topic of a source table serves as its
	// store's changelog; an inner join of a stream with itself has one store; and groups and joins by one changed key share
	// one repartition topic, that of the first of them.
	Optimize bool

	g            graph.Graph
	sources      []*sourceDef
	stores       []*storeDef
	repartitions []*repartitionDef
	rekeyings    []*rekeying
	outputs      map[*graph.Node]*outputs // of processors
	joined       [][]*graph.Node          // nodes whose sources must be co-partitioned
	topics       map[string]bool          // source topics
	create       []engine.NewTopic
	starters     []engine.Starter
	mistakes     []error
	checks       []func() // what can only be said in the end; run by Build
}

// storeDef is a store of the builder.
type storeDef struct {
	spec    *engine.StoreSpec
	shard   state.ShardOptions
	owner   *graph.Node   // the table's node, if it is a table's
	users   []*graph.Node // nodes that it is connected to
	keepOld bool          // somebody needs old values
	// unbuffered: somebody needs every update at once, whatever the descriptor says.
	unbuffered bool
	isGlobal   bool                                  // a global table's: every task may read it
	marks      *storeDef                             // of traces; nil: not traced
	indexes    func(topic string) []state.ShardIndex // nil: none
	open       func(t *engine.Task, sh *state.Shard, topic string) (state.Store, error)
}

type repartitionDef struct {
	name   string // of the topic, without application and without "-repartition"
	topic  engine.Topic
	pinned int32
	sink   *graph.Node
	source *sourceDef
	nulls  bool // null keys pass
}

// Topology is a built topology. It is immutable, and may be used by several goroutines and run by several applications.
type Topology struct {
	plan     *engine.Plan
	picture  graph.Picture
	manifest Manifest
}

// Describe returns the text that Kafka's Topology.describe().toString() gives for the same topology. Names like
// KSTREAM-MAP-0000000002 are for display: nothing that lasts is named by them.
func (t *Topology) Describe() string { return t.plan.Describe }

// DOT returns the topology in Graphviz's language, with its topics and stores.
func (t *Topology) DOT() string { return t.picture.DOT() }

// Mermaid returns the topology as a Mermaid flowchart, with its topics and stores.
func (t *Topology) Mermaid() string { return t.picture.Mermaid() }

// JSON returns the topology for programs: {"subTopologies": [{"id", "nodes": [{"name", "type", "topics", "stores", "to", …}]}]}.
// Internal topics stand without the application's id.
func (t *Topology) JSON() string { return t.picture.JSON() }

// Engine is no part of the API, and not under its promises: it is there for package streamstest, and what it returns belongs
// to an internal package.
func (t *Topology) Engine() *engine.Plan { return t.plan }

// mistake collects an error at the caller's line: the first one outside this package.
func (b *Builder) mistake(format string, args ...any) {
	err := fmt.Errorf(format, args...)
	if at := callSite(); at != "" {
		err = fmt.Errorf("%s: %w", at, err)
	}
	b.mistakes = append(b.mistakes, err)
}

func callSite() string {
	const own = "github.com/leatstream/leat/streams."
	pcs := make([]uintptr, 32)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if !strings.HasPrefix(f.Function, own) {
			if f.File == "" {
				return ""
			}
			return fmt.Sprintf("%s:%d", f.File, f.Line)
		}
		if !more {
			return ""
		}
	}
}

var legalName = regexp.MustCompile(`^[a-zA-Z0-9._-]+$`)

// checkName checks what becomes part of a topic's name.
func (b *Builder) checkName(what, name string) {
	switch {
	case name == "":
		b.mistake("%s has no name: what outlives the process is named by you", what)
	case len(name) > 200 || name == "." || name == ".." || !legalName.MatchString(name):
		b.mistake("%s has the name %q: topic names are made of it, so up to 200 of a-z, A-Z, 0-9, '.', '_' and '-' are allowed", what, name)
	}
}

func (b *Builder) claimTopic(name string) {
	b.checkName("a source's topic", name)
	if b.topics == nil {
		b.topics = make(map[string]bool)
	}
	if b.topics[name] {
		b.mistake("topic %q is read by two sources: keep the handle of the first and use it again", name)
	}
	b.topics[name] = true
}

// creates notes a topic that is to be created if it is missing. One topic may be described more than once, by its source
// and by a sink, but not with different counts.
func (b *Builder) creates(name string, partitions int) {
	if partitions < 0 || partitions > 1<<20 {
		b.mistake("topic %q has %d partitions: give 1 or more, or 0 for a topic that exists", name, partitions)
	}
	if partitions <= 0 {
		return
	}
	for _, c := range b.create {
		if c.Name == name {
			if c.Partitions != int32(partitions) {
				b.mistake("topic %q is described with %d partitions and with %d", name, c.Partitions, partitions)
			}
			return
		}
	}
	b.create = append(b.create, engine.NewTopic{Name: name, Partitions: int32(partitions)})
}

// starts notes a serde that wants to be started before the first record, once.
func (b *Builder) starts(s any) {
	st, ok := s.(serde.Starter)
	if !ok {
		return
	}
	for _, have := range b.starters {
		if reflect.TypeOf(have).Comparable() && reflect.TypeOf(s).Comparable() && any(have) == s {
			return
		}
	}
	b.starters = append(b.starters, starter{st})
}

// starter is a Starter of package serde as the engine sees it.
type starter struct{ serde.Starter }

func (s starter) Start(ctx context.Context) error { return s.Starter.Start(ctx) }

// processor adds a node with a name of prefix and a number; none for an empty prefix, whose node is named later.
func (b *Builder) processor(prefix string, parent *graph.Node) *graph.Node {
	name := ""
	if prefix != "" {
		name = b.g.Next(prefix)
	}
	return b.g.Add(graph.Processor, name, parent)
}

func (b *Builder) store(name string) *storeDef {
	for _, d := range b.stores {
		if d.spec.Name == name {
			return d
		}
	}
	return nil
}

// built is what is left of the builder in a plan.
type built struct {
	subs    []*builtSub
	globals map[string]*storeDef
}

type builtSub struct {
	sources []*sourceDef
	stores  []*storeDef // in the order of flushing
}

// Build checks the topology and returns it, or every mistake in it, joined.
func (b *Builder) Build() (*Topology, error) {
	for _, check := range b.checks {
		check()
	}
	for _, name := range b.g.Duplicates() {
		b.mistake("two nodes are named %q", name)
	}
	if len(b.sources) == 0 {
		b.mistake("the topology has no source")
	}
	if len(b.mistakes) > 0 {
		return nil, errors.Join(b.mistakes...)
	}
	b.mergeRepartitions()
	for _, r := range b.repartitions {
		r.nulls = r.nulls || r.source.node.LeadsToRelaxed()
	}
	groups := b.g.Groups()
	bt := &built{globals: make(map[string]*storeDef)}
	plan := &engine.Plan{Starters: slices.Clone(b.starters), Create: slices.Clone(b.create)}
	for id := range groups {
		bs := new(builtSub)
		sub := &engine.Sub{ID: id}
		for _, s := range b.sources {
			if s.node.Group == id {
				bs.sources = append(bs.sources, s)
				sub.Global = s.node.Global
				s.spec.Node = s.node.Name
				sub.Sources = append(sub.Sources, s.spec)
			}
		}
		for _, d := range b.stores {
			if len(d.users) > 0 && d.users[0].Group == id {
				bs.stores = append(bs.stores, d)
			}
			if d.isGlobal {
				bt.globals[d.spec.Name] = d
			}
		}
		slices.SortStableFunc(bs.stores, func(x, y *storeDef) int { return x.order() - y.order() })
		for _, d := range bs.stores {
			sub.Stores = append(sub.Stores, d.spec)
		}
		sub.OpenStores = bs.openStores
		sub.Open = func(t *engine.Task) (*engine.Instance, error) { return bt.instance(t, bs.sources) }
		bt.subs = append(bt.subs, bs)
		plan.Subs = append(plan.Subs, sub)
	}
	b.copartition()
	for _, r := range b.repartitions {
		plan.Repartitions = append(plan.Repartitions, &engine.Repartition{
			Topic: r.topic, Partitions: r.pinned, From: []int{r.sink.Group}, To: r.source.node.Group})
	}
	plan.Describe = b.g.Describe()
	t := &Topology{plan: plan, picture: b.g.Picture()}
	t.manifest = manifestOf(t)
	return t, nil
}

// order is the node after which a store can be flushed: a table's own, since its updates go to nodes wired later; for a
// store that processors write, the last of these.
func (d *storeDef) order() int {
	if d.owner != nil {
		return d.owner.Index
	}
	last := 0
	for _, u := range d.users {
		last = max(last, u.Index)
	}
	return last
}

func (s *builtSub) openStores(t *engine.Task) (out []state.Store, err error) {
	defer func() {
		if err == nil {
			return
		}
		for _, st := range out { // so that they can be opened again
			err = errors.Join(err, st.Close())
		}
		out = nil
	}()
	for _, d := range s.stores {
		topic := d.spec.Changelog.In(t.Env().AppID)
		if d.spec.Changelog.Name == "" {
			topic = d.spec.Name
		}
		sh, err := t.Env().DB.Shard(d.spec.Name, t.ID().Partition, d.shardOptions(topic))
		if err != nil {
			return out, fmt.Errorf("store %q: %w", d.spec.Name, err)
		}
		st, err := d.open(t, sh, topic)
		if err != nil {
			return out, fmt.Errorf("store %q: %w", d.spec.Name, err)
		}
		out = append(out, st)
	}
	return out, nil
}

// copartition numbers the groups of sources that are joined.
func (b *Builder) copartition() {
	group := make(map[*graph.Node]int)
	next := 0
	for _, nodes := range b.joined {
		var all []*graph.Node
		for _, n := range nodes {
			all = append(all, n.Upstream()...)
		}
		id := next
		next++
		for _, src := range all {
			old, ok := group[src]
			if !ok {
				continue
			}
			for n, g := range group {
				if g == old {
					group[n] = id
				}
			}
		}
		for _, src := range all {
			group[src] = id
		}
	}
	for _, s := range b.sources {
		s.spec.Group = -1
		if g, ok := group[s.node]; ok {
			s.spec.Group = g
		}
	}
}
