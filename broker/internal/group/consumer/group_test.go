package consumer

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// cluster is topics by name with their partitions; an id is the name's first bytes.
type cluster struct{ parts map[string]int32 }

func id(name string) (id TopicID) { copy(id[:], name); return id }

func (c *cluster) Topic(name string) (Topic, bool) {
	n, ok := c.parts[name]
	return Topic{name, id(name), n}, ok
}

func (c *cluster) TopicByID(id TopicID) (Topic, bool) {
	return c.Topic(strings.TrimRight(string(id[:]), "\x00"))
}

func (c *cluster) Names(f func(name string)) {
	for n := range c.parts {
		f(n)
	}
}

var limits = Limits{Session: 45 * time.Second, Heartbeat: 5 * time.Second, Members: 100}

// text is an assignment as "in:0,1 out:3".
func (a Assignment) text() string {
	var ts []string
	for _, t := range a.topics() {
		ps := strings.Trim(strings.ReplaceAll(fmt.Sprint(a[t]), " ", ","), "[]")
		ts = append(ts, strings.TrimRight(string(t[:]), "\x00")+":"+ps)
	}
	return strings.Join(ts, " ")
}

// fake is a member as a client plays it.
type fake struct {
	id, instance, pattern, assignor string
	topics                          []string
	epoch                           int32
	owned                           Assignment
	classic                         bool // of the classic protocol, cooperative
	unanswered                      bool // its last JoinGroup; it joins again
}

// request is a full heartbeat.
func (m *fake) request() *kmsg.ConsumerGroupHeartbeatRequest {
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.MemberEpoch, req.RebalanceTimeoutMillis = 1, "g", m.id, m.epoch, 60_000
	req.SubscribedTopicNames = m.topics
	if m.instance != "" {
		req.InstanceID = &m.instance
	}
	if m.pattern != "" {
		req.SubscribedTopicRegex = &m.pattern
	}
	if m.assignor != "" {
		req.ServerAssignor = &m.assignor
	}
	req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	for _, t := range m.owned.topics() {
		req.Topics = append(req.Topics, kmsg.ConsumerGroupHeartbeatRequestTopic{TopicID: t, Partitions: m.owned[t]})
	}
	return req
}

// beat sends a heartbeat and takes over what it brings.
func (m *fake) beat(g *Group, c Cluster, now time.Time) *Refusal {
	req := m.request()
	if r := CheckRequest(req); r != nil {
		return r
	}
	resp, r := g.Heartbeat(req, Client{"c", "/h"}, c, now)
	if r != nil {
		return r
	}
	m.epoch = resp.MemberEpoch
	if resp.Assignment != nil {
		m.owned = Assignment{}
		for _, t := range resp.Assignment.Topics {
			m.owned[t.TopicID] = t.Partitions
		}
	}
	return nil
}

// settle sends heartbeats until nothing changes.
func settle(t testing.TB, g *Group, c Cluster, members ...*fake) {
	t.Helper()
	for range 20 {
		for _, m := range members {
			if r := m.beat(g, c, time.Now()); r != nil {
				t.Fatalf("%s: %v: %s", m.id, r.Code, r.Text)
			}
		}
		if g.State() == stateStable {
			return
		}
	}
	t.Fatalf("the group is %s after 20 heartbeats of each", g.State())
}

