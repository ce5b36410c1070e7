package cluster_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest/cluster"
)

const visitGap = time.Second

var (
	clicks = streams.Topic[int64, bool]{Name: "clicks"}
	visits = streams.Topic[streams.Windowed[int64], int64]{Name: "visits", Key: serde.SessionWindowed(serde.Int64)}
)

// Whatever crashes, each session goes out once, with all of its records, when the next one of its key has begun.
func TestFinalSessionsAreExact(t *testing.T) {
	cluster.Test(t, cluster.Scenario{
		Topology: func() (*streams.Topology, error) {
			var b streams.Builder
			b.Stream(clicks).
				GroupByKey().
				WindowedBySession(streams.Session(visitGap)).Final().
				Count(streams.SessionStore[int64, int64]{Name: "visits"}).
				To(visits)
			return b.Build()
		},
		Topics: map[string]int{"clicks": 3, "visits": 3},
		Input: func(f *cluster.Feed) {
			for range 600 {
				f.Send(clicks, f.Rand.Int64N(20), true)
			}
		},
		Check: finalSessions,
	})
}

func finalSessions(o *cluster.Outcome) error {
	in, err := o.Read(clicks)
	if err != nil {
		return err
	}
	want, open := map[streams.Windowed[int64]]int64{}, map[int64]streams.Windowed[int64]{}
	counts := map[int64]int64{} // of the open sessions
	for _, r := range in {      // of one key in the order of their times
		s, ok := open[r.Key]
		if !ok || r.Time.Sub(s.End) > visitGap {
			if ok {
				want[s] = counts[r.Key]
			}
			s, counts[r.Key] = streams.Windowed[int64]{Key: r.Key, Start: r.Time}, 0
		}
		s.End = r.Time
		open[r.Key] = s
		counts[r.Key]++
	}
	out, err := o.Read(visits)
	if err != nil {
		return err
	}
	if len(want) < 50 {
		return fmt.Errorf("the input has %d sessions that must have gone out: too few", len(want))
	}
	var wrong []error
	seen := map[streams.Windowed[int64]]bool{}
	for _, r := range out {
		n, closed := want[r.Key]
		if !closed && open[r.Key.Key] == r.Key {
			n = counts[r.Key.Key]
		}
		if seen[r.Key] || n != r.Value {
			wrong = append(wrong, fmt.Errorf("session %v has %d records (before: %v), want %d", r.Key, r.Value, seen[r.Key], n))
		}
		seen[r.Key] = true
		delete(want, r.Key)
	}
	for s, n := range want {
		wrong = append(wrong, fmt.Errorf("session %v, of %d records, is missing", s, n))
	}
	return errors.Join(wrong[:min(len(wrong), 5)]...)
}
