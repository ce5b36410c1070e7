package runtime

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
)

// ProtocolName is the group protocol of applications, by which their groups are told from others.
const ProtocolName = protocolName

// Member is one worker of an application, as its group knows it.
type Member struct {
	ID         string // group.instance.id
	Instance   string // id of the state directory that it uses
	URL        string // where its instance answers queries; empty: nowhere
	Rack       string
	Host       string
	Client     string // id of its client
	Partitions []string
}

// Members asks the coordinator for the workers of an application, by id, and for the state and the protocol of its group.
// A group that is being rebalanced does not say what its members say of themselves, nor what they have.
func Members(ctx context.Context, admin *kadm.Client, group string) (all []Member, state, protocol string, err error) {
	groups, err := admin.DescribeGroups(ctx, group)
	if err == nil {
		err = groups.Error()
	}
	if err != nil {
		return nil, "", "", fmt.Errorf("describe group %s: %w", group, err)
	}
	g := groups[group]
	for _, m := range g.Members {
		one := Member{ID: m.MemberID, Host: m.ClientHost, Client: m.ClientID}
		if m.InstanceID != nil {
			one.ID = *m.InstanceID
		}
		if meta, ok := m.Join.AsConsumer(); ok {
			if u, err := parseUserData(meta.UserData); err == nil {
				one.Instance, one.URL, one.Rack = u.instance, u.address, u.rack
			}
		}
		if given, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range given.Topics {
				for _, p := range t.Partitions {
					one.Partitions = append(one.Partitions, tp{t.Topic, p}.String())
				}
			}
			slices.Sort(one.Partitions)
		}
		all = append(all, one)
	}
	slices.SortFunc(all, func(a, b Member) int { return cmp.Compare(a.ID, b.ID) })
	return all, g.State, g.Protocol, nil
}

// Addresses finds the instances of an application that answer queries: URLs by ids of state directories. settled says that
// the group is not being rebalanced, which would hide them.
func Addresses(ctx context.Context, admin *kadm.Client, group string) (by map[string]string, settled bool, err error) {
	all, state, _, err := Members(ctx, admin, group)
	by = map[string]string{}
	for _, m := range all {
		if m.URL != "" {
			by[m.Instance] = m.URL
		}
	}
	return by, state == "Stable", err
}

// pulse wakes everyone who waits for something that a commit or a copy's progress may bring.
func (rt *Runtime) pulse() {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.mu.beat != nil {
		close(rt.mu.beat)
		rt.mu.beat = nil
	}
}

// nextPulse returns a channel that is closed at the next pulse.
func (rt *Runtime) nextPulse() <-chan struct{} {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.mu.beat == nil {
		rt.mu.beat = make(chan struct{})
	}
	return rt.mu.beat
}

// until waits until is says so, asking again at every pulse.
func (rt *Runtime) until(ctx context.Context, is func() bool) error {
	for {
		beat := rt.nextPulse()
		if is() {
			return nil
		}
		select {
		case <-beat:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Partitions returns the partitions of a store whose tasks run here, in order; with copies also those that it has copies
// of. Any goroutine may call it.
func (rt *Runtime) Partitions(store string, copies bool) []int32 {
	rt.mu.Lock()
	defer rt.mu.Unlock()
	all := slices.Collect(maps.Keys(rt.mu.shards[store]))
	if copies {
		all = slices.AppendSeq(all, maps.Keys(rt.mu.copies[store]))
	}
	slices.Sort(all)
	return slices.Compact(all)
}
