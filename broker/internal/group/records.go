package group

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/group/consumer"
	"github.com/leatstream/leat/broker/internal/journal"
)

// Versions of the records in __consumer_offsets that are written, Apache Kafka's. docs/format/offsets.md describes them.
const (
	offsetKeyVersion   = 1
	offsetValueVersion = 3
	groupKeyVersion    = 2
	groupValueVersion  = 3
)

// topicPartition is what offsets are committed for.
type topicPartition struct {
	topic     string
	partition int32
}

// committed is one committed offset.
type committed struct {
	offset      int64
	leaderEpoch int32
	metadata    string
	commitMs    int64
	// expireMs is the client's own retention (OffsetCommit v2 to v4), -1 for the group's.
	expireMs int64
	// at is the journal offset of its record: of a plain and a transactional commit the later one in the journal wins,
	// whichever becomes visible last.
	at int64
}

func offsetKey(group string, tp topicPartition) []byte {
	k := kmsg.NewOffsetCommitKey()
	k.Version, k.Group, k.Topic, k.Partition = offsetKeyVersion, group, tp.topic, tp.partition
	return k.AppendTo(nil)
}

func offsetValue(o committed) []byte {
	v := kmsg.NewOffsetCommitValue()
	v.Version = offsetValueVersion
	if o.expireMs >= 0 {
		v.Version = 1 // the one version that has it
	}
	v.Offset, v.LeaderEpoch, v.Metadata = o.offset, o.leaderEpoch, o.metadata
	v.CommitTimestamp, v.ExpireTimestamp = o.commitMs, o.expireMs
	return v.AppendTo(nil)
}

func groupKey(group string) []byte {
	k := kmsg.NewGroupMetadataKey()
	k.Version, k.Group = groupKeyVersion, group
	return k.AppendTo(nil)
}

func (g *group) valueLocked() []byte {
	v := kmsg.NewGroupMetadataValue()
	v.Version = groupValueVersion
	v.ProtocolType, v.Generation = g.protocolType, g.generation
	if g.protocol != "" {
		v.Protocol = &g.protocol
	}
	if g.leader != "" {
		v.Leader = &g.leader
	}
	v.CurrentStateTimestamp = g.since.UnixMilli()
	for _, m := range g.sortedLocked() {
		vm := kmsg.NewGroupMetadataValueMember()
		vm.MemberID, vm.InstanceID = m.id, m.instance
		vm.ClientID, vm.ClientHost = m.client.ID, m.client.Host
		vm.RebalanceTimeoutMillis = int32(m.rebalanceTimeout.Milliseconds())
		vm.SessionTimeoutMillis = int32(m.sessionTimeout.Milliseconds())
		vm.Subscription = m.metadataFor(g.protocol)
		vm.Assignment = m.assignment
		if vm.Assignment == nil {
			vm.Assignment = []byte{}
		}
		v.Members = append(v.Members, vm)
	}
	return v.AppendTo(nil)
}

// persistLocked writes the group's metadata: members, generation, assignments.
func (g *group) persistLocked() error {
	end, err := g.append([]journal.Entry{{Key: groupKey(g.id), Value: g.valueLocked()}})
	if err == nil {
		g.storedAt = end - 1
	}
	return err
}

// Visitor takes the journal's records back at start, before Start. Nothing else may run meanwhile.
func (c *Coordinator) Visitor() journal.Visitor {
	return journal.Visitor{
		Record: c.load,
		Marker: func(producerID int64, commit bool) error {
			c.ApplyMarker(producerID, commit)
			return nil
		},
	}
}

// load takes one record. Key versions it does not know are other programs' and are skipped.
func (c *Coordinator) load(producerID, offset int64, key, value []byte) error {
	if len(key) < 2 {
		return fmt.Errorf("offsets record at %d: key of %d bytes has no version", offset, len(key))
	}
	switch v := int16(binary.BigEndian.Uint16(key)); {
	case v >= 0 && v <= offsetKeyVersion:
		return c.loadOffset(producerID, offset, key, value)
	case v == groupKeyVersion:
		return c.loadGroup(offset, key, value)
	case v >= consumer.KeyGroup && v <= consumer.KeyCurrent:
		return c.loadConsumer(key, value)
	default:
		return nil
	}
}

