package streams

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/graph"
	"github.com/twmb/franz-go/pkg/kgo"
)

// sourceDef is a source node of the builder.
type sourceDef struct {
	node *graph.Node
	spec *engine.SourceSpec
	open func(o *opening) engine.Source
}

var errNullKey = errors.New("null key: a topic without keys is declared with a nullable key (serde.Nullable, *K) or with []byte")

// reader decodes the records of a source.
type reader[K, V any] struct {
	node *graph.Node
	key  decoder[K]
	val  decoder[V]
	next fn[K, V]
	// null is called for a null value that V does not speak of: a stream drops it, a table deletes.
	null func(c *cursor, k K) error
	// dropNullKeys drops records with a null key and counts them, as tables do.
	dropNullKeys bool
	several      bool // topics: each record says which

	time   func(r Record[K, V], partition time.Time) (time.Time, error)
	ahead  *kgo.Record // the record that was decoded to learn its time
	aheadK K
	aheadV V
	aheadN bool
}

func (s *reader[K, V]) source() engine.Source {
	src := engine.Source{Process: s.process}
	if s.time != nil {
		src.Time = s.eventTime
		src.Process = s.processAhead
	}
	return src
}

func (s *reader[K, V]) process(c *cursor, r *kgo.Record) error {
	if r.Key == nil && !s.key.nulls {
		if s.dropNullKeys {
			c.Task.Counters.NullDropped++
			return nil
		}
		return s.undecodable(c, r, errNullKey)
	}
	k, v, null, err := s.both(r)
	if err != nil {
		return s.undecodable(c, r, err)
	}
	if null {
		return s.null(c, k)
	}
	return s.next(c, k, v)
}

// undecodable applies the error policy to bytes that do not decode.
func (s *reader[K, V]) undecodable(c *cursor, r *kgo.Record, cause error) error {
	for attempt := 1; ; attempt++ {
		again, err := c.Fail(s.node.Name, engine.Decoding, attempt, cause)
		if !again {
			return err
		}
		k, v, null, err := s.both(r)
		if err != nil {
			cause = err
			continue
		}
		if null {
			return s.null(c, k)
		}
		return s.next(c, k, v)
	}
}

// both decodes key and value; null says that the value is null and V does not speak of it.
func (s *reader[K, V]) both(r *kgo.Record) (k K, v V, null bool, err error) {
	defer engine.Recover(&err)
	if s.several {
		s.key.at.Topic, s.val.at.Topic = r.Topic, r.Topic
	}
	if r.Key == nil && !s.key.nulls {
		return k, v, false, errNullKey
	}
	if k, err = s.key.decode(r.Key, r.Headers); err != nil {
		return k, v, false, err
	}
	if r.Value == nil && !s.val.nulls {
		return k, v, true, nil
	}
	v, err = s.val.decode(r.Value, r.Headers)
	return k, v, false, err
}

// check finds fault with a record that is replayed into the store of a table, as it would be found when it is processed. Any
// goroutine may call it.
func (s *reader[K, V]) check(r *kgo.Record) error {
	if at := r.Timestamp.UnixMilli(); at < 0 {
		return fmt.Errorf("%w %d", ErrNegativeTime, at)
	}
	if r.Key == nil && !s.key.nulls {
		return nil // it is left out anyway
	}
	_, _, _, err := s.both(r)
	return err
}

// eventTime decodes a record ahead of its turn, to ask the user's function for its time.
func (s *reader[K, V]) eventTime(r *kgo.Record, partition int64) (int64, error) {
	k, v, null, err := s.both(r)
	if err != nil || null {
		// Its own turn says what is wrong with it; until then it has its own timestamp.
		return max(0, r.Timestamp.UnixMilli()), nil
	}
	s.ahead, s.aheadK, s.aheadV, s.aheadN = r, k, v, null
	var before time.Time
	if partition >= 0 {
		before = time.UnixMilli(partition).UTC()
	}
	rec := Record[K, V]{Key: k, Value: v, Time: r.Timestamp.UTC(), Headers: fromWire(r.Headers)}
	at, err := call(s.time, rec, before)
	if err != nil {
		return 0, fmt.Errorf("time of the record: %w", err)
	}
	return at.UnixMilli(), nil
}

