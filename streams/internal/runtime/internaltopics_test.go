package runtime

import (
	"strings"
	"testing"

	"github.com/leatstream/leat/streams/internal/engine"
)

func TestMisfit(t *testing.T) {
	repartition := (&engine.Repartition{}).Config()
	rows := (&engine.StoreSpec{}).Config()
	windows := (&engine.StoreSpec{Kind: engine.Window, RetentionMillis: 1000}).Config()
	for _, c := range []struct {
		name        string
		made, has   map[string]string
		loses, risk string
	}{
		{name: "as made", made: rows, has: rows},
		{name: "windows as made", made: windows, has: windows},
		{name: "repartition as made", made: repartition, has: repartition},
		{name: "not known", made: rows},
		{name: "rows that are deleted", made: rows, has: map[string]string{"cleanup.policy": "delete", "retention.ms": "1"}, loses: "cleanup.policy=compact"},
		{name: "rows that are compacted and deleted", made: rows, has: map[string]string{"cleanup.policy": "compact,delete"}, loses: "cleanup.policy=compact"},
		{name: "windows that go too early", made: windows, has: map[string]string{"cleanup.policy": "compact,delete", "retention.ms": "1000"}, risk: "retention.ms=86401000"},
		{name: "windows that stay longer", made: windows, has: map[string]string{"cleanup.policy": "compact,delete", "retention.ms": "86402000"}},
		{name: "windows that stay", made: windows, has: map[string]string{"cleanup.policy": "compact", "retention.ms": "1"}},
		{name: "a repartition topic that is compacted", made: repartition, has: map[string]string{"cleanup.policy": "compact"}, loses: "cleanup.policy=delete"},
		{name: "a repartition topic with a retention", made: repartition, has: map[string]string{"cleanup.policy": "delete", "retention.ms": "604800000"}, risk: "retention.ms=-1"},
	} {
		loses, risk := misfit(engine.InternalTopic{Name: "t", Config: c.made}, c.has)
		if !strings.Contains(loses, c.loses) || (loses == "") != (c.loses == "") {
			t.Errorf("%s: loses %q, want %q", c.name, loses, c.loses)
		}
		if !strings.Contains(risk, c.risk) || (risk == "") != (c.risk == "") {
			t.Errorf("%s: risk %q, want %q", c.name, risk, c.risk)
		}
	}
}
