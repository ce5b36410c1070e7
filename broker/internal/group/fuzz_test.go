package group

import (
	"log/slog"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/group/consumer"
)

// Whatever is in the journal, reading it is an error or a state that can be closed again.
func FuzzLoad(f *testing.F) {
	g := newGroup(New(Defaults(slog.New(slog.DiscardHandler), noTopics), &memory{}), "g")
	g.protocolType, g.protocol, g.generation = "consumer", "range", 3
	m := &member{id: "m", sessionTimeout: session, rebalanceTimeout: session, assignment: []byte("a")}
	g.members["m"] = m
	f.Add(groupKey("g"), g.valueLocked(), int64(-1))
	f.Add(offsetKey("g", topicPartition{"in", 1}), offsetValue(committed{offset: 5, expireMs: -1}), int64(7))
	cg, now := consumer.New("g", consumer.Limits{Members: 2}, 1), time.Now()
	join := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	join.Group, join.MemberID, join.SubscribedTopicNames, join.SubscribedTopicRegex = "g", "m", []string{"in"}, kmsg.StringPtr("i.")
	join.InstanceID, join.RackID = kmsg.StringPtr("i"), kmsg.StringPtr("r")
	if _, r := cg.Heartbeat(join, consumer.Client{ID: "c", Host: "h"}, topicsOf(3)(), now); r != nil {
		f.Fatal(r)
	}
	for _, e := range cg.Unsaved() {
		f.Add(e.Key, e.Value, int64(-1))
	}
	f.Fuzz(func(t *testing.T, key, value []byte, producerID int64) {
		c := New(Defaults(slog.New(slog.DiscardHandler), noTopics), &memory{})
		defer c.Close()
		if err := c.load(producerID, 1, key, value); err != nil {
			return
		}
		c.ApplyMarker(producerID, true)
		for _, lg := range c.List(nil, nil) {
			_ = c.Describe(lg.Group, 6)
			_ = c.DescribeConsumer(lg.Group)
		}
		if _, _, err := c.Rewrite(9); err != nil {
			t.Error(err)
		}
	})
}
