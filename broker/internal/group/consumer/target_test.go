package consumer

import (
	"encoding/hex"
	"testing"
	"time"
)

// TestTargetRecord: what Apache Kafka 4.3.1 writes of a target (MessageUtil.toVersionPrefixedByteBuffer), with and without its time.
func TestTargetRecord(t *testing.T) {
	now := time.UnixMilli(1_700_000_000_123)
	for golden, at := range map[string]time.Time{"00000000000700": {}, "0000" + "00000007" + "010008" + "0000018bcfe5687b": now} {
		g := New("g", limits, 6)
		g.epoch, g.limits.Assignment = 7, time.Minute
		g.setTarget(map[string]Assignment{}, at)
		if got := hex.EncodeToString(g.targetValue()); got != golden {
			t.Errorf("%s, want %s", got, golden)
		}
		value := g.targetValue()
		for n := range len(value) {
			_ = New("g", limits, 1).Load(KeyTarget, "", value[:n]) // an error, not a panic
		}
		g = New("g", g.limits, 8)
		if err := g.Load(KeyTarget, "", value); err != nil || g.targetEpoch != 7 || !g.assignedAt.Equal(at) {
			t.Errorf("read: %v, epoch %d at %v", err, g.targetEpoch, g.assignedAt)
		}
		for _, c := range []struct {
			after time.Duration
			want  int32
		}{{time.Minute - time.Second, 7}, {time.Minute, 8}, {-time.Hour, 8}} { // the last: the clock was set back
			g.targetEpoch, g.assignedAt = 7, now
			if g.retarget(now.Add(c.after)); g.targetEpoch != c.want {
				t.Errorf("%v later the target is of epoch %d", c.after, g.targetEpoch)
			}
		}
	}
}
