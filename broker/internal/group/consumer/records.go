package consumer

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/journal"
	"github.com/leatstream/leat/broker/internal/wire"
)

// Versions of the keys of a group's records in __consumer_offsets, Apache Kafka's. Values are of version 0.
const (
	KeyGroup   = 3 // the group's epoch
	KeyMember  = 5 // who a member is and what it reads
	KeyTarget  = 6 // the target's epoch
	KeyTargets = 7 // a member's target
	KeyCurrent = 8 // a member's epoch, state and assignment
)

// ErrRecord is returned for a record that is not what its key says.
var ErrRecord = errors.New("consumer: record of a group is damaged")

// unsaved is what has changed since it was last written down.
type unsaved struct {
	group, target             bool
	members, targets, current map[string]bool
}

func newUnsaved() unsaved {
	return unsaved{members: map[string]bool{}, targets: map[string]bool{}, current: map[string]bool{}}
}

// Unsaved are the records that say what has changed since Saved was last called; what is gone is a tombstone.
func (g *Group) Unsaved() (entries []journal.Entry) {
	put := func(kind int16, member string, value []byte) {
		entries = append(entries, journal.Entry{Key: key(kind, g.id, member), Value: value})
	}
	for _, id := range slices.Sorted(maps.Keys(g.unsaved.members)) {
		put(KeyMember, id, g.members[id].metadata())
	}
	if g.unsaved.group {
		put(KeyGroup, "", g.value())
	}
	for _, id := range slices.Sorted(maps.Keys(g.unsaved.targets)) {
		var value []byte
		if t, ok := g.target[id]; ok {
			value = append(t.append(wire.AppendInt16(nil, 0), nil), 0)
		}
		put(KeyTargets, id, value)
	}
	if g.unsaved.target {
		put(KeyTarget, "", g.targetValue())
	}
	for _, id := range slices.Sorted(maps.Keys(g.unsaved.current)) {
		put(KeyCurrent, id, g.position(g.members[id]))
	}
	return entries
}

// Saved says that what Unsaved returned is in the journal.
func (g *Group) Saved() { g.unsaved = newUnsaved() }

// SaveAll makes everything unsaved, to be written once more.
func (g *Group) SaveAll() {
	g.unsaved.group, g.unsaved.target = true, true
	for id := range g.members {
		g.unsaved.members[id], g.unsaved.current[id] = true, true
	}
	for id := range g.target {
		g.unsaved.targets[id] = true
	}
}

// Tombstones are the records that delete a group and its members.
func (g *Group) Tombstones() (entries []journal.Entry) {
	for _, id := range slices.Sorted(maps.Keys(g.members)) {
		for _, kind := range []int16{KeyCurrent, KeyTargets, KeyMember} {
			entries = append(entries, journal.Entry{Key: key(kind, g.id, id)})
		}
	}
	return append(entries, journal.Entry{Key: key(KeyTarget, g.id, "")}, journal.Entry{Key: key(KeyGroup, g.id, "")})
}

func key(kind int16, group, member string) []byte {
	k := wire.AppendString(wire.AppendInt16(nil, kind), false, group)
	if kind == KeyMember || kind == KeyTargets || kind == KeyCurrent {
		k = wire.AppendString(k, false, member)
	}
	return k
}

// ParseKey takes the key of a record apart. member is "" for records of the whole group.
func ParseKey(k []byte) (kind int16, group, member string, err error) {
	rd := wire.NewReader(k)
	kind = rd.Int16()
	g, _ := rd.String(false)
	if kind == KeyMember || kind == KeyTargets || kind == KeyCurrent {
		m, _ := rd.String(false)
		member = string(m)
	}
	if rd.Err() != nil {
		return 0, "", "", fmt.Errorf("%w: key: %w", ErrRecord, rd.Err())
	}
	return kind, string(g), member, nil
}

func (g *Group) value() []byte {
	v := wire.AppendInt32(wire.AppendInt16(nil, 0), g.epoch)
	return wire.AppendInt64(append(v, 1, 0, 8), g.hash) // one tagged field, 0, of 8 bytes
}