func TestAssignors(t *testing.T) {
	for _, c := range []struct {
		name     string
		topics   map[string]int32
		members  []*fake
		expected string
	}{
		{"uniform", map[string]int32{"t": 4, "u": 3}, []*fake{{id: "a", topics: []string{"t", "u"}}, {id: "b", topics: []string{"t", "u"}}},
			"a=t:0 u:0,1,2 b=t:1,2,3"},
		{"uniform, different subscriptions", map[string]int32{"t": 2, "u": 4}, []*fake{{id: "a", topics: []string{"t", "u"}}, {id: "b", topics: []string{"u"}}},
			"a=t:0,1 u:0 b=u:1,2,3"},
		{"range", map[string]int32{"t": 5, "u": 5}, []*fake{{id: "a", topics: []string{"t", "u"}, assignor: Range}, {id: "b", topics: []string{"t", "u"}}},
			"a=t:0,1,2 u:0,1,2 b=t:3,4 u:3,4"},
		{"range, static members first by instance", map[string]int32{"t": 3}, []*fake{{id: "a", instance: "2", topics: []string{"t"}, assignor: Range}, {id: "b", instance: "1", topics: []string{"t"}}},
			"a=t:2 b=t:0,1"},
		{"pattern", map[string]int32{"t1": 1, "t2": 1, "xt1": 1}, []*fake{{id: "a", pattern: "t."}}, "a=t1:0 t2:0"},
		{"pattern and name", map[string]int32{"t1": 1, "x": 1}, []*fake{{id: "a", pattern: "t.", topics: []string{"x"}}}, "a=t1:0 x:0"},
		{"no such topic", map[string]int32{}, []*fake{{id: "a", topics: []string{"t"}}}, "a="},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := New("g", limits, 0)
			settle(t, g, &cluster{c.topics}, c.members...)
			var got []string
			for _, m := range c.members {
				got = append(got, m.id+"="+m.owned.text())
			}
			if s := strings.Join(got, " "); s != c.expected {
				t.Fatalf("%s, want %s", s, c.expected)
			}
		})
	}
}

func TestAnotherAssignorIsAReasonToRebalance(t *testing.T) {
	g, m := New("g", limits, 0), &fake{id: "a", topics: []string{"t"}}
	settle(t, g, &cluster{map[string]int32{"t": 1}}, m)
	epoch := g.Epoch()
	m.assignor = Range
	settle(t, g, &cluster{map[string]int32{"t": 1}}, m)
	if g.Epoch() != epoch+1 {
		t.Fatalf("epoch %d after %d", g.Epoch(), epoch)
	}
}

func TestPatternMeetsNewTopics(t *testing.T) {
	g, m := New("g", limits, 0), &fake{id: "a", pattern: "in-.*"}
	settle(t, g, &cluster{map[string]int32{"in-1": 1}}, m)
	epoch := g.Epoch()
	settle(t, g, &cluster{map[string]int32{"in-1": 1, "out": 1}}, m)
	if g.Epoch() != epoch {
		t.Fatal("a topic that nobody reads made a new epoch")
	}
	settle(t, g, &cluster{map[string]int32{"in-1": 1, "in-2": 2, "out": 1}}, m)
	if s := m.owned.text(); s != "in-1:0 in-2:0,1" {
		t.Fatal(s)
	}
	settle(t, g, &cluster{map[string]int32{"in-2": 2}}, m) // one is deleted
	if s := m.owned.text(); s != "in-2:0,1" {
		t.Fatal(s)
	}
	m.pattern = "("
	if r := m.beat(g, g.cluster, time.Now()); r == nil || r.Code != kerr.InvalidRegularExpression {
		t.Fatal(r)
	}
}

func TestStaticMembersOfConsumerGroups(t *testing.T) {
	g, c := New("g", limits, 0), &cluster{map[string]int32{"t": 4}}
	a, b := &fake{id: "a", instance: "1", topics: []string{"t"}}, &fake{id: "b", instance: "2", topics: []string{"t"}}
	settle(t, g, c, a, b)
	epoch, had := g.Epoch(), a.owned.text()
	twin := &fake{id: "a2", instance: "1", topics: []string{"t"}}
	if r := twin.beat(g, c, time.Now()); r == nil || r.Code != kerr.UnreleasedInstanceID {
		t.Fatal(r)
	}
	bye := a.request()
	bye.MemberEpoch = -2
	if resp, r := g.Heartbeat(bye, Client{}, c, time.Now()); r != nil || resp.MemberEpoch != -2 {
		t.Fatal(resp, r)
	}
	if r := twin.beat(g, c, time.Now()); r != nil {
		t.Fatal(r)
	}
	if g.Epoch() != epoch || twin.owned.text() != had || twin.epoch != epoch {
		t.Fatalf("epoch %d after %d, %s after %s: back at %d", g.Epoch(), epoch, twin.owned.text(), had, twin.epoch)
	}
	if r := a.beat(g, c, time.Now()); r == nil || r.Code != kerr.FencedInstanceID {
		t.Fatal(r)
	}
	bye = twin.request()
	bye.MemberEpoch = -2
	if _, r := g.Heartbeat(bye, Client{}, c, time.Now()); r != nil {
		t.Fatal(r)
	}
	later := time.Now().Add(limits.Session + time.Second)
	b.epoch = g.members["b"].epoch
	if r := b.beat(g, c, later.Add(-2*time.Second)); r != nil {
		t.Fatal(r)
	}
	if gone := g.Expire(c, later); len(gone) != 1 || gone[0] != "a2" {
		t.Fatal(gone)
	}
}

