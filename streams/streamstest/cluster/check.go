package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/registry"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// Check says what is wrong with the outcome of a run, nil if nothing is.
type Check func(*Outcome) error

// Outcome is what the topics hold when everything was processed: committed records alone.
type Outcome struct {
	// T is the test, for a Check that needs one. The Check is to return its error, though: a failure of a further run of a
	// seed must not count.
	T *testing.T
	// Registry is a client that knows every schema which the run has left; nil without Scenario.Registered.
	Registry *registry.Client

	logs map[string][]*kgo.Record
}

// Read returns the records of a topic, of one partition after the other, in the order of offsets. Of a source it is the
// input, as the application has seen it. Null values are left out unless V is nullable.
func (o *Outcome) Read[K, V any](from streams.Topic[K, V]) ([]streams.Record[K, V], error) {
	key, err := orDefault(from.Key)
	if err != nil {
		return nil, err
	}
	value, err := orDefault(from.Value)
	if err != nil {
		return nil, err
	}
	var out []streams.Record[K, V]
	for _, r := range o.logs[from.Name] {
		if r.Value == nil && !serde.IsNullAware(value) {
			continue
		}
		rec := streams.Record[K, V]{Time: r.Timestamp.UTC()}
		if r.Key != nil || serde.IsNullAware(key) {
			if rec.Key, err = key.Decode(serde.Place{Topic: from.Name, Key: true}, r.Key); err != nil {
				return nil, fmt.Errorf("%s/%d at %d: key: %w", r.Topic, r.Partition, r.Offset, err)
			}
		}
		if rec.Value, err = value.Decode(serde.Place{Topic: from.Name}, r.Value); err != nil {
			return nil, fmt.Errorf("%s/%d at %d: value: %w", r.Topic, r.Partition, r.Offset, err)
		}
		for _, h := range r.Headers {
			rec.Headers = append(rec.Headers, streams.Header(h))
		}
		out = append(out, rec)
	}
	return out, nil
}

// Final checks the last value of each key in out. It finds what is lost, and what is counted twice; not what is merely
// written twice, so it is right for at-least-once applications that overwrite, too.
func Final[K comparable, V comparable](out streams.Topic[K, V], want func(*Outcome) (map[K]V, error)) Check {
	return func(o *Outcome) error {
		got := map[K]V{}
		records, err := o.Read(out)
		if err != nil {
			return err
		}
		for _, r := range records {
			got[r.Key] = r.Value
		}
		return compare(o, out.Name, got, want)
	}
}

// Rising checks a topic of values that only grow, such as counts and sums of positive numbers: the last value of each key
// is the one wanted, and each is above the one before it, so that none was written twice.
func Rising[K comparable, V cmp.Ordered](out streams.Topic[K, V], want func(*Outcome) (map[K]V, error)) Check {
	return func(o *Outcome) error {
		got := map[K]V{}
		records, err := o.Read(out)
		if err != nil {
			return err
		}
		for n, r := range records {
			if was, ok := got[r.Key]; ok && r.Value <= was {
				return fmt.Errorf("%s: record %d takes %v from %v to %v: it was written twice, or state went back", out.Name, n, r.Key, was, r.Value)
			}
			got[r.Key] = r.Value
		}
		return compare(o, out.Name, got, want)
	}
}

func compare[K, V comparable](o *Outcome, name string, got map[K]V, want func(*Outcome) (map[K]V, error)) error {
	wanted, err := want(o)
	if err != nil {
		return err
	}
	var wrong []error
	for k, v := range wanted {
		if g, ok := got[k]; !ok {
			wrong = append(wrong, fmt.Errorf("%s: %v is missing, want %v", name, k, v))
		} else if g != v {
			wrong = append(wrong, fmt.Errorf("%s: %v has %v, want %v", name, k, g, v))
		}
	}
	for k, g := range got {
		if _, ok := wanted[k]; !ok {
			wrong = append(wrong, fmt.Errorf("%s: %v has %v, and should not be there", name, k, g))
		}
	}
	return first(wrong)
}

// first shortens a list of errors.
func first(wrong []error) error {
	slices.SortFunc(wrong, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	const most = 10
	if n := len(wrong) - most; n > 0 {
		wrong = append(wrong[:most], fmt.Errorf("and %d more", n))
	}
	return errors.Join(wrong...)
}

// Each checks a topic that has one record for each of those wanted, in any order: for operators without state.
func Each[K, V comparable](out streams.Topic[K, V], want func(*Outcome) ([]streams.Record[K, V], error)) Check {
	type pair struct {
		key   K
		value V
	}
	return func(o *Outcome) error {
		records, err := o.Read(out)
		if err != nil {
			return err
		}
		wanted, err := want(o)
		if err != nil {
			return err
		}
		tally := map[pair]int{}
		for _, r := range wanted {
			tally[pair{r.Key, r.Value}]++
		}
		for _, r := range records {
			tally[pair{r.Key, r.Value}]--
		}
		var wrong []error
		for p, n := range tally {
			if n > 0 {
				wrong = append(wrong, fmt.Errorf("%s: %v: %v is missing %d times", out.Name, p.key, p.value, n))
			} else if n < 0 {
				wrong = append(wrong, fmt.Errorf("%s: %v: %v is there %d times too often", out.Name, p.key, p.value, -n))
			}
		}
		return first(wrong)
	}
}

// Every checks all of them.
func Every(checks ...Check) Check {
	return func(o *Outcome) error {
		var errs []error
		for _, c := range checks {
			errs = append(errs, c(o))
		}
		return errors.Join(errs...)
	}
}

// Oracle makes the table wanted of a run without a cluster: the same input through the same topology in a
// streamstest.Driver. It is right for topologies whose last value of each key does not depend on the order in which records
// of different partitions are processed. Topics are the sources, out is the topic that is read.
func Oracle[K comparable, V any](topology func() (*streams.Topology, error), out streams.Topic[K, V], sources ...string) func(*Outcome) (map[K]V, error) {
	return func(o *Outcome) (map[K]V, error) {
		t, err := topology()
		if err != nil {
			return nil, err
		}
		d := streamstest.New(o.T, t)
		var all []*kgo.Record
		for _, name := range sources {
			all = append(all, o.logs[name]...)
		}
		slices.SortStableFunc(all, func(a, b *kgo.Record) int { return a.Timestamp.Compare(b.Timestamp) })
		for _, r := range all {
			d.SendRaw(r.Topic, r.Key, r.Value, streamstest.At(r.Timestamp))
		}
		want := map[K]V{}
		for _, r := range d.Read(out) {
			want[r.Key] = r.Value
		}
		return want, nil
	}
}

// Tally counts what count says of each record of a topic: the table that a count of it has to give.
func Tally[K, V any, K2 comparable](in streams.Topic[K, V], count func(K, V) []K2) func(*Outcome) (map[K2]int64, error) {
	return func(o *Outcome) (map[K2]int64, error) {
		records, err := o.Read(in)
		if err != nil {
			return nil, err
		}
		want := map[K2]int64{}
		for _, r := range records {
			for _, k := range count(r.Key, r.Value) {
				want[k]++
			}
		}
		return want, nil
	}
}
