package group

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

// group is a group of either protocol, the classic one or that of KIP-848.
type group struct {
	name, kind, state, assignor string
	coordinator                 int32
	members                     []member
	// committed is what the group has committed.
	committed kadm.OffsetResponses
}

type member struct {
	id, client, host string
	instance         *string
	assigned         kadm.TopicsSet
}

// partitions writes what the member is assigned: orders:0,1 stock:2.
func (m member) partitions() []string {
	var all []string
	for _, topic := range slices.Sorted(maps.Keys(m.assigned)) {
		for _, p := range slices.Sorted(maps.Keys(m.assigned[topic])) {
			all = append(all, fmt.Sprintf("%s-%d", topic, p))
		}
	}
	return all
}

// describe asks for a group and its offsets. A group that is not known is an error with the name of one that may be meant.
func describe(ctx context.Context, cl *cli.Cluster, name string) (*group, error) {
	g, err := describeConsumer(ctx, cl, name)
	if g == nil && err == nil {
		g, err = describeClassic(ctx, cl, name)
	}
	if err != nil {
		return nil, fmt.Errorf("group %q: %w", name, err)
	}
	if g.committed, err = cl.Admin.FetchOffsets(ctx, name); err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("offsets of group %q: %w", name, err)
	}
	if g.state == "Dead" && len(g.committed) == 0 {
		all, err := list(ctx, cl, nil)
		if err != nil {
			return nil, err
		}
		var known []string
		for _, other := range all {
			known = append(known, other.Group)
		}
		return nil, cli.NotFound("group", name, known, kerr.GroupIDNotFound)
	}
	return g, nil
}

// describeConsumer describes a group of KIP-848; nil if it is none, or the broker does not know such groups.
func describeConsumer(ctx context.Context, cl *cli.Cluster, name string) (*group, error) {
	described, err := cl.Admin.DescribeConsumerGroups(ctx, name)
	var auth *kadm.AuthError
	if errors.As(err, &auth) {
		return nil, err
	}
	d := described[name]
	if err != nil || d.Err != nil || d.Group == "" {
		return nil, nil // the classic request says what is wrong
	}
	g := &group{name: name, kind: "consumer", state: d.State, assignor: d.AssignorName, coordinator: d.Coordinator.NodeID}
	for _, m := range d.Members {
		g.members = append(g.members, member{id: m.MemberID, client: m.ClientID, host: m.ClientHost, instance: m.InstanceID, assigned: m.Assignment})
	}
	return g, nil
}

func describeClassic(ctx context.Context, cl *cli.Cluster, name string) (*group, error) {
	described, err := cl.Admin.DescribeGroups(ctx, name)
	if err != nil {
		return nil, err
	}
	d := described[name]
	if errors.Is(d.Err, kerr.GroupIDNotFound) {
		return &group{name: name, state: "Dead"}, nil
	}
	if d.Err != nil {
		return nil, cli.WithMessage(d.Err, d.ErrMessage)
	}
	g := &group{name: name, kind: "classic", state: d.State, assignor: d.Protocol, coordinator: d.Coordinator.NodeID}
	for _, m := range d.Members {
		one := member{id: m.MemberID, client: m.ClientID, host: m.ClientHost, instance: m.InstanceID, assigned: kadm.TopicsSet{}}
		if assigned, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range assigned.Topics {
				one.assigned.Add(t.Topic, t.Partitions...)
			}
		}
		g.members = append(g.members, one)
	}
	return g, nil
}

// idle is an error that names a member if there is one.
func (g *group) idle() error {
	if len(g.members) == 0 {
		return nil
	}
	m := g.members[0]
	return fmt.Errorf("group %q is active (%w): %s, one of them %s of client %q at %s. Stop them first: %w", g.name, errHasMembers,
		cli.Count(len(g.members), "member"), m.id, m.client, strings.TrimPrefix(m.host, "/"), cli.NameOnly(kerr.NonEmptyGroup))
}

// lag is how far behind a group is in one partition.
type lag struct {
	topic     string
	partition int32
	committed int64 // -1: nothing
	end       int64
	member    *member
	err       error
}

// behind is the lag, -1 if it is not known.
func (l lag) behind() int64 {
	if l.err != nil || l.committed < 0 {
		return -1
	}
	return max(l.end-l.committed, 0)
}

func (l lag) row(group string) []any {
	row := []any{group, l.topic, l.partition, nil, nil, nil, nil, nil, nil, cli.OrNil(l.err)}
	if l.committed >= 0 {
		row[3] = l.committed
	}
	if l.err == nil {
		row[4] = l.end
	}
	if l.behind() >= 0 {
		row[5] = l.behind()
	}
	if m := l.member; m != nil {
		row[6], row[7], row[8] = m.id, m.host, m.client
	}
	return row
}

func total(lags []lag) int64 {
	sum := int64(0)
	for _, l := range lags {
		sum += max(l.behind(), 0)
	}
	return sum
}

// lags are those of all partitions that are committed or assigned, by topic and partition.
func (g *group) lags(ctx context.Context, cl *cli.Cluster) ([]lag, error) {
	owners := map[string]map[int32]*member{}
	want := g.committed.Partitions()
	for i, m := range g.members {
		for topic, partitions := range m.assigned {
			for p := range partitions {
				if owners[topic] == nil {
					owners[topic] = map[int32]*member{}
				}
				owners[topic][p] = &g.members[i]
				want.Add(topic, p)
			}
		}
	}
	var ends kadm.ListedOffsets
	if len(want) > 0 {
		var err error
		if ends, err = cl.Admin.ListEndOffsets(ctx, slices.Sorted(maps.Keys(want))...); err != nil {
			return nil, err
		}
	}
	var lags []lag
	for _, topic := range slices.Sorted(maps.Keys(want)) {
		for _, p := range slices.Sorted(maps.Keys(want[topic])) {
			l := lag{topic: topic, partition: p, committed: -1, member: owners[topic][p]}
			if o, ok := g.committed.Lookup(topic, p); ok {
				l.committed, l.err = o.At, o.Err
			}
			end, ok := ends.Lookup(topic, p)
			switch {
			case !ok:
				l.err = errors.Join(l.err, fmt.Errorf("%s partition %d: %w", topic, p, kerr.UnknownTopicOrPartition))
			case end.Err != nil:
				l.err = errors.Join(l.err, fmt.Errorf("%s partition %d: %w", topic, p, end.Err))
			default:
				l.end = end.Offset
			}
			lags = append(lags, l)
		}
	}
	return lags, nil
}