func (g *Group) targetValue() []byte {
	v := wire.AppendInt32(wire.AppendInt16(nil, 0), g.targetEpoch)
	if g.assignedAt.IsZero() {
		return append(v, 0)
	}
	return wire.AppendInt64(append(v, 1, 0, 8), g.assignedAt.UnixMilli()) // one tagged field, 0, of 8 bytes
}

func appendNullable(dst []byte, s *string) []byte {
	if s == nil {
		return append(dst, 0)
	}
	return wire.AppendString(dst, true, *s)
}

func (m *Member) metadata() []byte {
	if m == nil {
		return nil
	}
	v := appendNullable(wire.AppendInt16(nil, 0), m.instance)
	v = appendNullable(v, m.rack)
	v = wire.AppendString(v, true, m.client.ID)
	v = wire.AppendString(v, true, m.client.Host)
	v = wire.AppendCount(v, true, len(m.names))
	for _, n := range m.names {
		v = wire.AppendString(v, true, n)
	}
	v = appendText(v, m.pattern)
	v = wire.AppendInt32(v, int32(m.patience.Milliseconds()))
	v = appendText(v, m.assignor)
	if m.classic == nil {
		return append(v, 0)
	}
	c := wire.AppendInt32([]byte{1}, int32(m.classic.Session.Milliseconds())) // 1: not null
	c = wire.AppendCount(c, true, len(m.classic.Protocols))
	for _, p := range m.classic.Protocols {
		c = wire.AppendString(c, true, p.Name)
		c = append(append(wire.AppendCount(c, true, len(p.Metadata)), p.Metadata...), 0)
	}
	c = append(c, 0)
	return append(wire.AppendUvarint(append(v, 1, 0), uint32(len(c))), c...) // one tagged field, 0
}

// readClassic reads the tagged field of a classic member.
func readClassic(content []byte) (*Classic, error) {
	rd := wire.NewReader(content)
	if rd.Int8() != 1 {
		return nil, rd.Err()
	}
	c := &Classic{Session: time.Duration(rd.Int32()) * time.Millisecond}
	for n := rd.Count(true, 3); n > 0 && rd.Err() == nil; n-- {
		name := readText(&rd)
		c.Protocols = append(c.Protocols, kmsg.JoinGroupRequestProtocol{Name: name, Metadata: bytes.Clone(rd.Bytes(true))})
		rd.SkipTags()
	}
	if rd.Err() == nil && len(c.Protocols) == 0 {
		return nil, ErrRecord
	}
	return c, rd.Err()
}

// appendText appends a string of which "" is none.
func appendText(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, 0)
	}
	return wire.AppendString(dst, true, s)
}

func (g *Group) position(m *Member) []byte {
	if m == nil {
		return nil
	}
	since := func(p partition) int32 { return g.owners[p].since }
	v := wire.AppendInt32(wire.AppendInt16(nil, 0), m.epoch)
	v = append(wire.AppendInt32(v, m.previous), byte(m.state))
	return append(m.revoking.append(m.assigned.append(v, since), since), 0)
}

// append writes a; since, if it is not nil, says in which epoch a partition was given to the member, which is a tagged field of its topic.
func (a Assignment) append(dst []byte, since func(partition) int32) []byte {
	dst = wire.AppendCount(dst, true, len(a))
	for _, id := range a.topics() {
		dst = wire.AppendCount(append(dst, id[:]...), true, len(a[id]))
		for _, p := range a[id] {
			dst = wire.AppendInt32(dst, p)
		}
		if since == nil {
			dst = append(dst, 0)
			continue
		}
		epochs := wire.AppendCount(nil, true, len(a[id]))
		for _, p := range a[id] {
			epochs = wire.AppendInt32(epochs, since(partition{id, p}))
		}
		dst = append(wire.AppendUvarint(append(dst, 1, 0), uint32(len(epochs))), epochs...)
	}
	return dst
}

// readAssignment reads what append wrote. It calls given for each partition whose epoch is said.
func readAssignment(rd *wire.Reader, given func(p partition, since int32)) Assignment {
	a := Assignment{}
	for n := rd.Count(true, 18); n > 0 && rd.Err() == nil; n-- {
		id := rd.UUID()
		ps := readInts(rd)
		rd.Tags(func(tag uint32, content []byte) {
			if tag != 0 {
				return
			}
			in := wire.NewReader(content)
			for i, since := range readInts(&in) {
				if i < len(ps) {
					given(partition{id, ps[i]}, since)
				}
			}
		})
		if slices.Sort(ps); len(ps) > 0 {
			a[id] = slices.Compact(ps)
		}
	}
	return a
}

