package streams_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams"
)

// What becomes of an application whose topics somebody changes, deletes, cuts or makes by hand.

// said is a log that a test looks into.
type said struct {
	sync.Mutex
	buf bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.Lock()
	defer s.Unlock()
	return s.buf.Write(p)
}

func (s *said) has(text string) bool {
	s.Lock()
	defer s.Unlock()
	return strings.Contains(s.buf.String(), text)
}

func (s *said) into(c streams.Config) streams.Config {
	c.Logger = slog.New(slog.NewTextHandler(s, nil))
	return c
}

// manual writes one word to a partition.
func (b *bench) manual(partition int32, word string) {
	b.t.Helper()
	cl := b.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err := cl.ProduceSync(b.t.Context(), &kgo.Record{Topic: b.in, Partition: partition, Key: []byte(word), Value: []byte(word)}).FirstErr(); err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) delete(topic string) {
	b.t.Helper()
	resp, err := kadm.NewClient(b.client()).DeleteTopics(b.t.Context(), topic)
	if err == nil {
		err = resp.Error()
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

func (b *bench) partitions(n int) {
	b.t.Helper()
	resp, err := kadm.NewClient(b.client()).UpdatePartitions(b.t.Context(), n, b.in)
	if err == nil {
		err = resp.Error()
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// ones passes the words of a stream on, each counted as one.
func ones(b *bench, how streams.Source) *streams.Topology {
	b.t.Helper()
	var bu streams.Builder
	bu.Stream(streams.Topic[string, string]{Name: b.in}, how).
		MapValues(func(_, _ string) (int64, error) { return 1, nil }).
		To(streams.Topic[string, int64]{Name: b.out})
	t, err := bu.Build()
	if err != nil {
		b.t.Fatal(err)
	}
	return t
}

// A partition that comes while the application runs is read from its start: everything in it has come since.
func TestPartitionsThatAreAddedAreRead(t *testing.T) {
	t.Parallel()
	onOurs(t, func(t *testing.T, b *bench) {
		app := b.run(ones(b, streams.Source{Reset: streams.Latest}), b.config("a"), nil)
		other := b.run(ones(b, streams.Source{Reset: streams.Latest}), b.config("b"), nil)
		app.ready(t)
		other.ready(t)
		out := b.results()
		b.partitions(5)
		want := map[string]int64{}
		for p, word := range []string{"a", "b", "c", "d", "e"} {
			b.manual(int32(p), word)
			want[word] = 1
		}
		out.expect(want)
		for _, a := range []*running{app, other} {
			a.stop()
			if err := a.wait(t); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// State is made for a number of partitions: with more, keys would be counted in two places, and the new ones nowhere.
func TestPartitionsThatAreAddedBeforeAStoreEndIt(t *testing.T) {
	t.Parallel()
	onOurs(t, func(t *testing.T, b *bench) {
		app := b.start(b.config("a"), nil)
		app.ready(t)
		b.partitions(5)
		if err := app.wait(t); !errors.Is(err, streams.ErrInternalTopic) || !strings.Contains(err.Error(), "partition count") {
			t.Errorf("Run returned %v, want ErrInternalTopic", err)
		}
	})
}

// A source topic that is deleted is not made again by those who read it; made anew by its owner it is read on.
func TestASourceTopicIsMadeAnew(t *testing.T) {
	t.Parallel()
	onOurs(t, func(t *testing.T, b *bench) {
		var log said
		app := b.run(ones(b, streams.Source{}), log.into(b.config("a")), nil)
		app.ready(t)
		out := b.results()
		b.manual(0, "a")
		out.expect(map[string]int64{"a": 1})
		b.delete(b.in)
		for !log.has("a source topic is gone") {
			if t.Context().Err() != nil {
				t.Fatal("nothing was said of the topic")
			}
			time.Sleep(10 * time.Millisecond)
		}
		b.create(3, b.in)
		b.manual(1, "b")
		out.expect(map[string]int64{"a": 1, "b": 1})
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}

// What is in a changelog that somebody deletes is lost for whoever has to restore it. Nobody makes it again in silence, and
// the next start says what it would mean.
func TestADeletedChangelogIsNoSecret(t *testing.T) {
	t.Parallel()
	onOurs(t, func(t *testing.T, b *bench) {
		want := map[string]int64{}
		out := b.results()
		app := b.start(b.config("a"), nil)
		b.say(want, "one two two")
		out.expect(want)
		b.delete(b.app + "-counts-changelog")
		b.manual(0, "three")
		if err := app.wait(t); !errors.Is(err, streams.ErrInternalTopic) || !strings.Contains(err.Error(), "counts-changelog is gone") {
			t.Fatalf("Run returned %v, want ErrInternalTopic", err)
		}
		err := b.start(b.config("a"), nil).wait(t)
		accept := regexp.MustCompile(`AcceptPlan: "([0-9a-f]+)"`).FindStringSubmatch(err.Error())
		if !errors.Is(err, streams.ErrTopologyChanged) || !strings.Contains(err.Error(), "counts-changelog is gone") || accept == nil {
			t.Fatalf("the next Run returned %v, want ErrTopologyChanged and how to accept it", err)
		}
		cfg := b.config("a")
		cfg.AcceptPlan = accept[1]
		app = b.start(cfg, nil)
		out.strict = false
		b.say(map[string]int64{}, "one")
		out.expect(map[string]int64{"one": 1, "two": 2, "three": 1})
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}

// A changelog that was not made by the application may delete rows that do not change.
func TestChangelogsThatWouldDeleteRowsAreRefused(t *testing.T) {
	t.Parallel()
	onOurs(t, func(t *testing.T, b *bench) {
		name := b.app + "-counts-changelog"
		admin := kadm.NewClient(b.client())
		if _, err := admin.CreateTopic(t.Context(), 3, 1, nil, name); err != nil {
			t.Fatal(err)
		}
		err := b.start(b.config("a"), nil).wait(t)
		if !errors.Is(err, streams.ErrInternalTopic) || !strings.Contains(err.Error(), "leat config set topic "+name+" cleanup.policy=compact") {
			t.Fatalf("Run returned %v, want ErrInternalTopic and the command that mends it", err)
		}
		compact := "compact"
		if _, err := admin.AlterTopicConfigs(t.Context(), []kadm.AlterConfig{{Name: "cleanup.policy", Value: &compact}}, name); err != nil {
			t.Fatal(err)
		}
		app := b.start(b.config("a"), nil)
		app.ready(t)
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}

// Records that are gone before they were processed are lost: that is said, or refused, as the source wants it.
func TestInputThatIsGoneIsSaid(t *testing.T) {
	t.Parallel()
	onOurs(t, func(t *testing.T, b *bench) {
		app := b.run(ones(b, streams.Source{}), b.config("a"), nil)
		out := b.results()
		for p, word := range []string{"a", "x", "y"} { // all of which are to have a position
			b.manual(int32(p), word)
		}
		out.expect(map[string]int64{"a": 1, "x": 1, "y": 1})
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
		for range 5 {
			b.manual(0, "lost")
		}
		offsets := kadm.Offsets{}
		offsets.AddOffset(b.in, 0, 6, -1)
		if _, err := kadm.NewClient(b.client()).DeleteRecords(t.Context(), offsets); err != nil {
			t.Fatal(err)
		}
		err := b.run(ones(b, streams.Source{Reset: streams.None}), b.config("a"), nil).wait(t)
		if err == nil || !strings.Contains(err.Error(), "records 1 to 5 are gone") {
			t.Errorf("Run with Reset: None returned %v", err)
		}
		var log said
		app = b.run(ones(b, streams.Source{}), log.into(b.config("a")), nil)
		app.ready(t)
		if !log.has("records are gone from the input") || !log.has("position=1 log_begins=6") {
			t.Errorf("nothing was said of what is gone:\n%s", log.buf.String())
		}
		b.manual(0, "b")
		out.expect(map[string]int64{"a": 1, "x": 1, "y": 1, "b": 1})
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
		plan, err := app.Plan(context.Background())
		if err != nil || plan.LosesState() {
			t.Errorf("the plan is %v, %v", plan, err)
		}
	})
}

// A result that the client would not send is the error of its record, not of every later start.
func TestAResultThatIsTooLargeIsItsRecordsError(t *testing.T) {
	t.Parallel()
	onOurs(t, func(t *testing.T, b *bench) {
		var bu streams.Builder
		bu.Stream(streams.Topic[string, string]{Name: b.in}).
			GroupBy(func(_, word string) string { // through a repartition topic
				if word == "large" {
					word = strings.Repeat(word, 1<<20)
				}
				return word
			}).
			Count(streams.Store[string, int64]{Name: "counts"}).
			ToStream().
			To(streams.Topic[string, int64]{Name: b.out})
		topology, err := bu.Build()
		if err != nil {
			t.Fatal(err)
		}
		phases := make(chan string, 10)
		cfg := b.config("a")
		cfg.OnError = func(_ context.Context, e *streams.RecordError) streams.Decision {
			phases <- string(e.Phase)
			return streams.Skip()
		}
		app := b.run(topology, cfg, nil)
		out := b.results()
		b.say(map[string]int64{}, "large", "small")
		out.expect(map[string]int64{"small": 1})
		if p := <-phases; p != "produce" || len(phases) > 0 {
			t.Errorf("the error was of phase %s, and %d more came, want one of phase produce", p, len(phases))
		}
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}
