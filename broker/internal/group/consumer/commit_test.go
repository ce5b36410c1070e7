package consumer

import (
	"encoding/hex"
	"iter"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/leatstream/leat/broker/internal/wire"
)

// position is what Apache Kafka 4.3.1 writes (MessageUtil.toVersionPrefixedByteBuffer) for a member in epoch 3, before in 2, that has partitions 0
// and 1 of a topic since epochs 1 and 3 and has to give up partition 2, which it has since epoch 1.
const position = "000000000003000000020102" +
	"6900000000000000000000000000000003000000000000000101000903000000010000000302" +
	"690000000000000000000000000000000200000002010005020000000100"

// TestCommitsOfOlderEpochs: KIP-1251. A member may commit with an epoch that it has left, for what it holds since then, also what it has to give up.
func TestCommitsOfOlderEpochs(t *testing.T) {
	value, err := hex.DecodeString(position)
	if err != nil {
		t.Fatal(err)
	}
	g, c := New("g", limits, 3), &cluster{map[string]int32{"i": 4}}
	m := &Member{names: []string{"i"}}
	if err := g.Load(KeyMember, "m", m.metadata()); err != nil {
		t.Fatal(err)
	}
	if err := g.Load(KeyCurrent, "m", value); err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(g.position(g.members["m"])); got != position {
		t.Errorf("written again:\n%s\nwant\n%s", got, position)
	}
	of := func(topic string, partitions ...int32) iter.Seq2[string, int32] {
		return func(yield func(string, int32) bool) {
			for _, p := range partitions {
				if !yield(topic, p) {
					return
				}
			}
		}
	}
	stale := kerr.StaleMemberEpoch
	for _, test := range []struct {
		what       string
		member     string
		epoch      int32
		partitions iter.Seq2[string, int32]
		want       *kerr.Error
	}{
		{"its own epoch", "m", 3, of("i", 0, 1, 2, 3), nil},
		{"since epoch 1", "m", 1, of("i", 0), nil},
		{"since epoch 1, to be given up", "m", 2, of("i", 0, 2), nil},
		{"one of them since epoch 3", "m", 2, of("i", 0, 1), stale},
		{"before it had it", "m", 0, of("i", 0), stale},
		{"not its own", "m", 2, of("i", 3), stale},
		{"of a topic that is gone", "m", 2, of("gone", 0), stale},
		{"an epoch to come", "m", 4, of("i", 0), stale},
		{"a stranger", "x", 1, of("i", 0), kerr.UnknownMemberID},
	} {
		if err := g.CheckCommit(test.member, test.epoch, test.partitions, c); err != test.want {
			t.Errorf("%s: %v, want %v", test.what, err, test.want)
		}
	}
}

// TestPositionsWithoutEpochs: records from before KIP-1251 do not say since when; it is then the member's epoch.
func TestPositionsWithoutEpochs(t *testing.T) {
	g := New("g", limits, 3)
	if err := g.Load(KeyMember, "m", (&Member{names: []string{"i"}}).metadata()); err != nil {
		t.Fatal(err)
	}
	v := wire.AppendInt32(wire.AppendInt32(wire.AppendInt16(nil, 0), 3), 2)
	v = Assignment{}.append(Assignment{id("i"): {0, 1}}.append(append(v, 0), nil), nil)
	if err := g.Load(KeyCurrent, "m", append(v, 0)); err != nil {
		t.Fatal(err)
	}
	if o := g.owners[partition{id("i"), 1}]; o != (owner{"m", 3}) {
		t.Errorf("%+v", o)
	}
}