func TestRequestsThatAreWrong(t *testing.T) {
	good := func() *kmsg.ConsumerGroupHeartbeatRequest { return (&fake{id: "a", topics: []string{"t"}}).request() }
	for name, change := range map[string]func(r *kmsg.ConsumerGroupHeartbeatRequest){
		"no group":       func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.Group = "" },
		"no member":      func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.MemberID = "" },
		"empty instance": func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.InstanceID = new(string) },
		"empty rack":     func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.RackID = new(string) },
		"epoch":          func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.MemberEpoch = -3 },
		"no instance":    func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.MemberEpoch = -2 },
		"assignor":       func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.ServerAssignor = kmsg.StringPtr("x") },
		"no timeout":     func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.RebalanceTimeoutMillis = -1 },
		"says nothing":   func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.Topics = nil },
		"has partitions": func(r *kmsg.ConsumerGroupHeartbeatRequest) {
			r.Topics = make([]kmsg.ConsumerGroupHeartbeatRequestTopic, 1)
		},
		"reads nothing": func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.SubscribedTopicNames = nil },
	} {
		req := good()
		if CheckRequest(req) != nil {
			t.Fatal("the good one is wrong")
		}
		change(req)
		if CheckRequest(req) == nil {
			t.Errorf("%s: passes", name)
		}
	}
}

func TestMembersMayReadNothing(t *testing.T) {
	for name, change := range map[string]func(r *kmsg.ConsumerGroupHeartbeatRequest){
		"no topics": func(r *kmsg.ConsumerGroupHeartbeatRequest) { r.SubscribedTopicNames = []string{} },
		"no pattern": func(r *kmsg.ConsumerGroupHeartbeatRequest) {
			r.SubscribedTopicNames, r.SubscribedTopicRegex = nil, new(string)
		},
	} {
		req := (&fake{id: "a", topics: []string{"t"}}).request()
		change(req)
		if r := CheckRequest(req); r != nil {
			t.Fatalf("%s: %s", name, r.Text)
		}
		g, c := New("g", limits, 0), &cluster{map[string]int32{"t": 2}}
		resp, r := g.Heartbeat(req, Client{}, c, time.Now())
		if r != nil || resp.MemberEpoch != 1 || resp.Assignment == nil || len(resp.Assignment.Topics) != 0 {
			t.Errorf("%s: %+v, %+v", name, resp, r)
		}
		if d := g.Describe(c).Members[0]; d.SubscribedTopicRegex == nil || *d.SubscribedTopicRegex != "" {
			t.Errorf("%s: described with the pattern %v", name, d.SubscribedTopicRegex)
		}
	}
}

// TestRemovingAStrangerHidesNothing: a removal that is refused leaves it to the next heartbeat to see that a topic has grown.
func TestRemovingAStrangerHidesNothing(t *testing.T) {
	c := &cluster{map[string]int32{"t": 3}}
	g, m := New("g", limits, 0), &fake{id: "m", topics: []string{"t"}, owned: Assignment{}}
	settle(t, g, c, m)
	c = &cluster{map[string]int32{"t": 4}}
	for _, instance := range []*string{nil, &m.id} {
		if err := g.Remove("x", instance, c); err != kerr.UnknownMemberID {
			t.Fatal(err)
		}
	}
	settle(t, g, c, m)
	if got := m.owned.text(); got != "t:0,1,2,3" {
		t.Error(got)
	}
}

// model runs a group through arbitrary histories: clients that answer as they please, lose answers, come and go, time out; topics that
// come, grow and go; the broker that restarts. Whatever happens, no partition has two owners, and once it is left alone the
// group settles on all partitions.
type model struct {
	t       *rapid.T
	limits  Limits
	g       *Group
	c       *cluster
	now     time.Time
	members map[string]*fake
	next    int
	saved   map[string][]byte // the journal, compacted
	order   []string
}

