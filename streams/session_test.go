package streams_test

import (
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/streams"
)

// Sessions that cannot be are mistakes, each with its reason.
func TestMistakesOfSessions(t *testing.T) {
	var b streams.Builder
	a := b.Stream(streams.Topic[string, string]{Name: "A"}).GroupByKey()
	a.WindowedBySession(streams.Session(0))
	a.WindowedBySession(streams.Session(time.Second).Grace(-time.Second))
	a.WindowedBySession(streams.Session(time.Second).Grace(time.Second)).Count(streams.SessionStore[string, int64]{Name: "s", Retention: time.Second})
	_, err := b.Build()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"sessions with a gap of 0s", "negative grace -1s", `store "s" keeps sessions for 1s, but they change for 2s`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("the mistake %q is missing: %v", want, err)
		}
	}
}
