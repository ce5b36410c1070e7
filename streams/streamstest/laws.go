package streamstest

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/leatstream/leat/serde"
)

// Fold checks that the functions of an aggregate keep the laws that its operator relies on. A function that breaks one
// gives results that depend on when the application commits, how it crashed, or how records were spread: silently, and
// seldom in a test with three records.
//
// What is checked, with random values, short inputs first:
//
//   - Zero begins anew each time: adding to one aggregate does not change the next (a shared map would).
//   - Add depends on its arguments alone: the same values give the same aggregate.
//   - Batching does not matter: an aggregate that is encoded and decoded between two values, as it is between two commits,
//     ends as one that is not. A field that the serde does not write breaks this.
//   - Subtract takes back what Add did, in whatever order rows leave (KGroupedTable).
//   - Merge is associative, Zero is neutral to it, and merging two aggregates gives that of all their values (sessions).
type Fold[K, V, A any] struct {
	Zero func() A
	Add  func(K, V, A) (A, error)
	// Subtract and Merge are left nil where the operator has none.
	Subtract func(K, V, A) (A, error)
	Merge    func(K, A, A) (A, error)

	// Key and Value make arguments. A Value that repeats itself at times finds more.
	Key   func(r *rand.Rand) K
	Value func(r *rand.Rand) V
	// Serde is that of the store; nil: serde.For[A].
	Serde serde.Serde[A]
	// Equal compares aggregates; nil: reflect.DeepEqual of what the serde makes of them.
	Equal func(a, b A) bool
	// Runs is the number of random inputs, 0: 300. Seed makes them others, if it is not 0.
	Runs int
	Seed uint64
}

// Check reports the first counterexample of each law that is broken.
func (f Fold[K, V, A]) Check(t testing.TB) {
	t.Helper()
	if f.Zero == nil || f.Add == nil || f.Key == nil || f.Value == nil {
		t.Fatalf("streamstest: a Fold needs Zero, Add, Key and Value")
		return
	}
	if f.Serde == nil {
		var err error
		if f.Serde, err = serde.For[A](); err != nil {
			t.Fatalf("streamstest: %v", err)
			return
		}
	}
	runs := f.Runs
	if runs == 0 {
		runs = 300
	}
	laws := []struct {
		name string
		has  bool
		law  func(r *rand.Rand, k K, vs []V) (string, error)
	}{
		{"Zero begins anew each time, and Add depends on its arguments alone", true, f.repeats},
		{"batching does not matter", true, f.batches},
		{"Subtract takes back what Add did", f.Subtract != nil, f.inverts},
		{"Merge is associative, and Zero is neutral to it", f.Merge != nil, f.associates},
		{"merging two aggregates gives that of all their values", f.Merge != nil, f.splits},
	}
	for _, l := range laws {
		if !l.has {
			continue
		}
		r := rand.New(rand.NewPCG(f.Seed, 0x1ea7))
		for run := range runs {
			k, vs := f.Key(r), make([]V, 1+run*12/runs)
			for i := range vs {
				vs[i] = f.Value(r)
			}
			text, err := l.law(r, k, vs)
			if err != nil {
				text = err.Error()
			}
			if text != "" {
				t.Errorf("%s: not with key %s and values %s:\n%s", l.name, show(k), showAll(vs), text)
				break
			}
		}
	}
}

func showAll[V any](vs []V) string {
	out := make([]string, len(vs))
	for i, v := range vs {
		out[i] = show(v)
	}
	return "[" + strings.Join(out, ", ") + "]"
}

// fold adds values one after the other. A panic is an error.
func (f Fold[K, V, A]) fold(k K, a A, vs []V) (_ A, err error) {
	defer recovered(&err)
	for _, v := range vs {
		if a, err = f.Add(k, v, a); err != nil {
			return a, fmt.Errorf("add %s to %s: %w", show(v), show(a), err)
		}
	}
	return a, nil
}

func recovered(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("panic: %v", p)
	}
}

// stored is what is read back of an aggregate that was written: a copy.
func (f Fold[K, V, A]) stored(a A) (A, error) {
	b, err := f.Serde.Append([]byte{}, serde.Place{Topic: "law"}, a)
	if err != nil {
		return a, fmt.Errorf("encode %s: %w", show(a), err)
	}
	if b == nil {
		var null A
		return null, nil
	}
	return f.Serde.Decode(serde.Place{Topic: "law"}, b)
}