func (m *model) save() {
	for _, e := range m.g.Unsaved() {
		k := string(e.Key)
		m.order = slices.DeleteFunc(m.order, func(o string) bool { return o == k })
		if delete(m.saved, k); e.Value != nil {
			m.saved[k] = e.Value
			m.order = append(m.order, k)
		}
	}
	m.g.Saved()
}

// restart reads the group back from what was saved; members as the clients know them go on.
func (m *model) restart() {
	g := New("g", m.limits, 1)
	byKind := slices.Clone(m.order) // of a member the metadata come first, as they do in any journal
	slices.SortStableFunc(byKind, func(x, y string) int { return cmp.Compare(x[1], y[1]) })
	for _, k := range byKind {
		kind, _, member, err := ParseKey([]byte(k))
		if err == nil {
			err = g.Load(kind, member, m.saved[k])
		}
		if err != nil {
			m.t.Fatal(err)
		}
	}
	before := described(m.g, m.c)
	if after := described(g, m.c); after != before {
		m.t.Fatalf("a restart made of\n%s\nthis:\n%s", before, after)
	}
	if !maps.Equal(g.owners, m.g.owners) {
		m.t.Fatalf("a restart made of %v this: %v", m.g.owners, g.owners)
	}
	g.Resume(m.now)
	m.g = g
}

