package streams_test

import (
	"encoding/base64"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/leatstream/leat/streams"
)

// Positions of the group that the input does not have: every record that comes is processed, once, whatever becomes of the
// application afterwards.

// again runs an application until it has counted as wanted, and stops it.
func (b *bench) again(cfg streams.Config, out *results, want map[string]int64) {
	b.t.Helper()
	cfg.LeaveOnStop = true
	app := b.start(cfg, nil)
	app.ready(b.t)
	out.expect(want)
	app.stop()
	if err := app.wait(b.t); err != nil {
		b.t.Fatal(err)
	}
}

// count writes words to partition 0.
func (b *bench) count(want map[string]int64, words ...string) {
	b.t.Helper()
	for _, w := range words {
		b.manual(0, w)
		want[w]++
	}
}

func TestAnInputThatIsMadeAnewIsCountedOnce(t *testing.T) {
	t.Parallel()
	for name, words := range map[string][]string{
		"shorter": {"b", "b"},
		"longer":  {"b", "b", "b", "b", "b"}, // the old position lies in it
	} {
		t.Run(name, func(t *testing.T) {
			onOurs(t, func(t *testing.T, b *bench) {
				want, out := map[string]int64{}, b.results()
				b.count(want, "a", "a", "a")
				b.again(b.config("a"), out, want)
				old := b.inputID()
				b.delete(b.in)
				b.create(3, b.in)
				b.commitTo(3, old) // as an instance that has not noticed yet; and some brokers keep positions of topics that are gone
				var log said
				b.count(want, words...)
				b.again(log.into(b.config("a")), out, want)
				if !log.has("deleted and created again") {
					t.Errorf("nothing was said of it:\n%s", log.buf.String())
				}
				for range 2 { // what was counted stays so
					b.count(want, "c")
					b.again(b.config("a"), out, want)
				}
			})
		})
	}
}

func TestAnInputThatLostItsEndIsCountedOnce(t *testing.T) {
	t.Parallel()
	onOurs(t, func(t *testing.T, b *bench) {
		want, out := map[string]int64{}, b.results()
		b.count(want, "a", "a", "a")
		b.again(b.config("a"), out, want)
		b.commitTo(1000, b.inputID())
		var log said
		app := b.start(log.into(b.config("a")), nil)
		app.ready(t)
		b.count(want, "b", "b")
		out.expect(want)
		app.stop()
		if err := app.wait(t); err != nil {
			t.Fatal(err)
		}
		if !log.has("lost the end of the input") {
			t.Errorf("nothing was said of it:\n%s", log.buf.String())
		}
		for range 2 {
			b.count(want, "c")
			b.again(b.config("a"), out, want)
		}
	})
}

func (b *bench) inputID() kadm.TopicID {
	b.t.Helper()
	topics, err := kadm.NewClient(b.client()).ListTopics(b.t.Context(), b.in)
	if err != nil {
		b.t.Fatal(err)
	}
	return topics[b.in].ID
}

// commitTo has the group, which has no members, stand somewhere in a topic.
func (b *bench) commitTo(offset int64, id kadm.TopicID) {
	b.t.Helper()
	at := kadm.Offset{Topic: b.in, At: offset, LeaderEpoch: -1, Metadata: "@" + base64.RawURLEncoding.EncodeToString(id[:])}
	if err := kadm.NewClient(b.client()).CommitAllOffsets(b.t.Context(), b.app, kadm.Offsets{b.in: {0: at}}); err != nil {
		b.t.Fatal(err)
	}
}