func readInts(rd *wire.Reader) []int32 {
	count := rd.Count(true, 4)
	ints := make([]int32, 0, count)
	for range count {
		ints = append(ints, rd.Int32())
	}
	return ints
}

func readText(rd *wire.Reader) string {
	s, _ := rd.String(true)
	return string(s)
}

func readNullable(rd *wire.Reader) *string {
	s, ok := rd.String(true)
	if !ok {
		return nil
	}
	text := string(s)
	return &text
}

// Load takes back a record; value nil is a tombstone. Records come in the order in which they were written; after the last comes
// Resume. A tombstone of KeyGroup ends the group: its owner drops it.
func (g *Group) Load(kind int16, member string, value []byte) error {
	rd := wire.NewReader(value)
	if value != nil {
		if v := rd.Int16(); v != 0 {
			return fmt.Errorf("%w: value of version %d, 0 is known", ErrRecord, v)
		}
	}
	switch kind {
	case KeyGroup:
		g.epoch = rd.Int32()
		rd.Tags(func(tag uint32, content []byte) {
			if tag == 0 {
				h := wire.NewReader(content)
				g.hash = h.Int64()
			}
		})
	case KeyTarget:
		if value != nil {
			g.targetEpoch, g.assignedAt = rd.Int32(), time.Time{}
			rd.Tags(func(tag uint32, content []byte) {
				at := wire.NewReader(content)
				if ms := at.Int64(); tag == 0 && at.Err() == nil && ms > 0 {
					g.assignedAt = time.UnixMilli(ms)
				}
			})
		}
	case KeyMember:
		if err := g.loadMember(member, value, &rd); err != nil {
			return fmt.Errorf("%w: classic member: %w", ErrRecord, err)
		}
	case KeyTargets:
		delete(g.target, member)
		if value != nil { // a member's record may come after its target's
			g.target[member] = readAssignment(&rd, func(partition, int32) {})
		}
	case KeyCurrent:
		if m := g.members[member]; m != nil && value != nil {
			m.epoch, m.previous, m.state = rd.Int32(), rd.Int32(), memberState(rd.Int8())
			since := map[partition]int32{}
			given := func(p partition, epoch int32) { since[p] = epoch }
			assigned, revoking := readAssignment(&rd, given), readAssignment(&rd, given)
			g.move(m, m.state, m.epoch, assigned, revoking)
			for p, epoch := range since {
				if o := g.owners[p]; o.member == member {
					g.owners[p] = owner{member, epoch}
				}
			}
		}
	}
	g.unsaved = newUnsaved()
	if value != nil && rd.Err() != nil {
		return fmt.Errorf("%w: value of key version %d: %w", ErrRecord, kind, rd.Err())
	}
	return nil
}

func (g *Group) loadMember(id string, value []byte, rd *wire.Reader) (err error) {
	m := g.members[id]
	if value == nil {
		if m != nil {
			target, had := g.target[id] // its own tombstone comes, or has come
			g.remove(m)
			if had {
				g.target[id] = target
			}
		}
		return nil
	}
	if m == nil {
		m = &Member{id: id, assigned: Assignment{}, revoking: Assignment{}}
		g.members[id] = m
	}
	m.instance, m.rack = readNullable(rd), readNullable(rd)
	m.client = Client{ID: readText(rd), Host: readText(rd)}
	n := rd.Count(true, 1)
	m.names = make([]string, 0, n)
	for range n {
		m.names = append(m.names, readText(rd))
	}
	m.pattern = readText(rd)
	m.patience = time.Duration(rd.Int32()) * time.Millisecond
	m.assignor = readText(rd)
	m.classic = nil
	rd.Tags(func(tag uint32, content []byte) {
		if tag == 0 {
			m.classic, err = readClassic(content)
		}
	})
	if m.instance != nil {
		g.statics[*m.instance] = id
	}
	return err
}