func described(g *Group, c Cluster) string {
	b, err := json.Marshal(g.Describe(c))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (m *model) pick() *fake {
	if len(m.members) == 0 {
		return nil
	}
	return m.members[rapid.SampledFrom(slices.Sorted(maps.Keys(m.members))).Draw(m.t, "member")]
}

// check is what always holds.
func (m *model) check() {
	owners := map[partition]string{}
	for _, id := range slices.Sorted(maps.Keys(m.members)) {
		f := m.members[id]
		gm := m.g.members[id]
		if gm == nil {
			continue // fenced: the client will learn it and let go
		}
		if gm.epoch > m.g.targetEpoch || m.g.targetEpoch > m.g.epoch {
			m.t.Fatalf("member %s at %d, target at %d, group at %d", id, gm.epoch, m.g.targetEpoch, m.g.epoch)
		}
		f.owned.each(func(p partition) {
			if other, twice := owners[p]; twice {
				m.t.Fatalf("%v is read by %s and %s", p, other, id)
			}
			owners[p] = id
			if m.g.owners[p].member != id {
				m.t.Fatalf("%v is read by %s, the group thinks by %v", p, id, m.g.owners[p])
			}
		})
	}
}

func (m *model) heartbeat(f *fake) {
	if f.classic {
		m.classicHeartbeat(f)
		return
	}
	if r := f.beat(m.g, m.c, m.now); r != nil {
		switch r.Code {
		case kerr.UnknownMemberID, kerr.FencedMemberEpoch:
			f.epoch, f.owned = 0, Assignment{}
		default:
			m.t.Fatalf("%s: %v %s", f.id, r.Code, r.Text)
		}
	}
	m.save()
}

func TestGroupModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		limits := limits
		limits.Assignment = rapid.SampledFrom([]time.Duration{0, 40 * time.Second}).Draw(t, "between assignments")
		m := &model{
			t: t, limits: limits, g: New("g", limits, 1), c: &cluster{map[string]int32{"t": 3, "u": 4}}, now: time.Now(),
			members: map[string]*fake{}, saved: map[string][]byte{},
		}
		subscriptions := [][]string{{"t"}, {"u"}, {"t", "u"}, {"t", "nosuch"}}
		t.Repeat(map[string]func(*rapid.T){
			"join": func(t *rapid.T) {
				if len(m.members) >= 6 {
					t.Skip()
				}
				m.next++
				f := &fake{id: fmt.Sprint("m", m.next), topics: rapid.SampledFrom(subscriptions).Draw(t, "topics"), owned: Assignment{}}
				if f.classic = rapid.IntRange(0, 2).Draw(t, "classic") == 0; !f.classic && rapid.Bool().Draw(t, "by pattern") {
					f.topics, f.pattern = nil, "[tuv]"
				}
				f.assignor = rapid.SampledFrom([]string{"", Uniform, Range}).Draw(t, "assignor")
				m.members[f.id] = f
				m.heartbeat(f)
			},
			"heartbeat": func(*rapid.T) {
				if f := m.pick(); f != nil {
					m.heartbeat(f)
				}
			},
			"lost answer": func(*rapid.T) {
				f := m.pick()
				if f == nil {
					return
				}
				// Partitions that the lost answer took away are still read; what it brought is not known.
				if f.classic {
					_, _ = m.g.Join(f.join(), Client{"c", "/h"}, m.c, m.now)
					f.unanswered = true
					m.save()
					return
				}
				_, _ = m.g.Heartbeat(f.request(), Client{"c", "/h"}, m.c, m.now)
				m.save()
			},
			"keep alive": func(*rapid.T) {
				f := m.pick()
				if f == nil || f.epoch == 0 {
					return
				}
				if f.classic {
					_ = m.g.ClassicHeartbeat(&kmsg.HeartbeatRequest{MemberID: f.id, Generation: f.epoch}, m.c, m.now)
					m.save()
					return
				}
				req := f.request()
				req.Topics, req.SubscribedTopicNames, req.SubscribedTopicRegex, req.ServerAssignor, req.RebalanceTimeoutMillis = nil, nil, nil, nil, -1
				resp, r := m.g.Heartbeat(req, Client{"c", "/h"}, m.c, m.now)
				m.save()
				if r == nil {
					f.epoch = resp.MemberEpoch
					if resp.Assignment != nil {
						f.owned = Assignment{}
						for _, t := range resp.Assignment.Topics {
							f.owned[t.TopicID] = t.Partitions
						}
					}
				}
			},
			"subscribe": func(t *rapid.T) {
				if f := m.pick(); f != nil {
					f.topics, f.pattern = rapid.SampledFrom(subscriptions).Draw(t, "topics"), ""
					if f.classic {
						m.rejoin(f)
						return
					}
					req := f.request()
					req.SubscribedTopicRegex = kmsg.StringPtr("")
					if f.epoch > 0 {
						_, _ = m.g.Heartbeat(req, Client{"c", "/h"}, m.c, m.now)
						m.save()
					}
				}
			},
			"leave": func(*rapid.T) {
				if f := m.pick(); f != nil {
					req := f.request()
					req.MemberEpoch = -1
					if f.classic {
						_ = m.g.Remove(f.id, nil, m.c)
					} else {
						_, _ = m.g.Heartbeat(req, Client{}, m.c, m.now)
					}
					delete(m.members, f.id)
					m.save()
				}
			},
			"time": func(t *rapid.T) {
				m.now = m.now.Add(time.Duration(rapid.IntRange(1, 70).Draw(t, "seconds")) * time.Second)
				m.g.Expire(m.c, m.now)
				m.save()
			},
			"topics": func(t *rapid.T) {
				parts := maps.Clone(m.c.parts)
				name := rapid.SampledFrom([]string{"t", "u", "v"}).Draw(t, "topic")
				if parts[name] += rapid.Int32Range(1, 3).Draw(t, "more"); parts[name] > 7 {
					delete(parts, name)
					for _, f := range m.members { // partitions have no ids in the classic protocol: its members notice, and join again
						if f.classic {
							delete(f.owned, id(name))
							f.unanswered = true
						}
					}
				}
				m.c = &cluster{parts}
			},
			"restart": func(*rapid.T) { m.restart() },
			"":        func(*rapid.T) { m.check() },
		})
		m.settle()
	})
}

// settle leaves the group alone with members that do as they are told.
func (m *model) settle() {
	ids := slices.Sorted(maps.Keys(m.members))
	for range 12 + 4*len(ids) {
		m.now = m.now.Add(m.limits.Assignment / 4)
		for _, id := range ids {
			m.heartbeat(m.members[id])
			m.check()
		}
	}
	if len(ids) > 0 && m.g.State() != stateStable {
		m.t.Fatalf("the group does not settle: %+v", m.g.Describe(m.c))
	}
	read := map[partition]bool{}
	subscribed := m.g.Topics()
	for _, f := range m.members {
		f.owned.each(func(p partition) { read[p] = true })
	}
	for name := range subscribed {
		for p := range m.c.parts[name] {
			if !read[partition{id(name), p}] {
				m.t.Fatalf("nobody reads %s-%d: %s", name, p, described(m.g, m.c))
			}
			delete(read, partition{id(name), p})
		}
	}
	if len(read) > 0 {
		m.t.Fatalf("read, but not subscribed to: %v", read)
	}
}