// compare returns "" if both are one, else what they are.
func (f Fold[K, V, A]) compare(what string, a A, other string, b A) (string, error) {
	equal := f.Equal
	if equal == nil {
		var err error
		if a, err = f.stored(a); err != nil {
			return "", err
		}
		if b, err = f.stored(b); err != nil {
			return "", err
		}
		equal = func(a, b A) bool { return reflect.DeepEqual(a, b) }
	}
	if equal(a, b) {
		return "", nil
	}
	return fmt.Sprintf("  %s: %s\n  %s: %s", what, show(a), other, show(b)), nil
}

func (f Fold[K, V, A]) repeats(_ *rand.Rand, k K, vs []V) (string, error) {
	first, err := f.fold(k, f.Zero(), vs)
	if err != nil {
		return "", err
	}
	if first, err = f.stored(first); err != nil {
		return "", err
	}
	second, err := f.fold(k, f.Zero(), vs)
	if err != nil {
		return "", err
	}
	return f.compare("the first time", first, "the second time", second)
}

func (f Fold[K, V, A]) batches(r *rand.Rand, k K, vs []V) (string, error) {
	whole, err := f.fold(k, f.Zero(), vs)
	if err != nil {
		return "", err
	}
	parts := f.Zero()
	for i := range vs {
		if parts, err = f.fold(k, parts, vs[i:i+1]); err != nil {
			return "", err
		}
		if i == 0 || r.IntN(2) == 0 {
			if parts, err = f.stored(parts); err != nil {
				return "", err
			}
		}
	}
	return f.compare("in one commit", whole, "in several", parts)
}

func (f Fold[K, V, A]) inverts(r *rand.Rand, k K, vs []V) (_ string, err error) {
	defer recovered(&err)
	keep := r.IntN(len(vs)) // how many stay
	order := r.Perm(len(vs))
	got, err := f.fold(k, f.Zero(), vs)
	if err != nil {
		return "", err
	}
	stays := make([]bool, len(vs))
	for _, i := range order[:keep] {
		stays[i] = true
	}
	var gone, left []V
	for _, i := range order[keep:] {
		gone = append(gone, vs[i])
		if got, err = f.Subtract(k, vs[i], got); err != nil {
			return "", fmt.Errorf("subtract %s: %w", show(vs[i]), err)
		}
	}
	for i, v := range vs {
		if stays[i] {
			left = append(left, v)
		}
	}
	want, err := f.fold(k, f.Zero(), left)
	if err != nil {
		return "", err
	}
	return f.compare("all added, then "+showAll(gone)+" subtracted", got, "only "+showAll(left)+" added", want)
}

func (f Fold[K, V, A]) associates(r *rand.Rand, k K, vs []V) (_ string, err error) {
	defer recovered(&err)
	i := r.IntN(len(vs) + 1)
	j := i + r.IntN(len(vs)+1-i)
	part := func(vs []V) A {
		a, ferr := f.fold(k, f.Zero(), vs)
		if ferr != nil && err == nil {
			err = ferr
		}
		return a
	}
	merge := func(a, b A) A {
		out, merr := f.Merge(k, a, b)
		if merr != nil && err == nil {
			err = fmt.Errorf("merge %s and %s: %w", show(a), show(b), merr)
		}
		return out
	}
	x, y, z := vs[:i], vs[i:j], vs[j:]
	left, right := merge(merge(part(x), part(y)), part(z)), merge(part(x), merge(part(y), part(z)))
	if err != nil {
		return "", err
	}
	text, err := f.compare("(a+b)+c", left, "a+(b+c)", right)
	if text != "" || err != nil {
		return text, err
	}
	alone, neutral := part(vs), merge(f.Zero(), part(vs))
	if err != nil {
		return "", err
	}
	return f.compare("a", alone, "zero+a", neutral)
}

func (f Fold[K, V, A]) splits(r *rand.Rand, k K, vs []V) (_ string, err error) {
	defer recovered(&err)
	i := r.IntN(len(vs) + 1)
	all, err := f.fold(k, f.Zero(), vs)
	if err != nil {
		return "", err
	}
	a, err := f.fold(k, f.Zero(), vs[:i])
	if err != nil {
		return "", err
	}
	b, err := f.fold(k, f.Zero(), vs[i:])
	if err != nil {
		return "", err
	}
	merged, err := f.Merge(k, a, b)
	if err != nil {
		return "", err
	}
	return f.compare("all added", all, fmt.Sprintf("the first %d and the rest merged", i), merged)
}