func (c *Coordinator) loadOffset(producerID, offset int64, key, value []byte) error {
	k := kmsg.NewOffsetCommitKey()
	if err := k.ReadFrom(key); err != nil {
		return fmt.Errorf("offsets record at %d: key: %w", offset, err)
	}
	tp := topicPartition{k.Topic, k.Partition}
	g, kerror := c.lock(k.Group, true)
	if kerror != nil {
		return kerror
	}
	defer g.mu.Unlock()
	if value == nil {
		g.dropOffsetLocked(tp)
		g.c.loadedTombstone(g)
		return nil
	}
	v := kmsg.NewOffsetCommitValue()
	if err := v.ReadFrom(value); err != nil {
		return fmt.Errorf("offsets record at %d: value: %w", offset, err)
	}
	o := committed{offset: v.Offset, leaderEpoch: -1, metadata: v.Metadata, commitMs: v.CommitTimestamp, expireMs: -1, at: offset}
	if v.Version >= 3 {
		o.leaderEpoch = v.LeaderEpoch
	}
	if v.Version == 1 {
		o.expireMs = v.ExpireTimestamp
	}
	if producerID >= 0 {
		c.noteOpen(producerID, g.id)
		g.addPendingLocked(producerID, tp, o)
		return nil
	}
	g.offsets[tp] = o
	return nil
}

// loadedTombstone forgets a group of which nothing is left.
func (c *Coordinator) loadedTombstone(g *group) {
	if len(g.offsets) == 0 && len(g.pending) == 0 && len(g.members) == 0 && g.generation == 0 && g.consumer == nil {
		c.buryLocked(g)
	}
}

func (c *Coordinator) loadGroup(offset int64, key, value []byte) error {
	k := kmsg.NewGroupMetadataKey()
	if err := k.ReadFrom(key); err != nil {
		return fmt.Errorf("group record at %d: key: %w", offset, err)
	}
	g, kerror := c.lock(k.Group, true)
	if kerror != nil {
		return kerror
	}
	defer g.mu.Unlock()
	g.members, g.statics = map[string]*member{}, map[string]string{}
	g.storedAt = offset
	if value == nil {
		g.storedAt = -1
		g.generation, g.protocolType, g.protocol, g.leader = 0, "", "", ""
		g.toLocked(stateEmpty)
		c.loadedTombstone(g)
		return nil
	}
	v := kmsg.NewGroupMetadataValue()
	if err := v.ReadFrom(value); err != nil {
		return fmt.Errorf("group record at %d: value: %w", offset, err)
	}
	g.generation, g.protocolType, g.protocol, g.leader = v.Generation, v.ProtocolType, "", ""
	if v.Protocol != nil {
		g.protocol = *v.Protocol
	}
	if v.Leader != nil {
		g.leader = *v.Leader
	}
	for i := range v.Members {
		g.loadMember(&v.Members[i])
	}
	g.state = stateEmpty
	if len(g.members) > 0 {
		g.state = stateStable
	}
	g.since = time.Now()
	if v.Version >= 2 && v.CurrentStateTimestamp >= 0 {
		g.since = time.UnixMilli(v.CurrentStateTimestamp)
	}
	return nil
}

func (g *group) loadMember(vm *kmsg.GroupMetadataValueMember) {
	m := &member{
		id: vm.MemberID, instance: vm.InstanceID, client: Client{ID: vm.ClientID, Host: vm.ClientHost},
		sessionTimeout:   time.Duration(vm.SessionTimeoutMillis) * time.Millisecond,
		rebalanceTimeout: time.Duration(vm.RebalanceTimeoutMillis) * time.Millisecond,
		protocolType:     g.protocolType,
		assignment:       append([]byte{}, vm.Assignment...),
		synced:           true,
	}
	if m.rebalanceTimeout <= 0 {
		m.rebalanceTimeout = m.sessionTimeout
	}
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = g.protocol, append([]byte{}, vm.Subscription...)
	m.protocols = []kmsg.JoinGroupRequestProtocol{p}
	g.members[m.id] = m
	if m.instance != nil {
		g.statics[*m.instance] = m.id
	}
}

// Start begins the sessions of the members that were played back, and the expiry of old offsets.
func (c *Coordinator) Start() {
	for _, g := range c.all() {
		g.mu.Lock()
		for _, m := range g.members {
			g.touchLocked(m)
		}
		if g.consumer != nil {
			g.consumer.Resume(time.Now())
			g.armConsumerLocked()
		}
		g.mu.Unlock()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed.Load() {
		return
	}
	c.mu.expiry = time.AfterFunc(c.cfg.ExpiryInterval, c.expireAndRearm)
}
