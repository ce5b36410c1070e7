package streamstest

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/leatstream/leat/streams"
	"github.com/twmb/franz-go/pkg/kgo"
)

// KV is a record to be expected. It takes the options of Send: At and Headers are compared where they are given, and left
// aside where not.
func KV[K, V any](key K, value V, opts ...Option) streams.Record[K, V] {
	var r kgo.Record
	for _, o := range opts {
		o(&r)
	}
	out := streams.Record[K, V]{Key: key, Value: value}
	if !r.Timestamp.IsZero() {
		out.Time = r.Timestamp.Truncate(time.Millisecond).UTC()
	}
	for _, h := range r.Headers {
		out.Headers = append(out.Headers, streams.Header(h))
	}
	return out
}

// Expect compares what was written to a topic since it was last read with want, record for record, and reports every
// difference. Without want it expects nothing. A record without a Time or without Headers agrees with any. Keys and values are
// compared as reflect.DeepEqual does, but for times, which are equal if they are the same instant, whatever the zone.
func (d *Driver) Expect[K, V any](from streams.Topic[K, V], want ...streams.Record[K, V]) {
	d.t.Helper()
	if text := differences(d.Read(from), want, sameRecord, showRecord[K, V]); text != "" {
		d.t.Errorf("topic %q (- wanted, + there):\n%s", from.Name, text)
	}
}

// ExpectInAnyOrder is Expect, but for the order: for what comes from several partitions.
func (d *Driver) ExpectInAnyOrder[K, V any](from streams.Topic[K, V], want ...streams.Record[K, V]) {
	d.t.Helper()
	if text := missing(d.Read(from), want, sameRecord, showRecord[K, V]); text != "" {
		d.t.Errorf("topic %q (- wanted, + there):\n%s", from.Name, text)
	}
}

// Expect compares the rows of the store with want, in any order. A row without a Time agrees with any.
func (s *KeyValue[K, V]) Expect(want ...Row[K, V]) {
	s.d.t.Helper()
	expectRows(s.d, s.parts[0].Name(), s.All(), want)
}

// Expect compares the rows of the store with want, in any order. A row without a Time agrees with any.
func (s *Window[K, V]) Expect(want ...Row[streams.Windowed[K], V]) {
	s.d.t.Helper()
	expectRows(s.d, s.parts[0].Name(), s.All(), want)
}

// Expect compares the rows of the store with want, in any order. A row without a Time agrees with any.
func (s *Session[K, V]) Expect(want ...Row[streams.Windowed[K], V]) {
	s.d.t.Helper()
	expectRows(s.d, s.parts[0].Name(), s.All(), want)
}

func expectRows[K, V any](d *Driver, store string, got, want []Row[K, V]) {
	d.t.Helper()
	same := func(got, want Row[K, V]) bool {
		return equal(got.Key, want.Key) && equal(got.Value, want.Value) && (want.Time.IsZero() || got.Time.Equal(want.Time))
	}
	show := func(r Row[K, V]) string { return showKV(r.Key, r.Value, r.Time, nil) }
	if text := missing(got, want, same, show); text != "" {
		d.t.Errorf("store %q (- wanted, + there):\n%s", store, text)
	}
}

func sameRecord[K, V any](got, want streams.Record[K, V]) bool {
	return equal(got.Key, want.Key) && equal(got.Value, want.Value) &&
		(want.Time.IsZero() || got.Time.Equal(want.Time)) && (want.Headers == nil || reflect.DeepEqual(got.Headers, want.Headers))
}

func showRecord[K, V any](r streams.Record[K, V]) string {
	return showKV(r.Key, r.Value, r.Time, r.Headers)
}

func showKV(k, v any, at time.Time, headers []streams.Header) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s = %s", show(k), show(v))
	if !at.IsZero() {
		fmt.Fprintf(&b, " at %s", at.UTC().Format("2006-01-02T15:04:05.000Z"))
	}
	for _, h := range headers {
		fmt.Fprintf(&b, " [%s: %q]", h.Key, h.Value)
	}
	return b.String()
}

// show writes a key or a value; of a pointer what it points to.
func show(v any) string {
	switch r := reflect.ValueOf(v); {
	case !r.IsValid():
		return "null"
	case r.Kind() == reflect.Pointer && r.IsNil():
		return "null"
	case r.Kind() == reflect.Pointer:
		return show(r.Elem().Interface())
	case r.Kind() == reflect.String:
		return fmt.Sprintf("%q", v)
	}
	if b, ok := v.([]byte); ok {
		return fmt.Sprintf("%q", b)
	}
	return fmt.Sprintf("%+v", v)
}

// differences lists both in order, with a mark at what is in one only; "" if they agree. It looks for the longest common
// run, so that one record too many does not spoil all that follow.
func differences[T any](got, want []T, same func(got, want T) bool, show func(T) string) string {
	common := make([][]int, len(want)+1) // by what is left of each: how much agrees
	for i := range common {
		common[i] = make([]int, len(got)+1)
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(got) - 1; j >= 0; j-- {
			if same(got[j], want[i]) {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	if len(got) == len(want) && common[0][0] == len(want) {
		return ""
	}
	var b strings.Builder
	i, j := 0, 0
	for i < len(want) || j < len(got) {
		switch {
		case i < len(want) && j < len(got) && same(got[j], want[i]):
			fmt.Fprintf(&b, "    %s\n", show(got[j]))
			i, j = i+1, j+1
		case i < len(want) && (j == len(got) || common[i+1][j] >= common[i][j+1]):
			fmt.Fprintf(&b, "  - %s\n", show(want[i]))
			i++
		default:
			fmt.Fprintf(&b, "  + %s\n", show(got[j]))
			j++
		}
	}
	return b.String()
}

// missing lists what is in one of them only, in whatever order; "" if there is nothing.
func missing[T any](got, want []T, same func(got, want T) bool, show func(T) string) string {
	var b strings.Builder
	taken := make([]bool, len(got))
next:
	for _, w := range want {
		for j, g := range got {
			if !taken[j] && same(g, w) {
				taken[j] = true
				continue next
			}
		}
		fmt.Fprintf(&b, "  - %s\n", show(w))
	}
	for j, g := range got {
		if !taken[j] {
			fmt.Fprintf(&b, "  + %s\n", show(g))
		}
	}
	return b.String()
}
