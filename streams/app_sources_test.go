package streams_test

import (
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams"
)

// create makes topics of the bench's own; the names get its number.
func (b *bench) create(partitions int32, names ...string) {
	b.t.Helper()
	resps, err := kadm.NewClient(b.client()).CreateTopics(b.t.Context(), partitions, 1, nil, names...)
	if err == nil {
		err = resps.Error()
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// sayTo is say for another topic.
func (b *bench) sayTo(topic string, want map[string]int64, lines ...string) {
	b.t.Helper()
	in := b.in
	b.in = topic
	b.say(want, lines...)
	b.in = in
}

// counting reads topics by a pattern, and counts their words.
func counting(pattern, out string, how ...streams.Source) (*streams.Topology, error) {
	var b streams.Builder
	b.Stream(streams.Topic[string, string]{Pattern: pattern}, how...).
		FlatMapValues(func(_, line string) ([]string, error) { return strings.Fields(line), nil }).
		GroupBy(func(_, word string) string { return word }).
		Count(streams.Store[string, int64]{Name: "counts"}).
		ToStream().
		To(streams.Topic[string, int64]{Name: out})
	return b.Build()
}

// A topic that comes is read from its start by whoever the group gives it to, whatever the source says of its beginning;
// one that goes is left. Counts go on where they were.
func TestTopicsThatMatchAPatternComeAndGo(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		pattern := strings.ReplaceAll(b.in, ".", `\.`) + "-.*"
		topology, err := counting(pattern, b.out, streams.Source{Reset: streams.Latest})
		if err != nil {
			t.Fatal(err)
		}
		want := map[string]int64{}
		out := b.results()
		first := b.run(topology, b.config("a"), nil)
		first.ready(t) // with nothing to read
		b.create(3, b.in+"-1")
		b.sayTo(b.in+"-1", want, lines(50, 20)...)
		out.expect(want)
		second := b.run(topology, b.config("b"), nil)
		second.ready(t)
		b.create(2, b.in+"-2")
		b.sayTo(b.in+"-2", want, lines(50, 20)...)
		b.sayTo(b.in+"-1", want, lines(50, 20)...)
		out.expect(want)
		b.delete(b.in + "-1")
		b.sayTo(b.in+"-2", want, lines(50, 20)...)
		out.expect(want)
		b.create(3, b.in+"-1") // once more
		b.sayTo(b.in+"-1", want, lines(50, 20)...)
		out.expect(want)
		for _, app := range []*running{first, second} {
			app.stop()
			if err := app.wait(t); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A topic of two patterns is nobody's: which source it belongs to would be chance.
func TestATopicOfTwoPatternsIsRefused(t *testing.T) {
	onOurs(t, func(t *testing.T, b *bench) {
		var bu streams.Builder
		for _, pattern := range []string{b.in, b.in + ".*"} {
			bu.Stream(streams.Topic[string, string]{Pattern: pattern}).To(streams.Topic[string, string]{Name: b.out})
		}
		topology, err := bu.Build()
		if err != nil {
			t.Fatal(err)
		}
		err = b.run(topology, b.config("a"), nil).wait(t)
		if err == nil || !strings.Contains(err.Error(), "two sources") || !strings.Contains(err.Error(), b.in+".*") {
			t.Errorf("Run returned %v, want an error that names the topic and the patterns", err)
		}
	})
}

// A source that is reset by duration begins at the first record that is young enough, or at the end.
func TestSourcesResetByDuration(t *testing.T) {
	onEach(t, func(t *testing.T, b *bench) {
		want := map[string]int64{"young": 1, "new": 1}
		cl := b.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
		at := func(age time.Duration, partition int32, word string) {
			t.Helper()
			r := &kgo.Record{Topic: b.in, Partition: partition, Value: []byte(word), Key: []byte("k"), Timestamp: time.Now().Add(-age)}
			if err := cl.ProduceSync(t.Context(), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		at(48*time.Hour, 0, "old")
		at(time.Hour, 0, "young")
		at(30*time.Hour, 1, "old") // has nothing that is young
		var bu streams.Builder
		bu.Stream(streams.Topic[string, string]{Name: b.in}, streams.Source{ResetBy: 24 * time.Hour}).
			GroupBy(func(_, word string) string { return word }).
			Count(streams.Store[string, int64]{Name: "counts"}).
			ToStream().
			To(streams.Topic[string, int64]{Name: b.out})
		topology, err := bu.Build()
		if err != nil {
			t.Fatal(err)
		}
		out := b.results()
		app := b.run(topology, b.config("a"), nil)
		app.ready(t)
		at(30*time.Hour, 1, "new") // after the beginning, whatever its time
		out.expect(want)
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
	})
}
