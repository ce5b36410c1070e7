package runtime

import (
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/state"
)

func TestWhereARestoreBegins(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	id, other := [16]byte{1}, [16]byte{2}
	at := func(topic [16]byte, offset int64, ago time.Duration) state.Position {
		return state.Position{TopicID: topic, Offset: offset, At: now.Add(-ago)}
	}
	for name, c := range map[string]struct {
		pos        state.Position
		has        bool
		start, end int64
		from       int64
		why        string
	}{
		"nothing there yet":               {has: false, start: 5, end: 100, from: 5},
		"the difference":                  {pos: at(id, 90, time.Minute), has: true, end: 100, from: 90},
		"nothing to do":                   {pos: at(id, 100, time.Minute), has: true, end: 100, from: 100},
		"nothing to do, long away":        {pos: at(id, 100, 240*time.Hour), has: true, end: 100, from: 100},
		"another topic":                   {pos: at(other, 90, time.Minute), has: true, start: 3, end: 100, from: 3, why: "created again"},
		"an id was not known":             {pos: at([16]byte{}, 90, time.Minute), has: true, end: 100, from: 90},
		"the log was cut":                 {pos: at(id, 90, time.Minute), has: true, start: 95, end: 100, from: 95, why: "gone from the log"},
		"the log lost its end":            {pos: at(id, 101, time.Minute), has: true, end: 100, from: 0, why: "above the end"},
		"longer away than deletes kept":   {pos: at(id, 90, 23*time.Hour), has: true, end: 100, from: 0, why: "keeps deletes"},
		"just not too long away":          {pos: at(id, 90, 21*time.Hour), has: true, end: 100, from: 90},
		"only the last marker is gone":    {pos: at(id, 99, 240*time.Hour), has: true, start: 100, end: 100, from: 100},
		"a record and a marker are gone":  {pos: at(id, 98, time.Minute), has: true, start: 100, end: 100, from: 100, why: "gone from the log"},
		"a record before a marker":        {pos: at(id, 98, time.Minute), has: true, start: 99, end: 100, from: 99, why: "gone from the log"},
		"a clock that was put back":       {pos: at(id, 90, -48*time.Hour), has: true, end: 100, from: 0, why: "from the future"},
		"a clock that is a little late":   {pos: at(id, 90, -time.Minute), has: true, end: 100, from: 90},
		"at the start of a log cut there": {pos: at(id, 95, time.Minute), has: true, start: 95, end: 100, from: 95},
	} {
		from, why := beginAt(c.pos, c.has, id, c.start, c.end, now, 24*time.Hour)
		if from != c.from || (why == "") != (c.why == "") || !strings.Contains(why, c.why) {
			t.Errorf("%s: from %d, %q; want %d, %q", name, from, why, c.from, c.why)
		}
	}
}
