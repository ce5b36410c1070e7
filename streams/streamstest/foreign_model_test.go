package streamstest_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

var (
	pets    = streams.Topic[string, string]{Name: "pets"}
	owners  = streams.Topic[string, string]{Name: "owners"}
	tags    = streams.Topic[string, *string]{Name: "tags"}
	petTags = streams.Store[string, string]{Name: "tagged"}
)

// owner of a pet: what stands before the first ':', none for "-".
func owner(_, pet string) (string, bool) {
	before, _, _ := strings.Cut(pet, ":")
	return before, before != "-"
}

func foreignTopology(t *testing.T, outer, noBuffer bool) *streams.Topology {
	var b streams.Builder
	l := b.Table(pets, streams.Store[string, string]{Name: "pets", NoBuffer: noBuffer})
	r := b.Table(owners, streams.Store[string, string]{Name: "owners", NoBuffer: noBuffer})
	join := func(k, pet string, o *string) (string, error) {
		if o == nil {
			return k + "/" + pet, nil
		}
		return k + "/" + pet + "/" + *o, nil
	}
	var out *streams.KTable[string, string]
	if outer {
		out = l.LeftJoinForeign("of", r, owner, join, petTags)
	} else {
		out = l.JoinForeign("of", r, owner, func(k, pet, o string) (string, error) { return join(k, pet, &o) }, petTags)
	}
	out.To(streams.Topic[string, string]{Name: "tags"})
	return buildOrFatal(t, &b)
}

// foreignModel is what the join has to be, of all rows at once.
func foreignModel(left, right map[string]string, outer bool) map[string]string {
	out := map[string]string{}
	for k, v := range left {
		fk, ok := owner(k, v)
		o, found := right[fk]
		switch {
		case ok && found:
			out[k] = k + "/" + v + "/" + o
		case outer:
			out[k] = k + "/" + v
		}
	}
	return out
}

// 76-80: whatever is done to either table, one after the other or many between two commits, on one partition or on
// eight, the result is the join of the two, in its store and on its topic.
func TestForeignKeyJoinEqualsAModel(t *testing.T) {
	for seed := range uint64(24) {
		outer, partitions, noBuffer := seed%2 == 0, 1+7*int(seed/2%2), seed/4%2 == 0
		t.Run(fmt.Sprintf("seed=%d,outer=%t,partitions=%d,unbuffered=%t", seed, outer, partitions, noBuffer), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 7))
			d := streamstest.New(t, foreignTopology(t, outer, noBuffer))
			d.SetPartitions("pets", partitions)
			d.SetPartitions("owners", 1+r.IntN(partitions))
			d.SetPartitions("tags", 1)
			left, right, topic := map[string]string{}, map[string]string{}, map[string]string{}
			step := func(i int) {
				at := streamstest.At(time.UnixMilli(int64(1000 + i - r.IntN(30))))
				switch k := strconv.Itoa(r.IntN(12)); r.IntN(7) {
				case 0, 1, 2:
					left[k] = []string{"-", "a", "b", "", "ab"}[r.IntN(5)] + ":" + strconv.Itoa(r.IntN(3))
					d.Send(pets, k, left[k], at)
				case 3:
					delete(left, k)
					d.Delete(pets, k, at)
				case 4, 5:
					o := []string{"a", "b", "", "ab"}[r.IntN(4)]
					right[o] = []string{"", "o" + strconv.Itoa(i)}[r.IntN(2)]
					d.Send(owners, o, right[o], at)
				case 6:
					o := []string{"a", "b", "", "ab"}[r.IntN(4)]
					delete(right, o)
					d.Delete(owners, o, at)
				}
			}
			for i := 0; i < 300; i++ {
				if n := r.IntN(6); n > 2 {
					d.Together(func() {
						for range n {
							step(i)
							i++
						}
					})
				}
				step(i)
				if r.IntN(60) == 0 {
					d.Restart()
				}
				got := map[string]string{}
				for _, row := range d.Store(petTags).All() {
					got[row.Key] = row.Value
				}
				for _, rec := range d.Read(tags) {
					if rec.Value == nil {
						delete(topic, rec.Key)
					} else {
						topic[rec.Key] = *rec.Value
					}
				}
				want := foreignModel(left, right, outer)
				if !maps.Equal(got, want) || !maps.Equal(topic, want) {
					t.Fatalf("step %d: store (-want +got):\n%s\ntopic (-want +got):\n%s", i, cmp.Diff(want, got), cmp.Diff(want, topic))
				}
			}
		})
	}
}

// 81: a row written with another schema id is the same row: answers to it count.
func TestForeignKeyJoinLeavesSchemaIDsOut(t *testing.T) {
	var id byte
	framed := &framedSerde{id: &id}
	var b streams.Builder
	l := b.Table(streams.Topic[string, string]{Name: "pets", Value: framed}, streams.Store[string, string]{Name: "pets"})
	r := b.Table(owners, streams.Store[string, string]{Name: "owners"})
	l.JoinForeign("of", r, owner, func(_, pet, o string) (string, error) { return pet + o, nil }, petTags).ToStream()
	d := streamstest.New(t, buildOrFatal(t, &b))
	d.SendRaw("pets", []byte("k"), []byte("\x00\x00\x00\x00\x01a:1"))
	id = 2 // the left side's next encodings of the row have another id
	d.Send(owners, "a", "x")
	if v, _ := d.Store(petTags).Get("k"); v != "a:1x" {
		t.Errorf("the row is %q: the answer was taken for another row's", v)
	}
}
