package streamstest_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams/streamstest"
)

// recorder notes what a check reports.
type recorder struct {
	testing.TB
	failures []string
}

func (r *recorder) Helper() {}

func (r *recorder) Errorf(format string, args ...any) {
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) { r.Errorf(format, args...) }

type average struct {
	Sum, N int64
	last   int64 // not in JSON
}

func key(*rand.Rand) string       { return "k" }
func smallInt(r *rand.Rand) int64 { return r.Int64N(5) }

// averages is a fold that keeps every law.
func averages() streamstest.Fold[string, int64, average] {
	return streamstest.Fold[string, int64, average]{
		Zero:     func() average { return average{} },
		Add:      func(_ string, v int64, a average) (average, error) { return average{Sum: a.Sum + v, N: a.N + 1}, nil },
		Subtract: func(_ string, v int64, a average) (average, error) { return average{Sum: a.Sum - v, N: a.N - 1}, nil },
		Merge:    func(_ string, a, b average) (average, error) { return average{Sum: a.Sum + b.Sum, N: a.N + b.N}, nil },
		Key:      key, Value: smallInt, Serde: serde.JSON[average](),
	}
}

func TestLawsHold(t *testing.T) { averages().Check(t) }

// Each way to break a law is found, and named.
func TestBrokenLawsAreFound(t *testing.T) {
	shared := map[string]int64{}
	calls := 0
	type count = streamstest.Fold[string, int64, map[string]int64]
	add := func(k string, v int64, a map[string]int64) (map[string]int64, error) { a[k] += v; return a, nil }
	for name, c := range map[string]struct {
		check func(t testing.TB)
		want  string
	}{
		"a shared zero": {count{Zero: func() map[string]int64 { return shared }, Add: add, Key: key, Value: smallInt, Serde: serde.JSON[map[string]int64]()}.Check, "Zero begins anew"},
		"a memory": {func(t testing.TB) {
			f := averages()
			f.Add = func(_ string, v int64, a average) (average, error) {
				calls++
				return average{Sum: a.Sum + v*int64(calls%2), N: a.N + 1}, nil
			}
			f.Check(t)
		}, "depends on its arguments alone"},
		"a field that is not stored": {func(t testing.TB) {
			f := averages()
			f.Subtract, f.Merge = nil, nil
			f.Add = func(_ string, v int64, a average) (average, error) {
				return average{Sum: a.Sum + a.last, N: a.N + 1, last: v}, nil
			}
			f.Check(t)
		}, "batching does not matter"},
		"a maximum that cannot be taken back": {func(t testing.TB) {
			f := averages()
			f.Merge = nil
			f.Add = func(_ string, v int64, a average) (average, error) {
				return average{Sum: max(a.Sum, v), N: a.N + 1}, nil
			}
			f.Subtract = func(_ string, _ int64, a average) (average, error) { return average{Sum: a.Sum, N: a.N - 1}, nil }
			f.Check(t)
		}, "Subtract takes back"},
		"a merge that halves": {func(t testing.TB) {
			f := averages()
			f.Merge = func(_ string, a, b average) (average, error) { return average{Sum: (a.Sum + b.Sum) / 2}, nil }
			f.Check(t)
		}, "Merge is associative"},
		"a merge that counts too much": {func(t testing.TB) {
			f := averages()
			f.Merge = func(_ string, a, b average) (average, error) {
				return average{Sum: a.Sum + b.Sum, N: max(a.N, b.N)}, nil
			}
			f.Check(t)
		}, "that of all their values"},
		"a panic": {func(t testing.TB) {
			f := averages()
			f.Subtract = func(_ string, v int64, a average) (average, error) { return average{Sum: 1 / (v - v)}, nil }
			f.Check(t)
		}, "divide by zero"},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{}
			c.check(r)
			if all := strings.Join(r.failures, "\n"); !strings.Contains(all, c.want) {
				t.Errorf("reported %q, want %q", all, c.want)
			} else {
				t.Log(all)
			}
		})
	}
}

// An average that is kept as a number alone forgets how many values it is of.
func ExampleFold() {
	var t testing.TB = &printing{}
	streamstest.Fold[string, int64, int64]{
		Zero:  func() int64 { return 0 },
		Add:   func(_ string, v, avg int64) (int64, error) { return (avg + v) / 2, nil },
		Merge: func(_ string, a, b int64) (int64, error) { return (a + b) / 2, nil },
		Key:   func(*rand.Rand) string { return "k" },
		Value: func(r *rand.Rand) int64 { return 8 * r.Int64N(3) },
	}.Check(t)
	// Output:
	// Merge is associative, and Zero is neutral to it: broken
	// merging two aggregates gives that of all their values: broken
}

// printing stands for a test in an example.
type printing struct{ testing.TB }

func (printing) Helper() {}
func (printing) Errorf(_ string, args ...any) {
	fmt.Printf("%s: broken\n", args[0])
}