func (s *reader[K, V]) processAhead(c *cursor, r *kgo.Record) error {
	if s.ahead != r {
		return s.process(c, r)
	}
	k, v := s.aheadK, s.aheadV
	s.ahead = nil
	return s.next(c, k, v)
}

// addSource wires a source node for topic descriptor t.
func addSource[K, V any](b *Builder, t Topic[K, V], from []Source, into *stage[K, V], table bool, null func(o *opening) func(*cursor, K) error) (*sourceDef, serde.Serde[K], serde.Serde[V]) {
	node := b.g.Add(graph.Source, b.g.Next("KSTREAM-SOURCE-"))
	node.Pattern = t.Pattern
	what := fmt.Sprintf("topic %q", t.Name)
	if t.Pattern != "" {
		what = fmt.Sprintf("topics %q", t.Pattern)
		if _, err := regexp.Compile(t.Pattern); err != nil {
			b.mistake("%s: %w", what, err)
		}
		if t.Name != "" || len(t.Also) > 0 || t.Partitions != 0 {
			b.mistake("%s: a pattern stands alone: leave Topic.Name, Also and Partitions empty", what)
		}
	}
	key, val := serdeFor(b, t.Key, nil, "the key of "+what), serdeFor(b, t.Value, nil, "the value of "+what)
	node.Key, node.Value = serde.FormatOf(key), serde.FormatOf(val)
	def := &sourceDef{node: node, spec: &engine.SourceSpec{Node: node.Name, Pattern: t.Pattern, Group: -1}}
	if t.Pattern == "" {
		node.Topics = append([]string{t.Name}, t.Also...)
		for _, name := range node.Topics {
			b.claimTopic(name)
			b.creates(name, t.Partitions)
			def.spec.Topics = append(def.spec.Topics, engine.Topic{Name: name})
		}
	}
	if len(from) > 1 {
		b.mistake("%s: a source is told once how it is read, not %d times", what, len(from))
	}
	for _, f := range from {
		if err := f.check(); err != nil {
			b.mistake("%s: %w", what, err)
		}
		def.spec.Reset, def.spec.ResetBy, def.spec.Idle, def.spec.MaxAhead = f.Reset, f.ResetBy, f.Idle, f.MaxAhead
	}
	def.open = func(o *opening) engine.Source {
		next := hooked(o, node, into.open(o))
		r := &reader[K, V]{node: node, key: newDecoder(key, t.Name, true), val: newDecoder(val, t.Name, false),
			next: next, time: t.Time, dropNullKeys: table,
			several: t.Pattern != "" || len(t.Also) > 0}
		r.null = func(c *cursor, _ K) error { c.Task.Counters.NullDropped++; return nil }
		if null != nil {
			r.null = null(o)
		}
		return r.source()
	}
	b.sources = append(b.sources, def)
	return def, key, val
}

// onTheWay ends the names of places that have no descriptor: their serdes come from upstream.
const onTheWay = " (see WithSerdes)"

// noSerde says that a place has no serde, and where to put one. typ is a pointer to its type.
func (b *Builder) noSerde(what string, typ any, err error) {
	at, ok := strings.CutSuffix(what, onTheWay)
	if !ok {
		b.mistake("%s: %w", what, err)
		return
	}
	name := fmt.Sprintf("%T", typ)[1:]
	advice := "WithSerdes(nil, serde.JSON[" + name + "]())"
	if strings.HasPrefix(what, "the key") {
		advice = "WithSerdes(serde.JSON[" + name + "](), nil)"
	}
	b.mistake("%s: %w %s: give the stream one before it, as .%s", at, serde.ErrNoSerde, name, advice)
}

// serdeFor returns the serde that a boundary was given, else the one that comes from upstream, else the one that goes
// without saying; if there is none, that is a mistake in the topology.
func serdeFor[T any](b *Builder, given, upstream serde.Serde[T], what string) serde.Serde[T] {
	s := given
	if s == nil {
		s = upstream
	}
	if s == nil {
		var err error
		if s, err = serde.For[T](); err != nil {
			b.noSerde(what, new(T), err)
			return nil
		}
	}
	b.starts(s)
	return s
}
