package streamstest

import (
	"math"
	"testing"
	"time"

	"github.com/leatstream/leat/streams"
)

// Times are compared as instants, wherever they are in a value; all else as reflect.DeepEqual does.
func TestEqual(t *testing.T) {
	utc := time.Date(2026, 2, 3, 4, 5, 6, 0, time.UTC)
	far := utc.In(time.FixedZone("far", 5*60*60))
	type node struct {
		At   time.Time
		Next *node
		By   map[string]any
	}
	ring := &node{At: utc}
	ring.Next = ring
	other := &node{At: far}
	other.Next = other
	for name, c := range map[string]struct {
		a, b any
		want bool
	}{
		"the same":         {1, 1, true},
		"types":            {1, int64(1), false},
		"nil":              {nil, nil, true},
		"nil and not":      {nil, 1, false},
		"zones":            {utc, far, true},
		"instants":         {utc, far.Add(1), false},
		"windows":          {streams.Windowed[string]{Key: "k", Start: utc, End: utc}, streams.Windowed[string]{Key: "k", Start: far, End: far}, true},
		"other windows":    {streams.Windowed[string]{Key: "k", Start: utc, End: utc}, streams.Windowed[string]{Key: "l", Start: far, End: far}, false},
		"pointers":         {&node{At: utc}, &node{At: far}, true},
		"deeper":           {&node{Next: &node{At: utc}}, &node{Next: &node{At: far}}, true},
		"slices":           {[]time.Time{utc}, []time.Time{far}, true},
		"lengths":          {[]time.Time{utc}, []time.Time{far, far}, false},
		"nil slice":        {[]time.Time{}, []time.Time(nil), false},
		"maps":             {node{By: map[string]any{"x": utc}}, node{By: map[string]any{"x": far}}, true},
		"other keys":       {map[string]time.Time{"x": utc}, map[string]time.Time{"y": far}, false},
		"NaN":              {math.NaN(), math.NaN(), false},
		"functions":        {[]any{utc, func() {}}, []any{far, func() {}}, false},
		"rings, given up":  {ring, other, false},
		"the same, a ring": {ring, ring, true},
	} {
		if got := equal(c.a, c.b); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
	}
}
