package group

import (
	"log/slog"
	"testing"
)

// Whatever is in the journal, reading it is an error or a state that can be closed again.
func FuzzLoad(f *testing.F) {
	g := newGroup(New(Defaults(slog.New(slog.DiscardHandler)), &memory{}), "g")
	g.protocolType, g.protocol, g.generation = "consumer", "range", 3
	m := &member{id: "m", sessionTimeout: session, rebalanceTimeout: session, assignment: []byte("a")}
	g.members["m"] = m
	f.Add(groupKey("g"), g.valueLocked(), int64(-1))
	f.Add(offsetKey("g", topicPartition{"in", 1}), offsetValue(committed{offset: 5, expireMs: -1}), int64(7))
	f.Fuzz(func(t *testing.T, key, value []byte, producerID int64) {
		c := New(Defaults(slog.New(slog.DiscardHandler)), &memory{})
		defer c.Close()
		if err := c.load(producerID, 1, key, value); err != nil {
			return
		}
		c.ApplyMarker(producerID, true)
		for _, lg := range c.List(nil, nil) {
			_ = c.Describe(lg.Group, 6)
		}
		if _, _, err := c.Rewrite(9); err != nil {
			t.Error(err)
		}
	})
}
