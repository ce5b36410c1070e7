package streamstest_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// reporting is a test whose failures are noted, and that is otherwise the real one.
type reporting struct {
	testing.TB
	failures []string
}

func (r *reporting) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func TestExpectSaysWhatIsDifferent(t *testing.T) {
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	r := &reporting{TB: t}
	d := streamstest.New(r, wordCount(t))
	d.Send(lines, "", "a b a", streamstest.At(noon), streamstest.Headers(streams.Header{Key: "h", Value: []byte("x")}))
	d.Expect(counts, streamstest.KV("a", int64(1)), streamstest.KV("b", int64(1), streamstest.At(noon)), streamstest.KV("a", int64(2)))
	d.Expect(counts)
	d.Store(words).Expect(streamstest.Row[string, int64]{Key: "b", Value: 1, Time: noon}, streamstest.Row[string, int64]{Key: "a", Value: 2})
	if r.failures != nil {
		t.Errorf("what agrees is reported: %q", r.failures)
	}
	d.Send(lines, "", "a c b", streamstest.At(noon))
	d.Expect(counts, streamstest.KV("a", int64(3)), streamstest.KV("b", int64(9)), streamstest.KV("x", int64(1)))
	d.Store(words).Expect(streamstest.Row[string, int64]{Key: "a", Value: 3})
	want := []string{`topic "counts" (- wanted, + there):
    "a" = 3 at 2026-01-01T12:00:00.000Z
  - "b" = 9
  - "x" = 1
  + "c" = 1 at 2026-01-01T12:00:00.000Z
  + "b" = 2 at 2026-01-01T12:00:00.000Z
`, `store "words" (- wanted, + there):
  + "b" = 2 at 2026-01-01T12:00:00.000Z
  + "c" = 1 at 2026-01-01T12:00:00.000Z
`}
	if diff := cmp.Diff(want, r.failures); diff != "" {
		t.Errorf("reports (-want +got):\n%s", diff)
	}
	r.failures = nil
	d.Send(lines, "", "c b", streamstest.At(noon), streamstest.Headers(streams.Header{Key: "h", Value: []byte("x")}))
	d.ExpectInAnyOrder(counts, streamstest.KV("b", int64(3)), streamstest.KV("c", int64(2), streamstest.At(noon.Add(1))))
	d.Send(lines, "", "c", streamstest.Headers(streams.Header{Key: "h", Value: []byte("x")}), streamstest.At(noon))
	d.ExpectInAnyOrder(counts, streamstest.KV("c", int64(3), streamstest.Headers(streams.Header{Key: "h", Value: []byte("y")})), streamstest.KV("c", int64(3)))
	if len(r.failures) != 1 || !strings.Contains(r.failures[0], `- "c" = 3 [h: "y"]`) {
		t.Errorf("reported %q, want the header that is not there, once", r.failures)
	}
}

func TestLettersSayWhereTheyComeFrom(t *testing.T) {
	var b streams.Builder
	b.Stream(lines).MapValues(func(_, v string) (string, error) {
		if v == "bad" {
			return "", errors.New("no good")
		}
		return v, nil
	}).To(streams.Topic[string, string]{Name: "out"})
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, topology, streams.Config{OnError: func(context.Context, *streams.RecordError) streams.Decision { return streams.DeadLetter("dead") }})
	d.SetPartitions("lines", 3)
	d.Send(lines, "k", "good", streamstest.Partition(2))
	d.Send(lines, "k", "bad", streamstest.Partition(2), streamstest.Headers(streams.Header{Key: "own", Value: []byte("1")}))
	got := d.Letters("dead")
	if len(got) != 1 || got[0].From != "lines" || got[0].Partition != 2 || got[0].Offset != 1 || string(got[0].Value) != "bad" ||
		!strings.Contains(got[0].Message, "no good") || len(got[0].Headers) != 1 || got[0].Exception == "" {
		t.Errorf("letters %+v", got)
	}
	if more := d.Letters("dead"); more != nil {
		t.Errorf("a letter is read twice: %+v", more)
	}
}

// What a crash leaves is what the last commit left, and what was sent is processed once in the end.
func TestCrashLeavesTheLastCommit(t *testing.T) {
	d := streamstest.New(t, wordCount(t))
	d.SetPartitions("lines", 2)
	d.Send(lines, "x", "a a")
	d.Expect(counts, streamstest.KV("a", int64(1)), streamstest.KV("a", int64(2)))
	d.Crash(func() {
		d.Send(lines, "x", "a b")
		d.Send(lines, "y", "b")
	})
	d.Expect(counts, streamstest.KV("a", int64(3)), streamstest.KV("b", int64(1)), streamstest.KV("b", int64(2)))
	d.Store(words).Expect(streamstest.Row[string, int64]{Key: "a", Value: 3}, streamstest.Row[string, int64]{Key: "b", Value: 2})
	if got := d.ReadRaw("test-words-changelog"); len(got) != 5 || got[4].Offset != 4 {
		t.Errorf("the changelog has %d records, want the 5 of what was committed", len(got))
	}
}
