package runtime

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"pgregory.net/rapid"

	"github.com/leatstream/leat/streams/internal/engine"
)

// member is one member of a simulated group: what it says when it joins.
type member struct {
	id, instance string
	state        []string
	owned        map[string][]int32
	generation   int32
}

func (m *member) held() []held {
	var h []held
	for _, t := range m.state {
		h = append(h, held{task: t})
	}
	return h
}

// balance runs one rebalance and returns what each member is given.
func balance(t interface{ Fatal(...any) }, plan []subTopology, members []*member) map[string]map[string][]int32 {
	var topics []string
	for _, s := range plan {
		topics = append(topics, slices.Collect(maps.Keys(s.topics))...)
	}
	slices.Sort(topics)
	topics = slices.Compact(topics)
	var joined []kmsg.JoinGroupResponseMember
	for _, m := range members {
		b := &balancer{plan: plan, instance: m.instance, state: func() []held { return m.held() }}
		jm := kmsg.NewJoinGroupResponseMember()
		jm.MemberID = m.id
		jm.ProtocolMetadata = b.JoinGroupMetadata(topics, maps.Clone(m.owned), m.generation)
		joined = append(joined, jm)
	}
	leader := &balancer{plan: plan}
	mb, _, err := leader.MemberBalancer(joined)
	if err != nil {
		t.Fatal(err)
	}
	into, err := mb.(kgo.GroupMemberBalancerOrError).BalanceOrError(nil)
	if err != nil {
		t.Fatal(err)
	}
	given := map[string]map[string][]int32{}
	for _, a := range into.IntoSyncAssignment() {
		b := &balancer{plan: plan}
		b.joined.Store(true)
		if given[a.MemberID], err = b.ParseSyncAssignment(a.MemberAssignment); err != nil {
			t.Fatal(err)
		}
		if b.stale.Load() {
			t.Fatal("the assignment of an equal plan is called stale")
		}
	}
	return given
}

// settle rebalances until nothing moves, as a cooperative group does, and returns how many rounds that took. No partition
// may have two owners at any moment.
func settle(t interface {
	Fatal(...any)
	Fatalf(string, ...any)
}, plan []subTopology, members []*member, generation *int32) int {
	for round := 1; ; round++ {
		given := balance(t, plan, members)
		*generation++
		owner := map[string]string{}
		again := false
		for _, m := range members {
			for topic, ps := range given[m.id] {
				for _, p := range ps {
					at := fmt.Sprint(topic, "/", p)
					if other := owner[at]; other != "" {
						t.Fatalf("%s is given to %s and %s", at, other, m.id)
					}
					owner[at] = m.id
					for _, o := range members {
						if o != m && slices.Contains(o.owned[topic], p) {
							t.Fatalf("%s is given to %s while %s has it", at, m.id, o.id)
						}
					}
				}
			}
		}
		for _, m := range members {
			for topic, ps := range m.owned {
				for _, p := range ps {
					again = again || !slices.Contains(given[m.id][topic], p)
				}
			}
			m.owned, m.generation = given[m.id], *generation
			m.remember(plan)
		}
		if !again {
			return round
		}
		if round > 4 {
			t.Fatal("the group does not settle")
		}
	}
}

// remember adds the tasks that m has to those whose state its directory keeps.
func (m *member) remember(plan []subTopology) {
	for i := range plan {
		for n := range plan[i].tasks() {
			for topic := range plan[i].partitions(n) {
				if slices.Contains(m.owned[topic], n) {
					m.state = append(m.state, engine.TaskID{Sub: plan[i].id, Partition: n}.String())
					break
				}
			}
		}
	}
	slices.Sort(m.state)
	m.state = slices.Compact(m.state)
}

func tasksOf(plan []subTopology, m *member) int {
	n := 0
	for i := range plan {
		for p := range plan[i].tasks() {
			for topic := range plan[i].partitions(p) {
				if slices.Contains(m.owned[topic], p) {
					n++
				}
				break
			}
		}
	}
	return n
}

func twoSubs(n int32) []subTopology {
	return []subTopology{{id: 0, topics: map[string]int32{"orders": n, "customers": n}}, {id: 1, topics: map[string]int32{"counts-repartition": n}}}
}

func TestTasksStayWhereTheyAreAndNewMembersGetTheirShare(t *testing.T) {
	plan := twoSubs(4)
	var generation int32
	a, b := &member{id: "a", instance: "A"}, &member{id: "b", instance: "B"}
	if rounds := settle(t, plan, []*member{a}, &generation); rounds != 1 || tasksOf(plan, a) != 8 {
		t.Errorf("alone: %d rounds, %d tasks; want 1 and 8", rounds, tasksOf(plan, a))
	}
	before := maps.Clone(a.owned)
	if rounds := settle(t, plan, []*member{a, b}, &generation); rounds != 2 || tasksOf(plan, a) != 4 || tasksOf(plan, b) != 4 {
		t.Errorf("two: %d rounds, %d and %d tasks; want 2, 4 and 4", rounds, tasksOf(plan, a), tasksOf(plan, b))
	}
	for topic, ps := range a.owned {
		for _, p := range ps {
			if !slices.Contains(before[topic], p) {
				t.Errorf("a was given %s/%d, which it did not have", topic, p)
			}
		}
	}
}

func TestTasksGoWhereTheirStateIs(t *testing.T) {
	plan := twoSubs(4)
	var generation int32
	a := &member{id: "a", instance: "A", state: []string{"1_2", "1_3"}}
	b := &member{id: "b", instance: "B", state: []string{"1_0", "1_1"}}
	settle(t, plan, []*member{a, b}, &generation)
	if got := a.owned["counts-repartition"]; !slices.Equal(got, []int32{2, 3}) {
		t.Errorf("a has %v, want the tasks of its state, 2 and 3", got)
	}
	// b dies; another worker of its instance takes its tasks over before others do.
	b2 := &member{id: "b2", instance: "B", state: b.state}
	settle(t, plan, []*member{a, b2}, &generation)
	if got := b2.owned["counts-repartition"]; !slices.Equal(got, []int32{0, 1}) {
		t.Errorf("b2 has %v, want 0 and 1", got)
	}
}

func TestGroupSettlesWithoutTwoOwnersAndEvenly(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plan := []subTopology{}
		total := 0
		for i := range rapid.IntRange(1, 3).Draw(t, "subs") {
			s := subTopology{id: i, topics: map[string]int32{}}
			for k := range rapid.IntRange(1, 3).Draw(t, "topics") {
				s.topics[fmt.Sprint("t", i, "-", k)] = int32(rapid.IntRange(1, 7).Draw(t, "partitions"))
			}
			plan = append(plan, s)
			total += int(s.tasks())
		}
		var members []*member
		var generation int32
		for step := range rapid.IntRange(1, 8).Draw(t, "steps") {
			if len(members) == 0 || rapid.Bool().Draw(t, "joins") {
				members = append(members, &member{id: fmt.Sprint("m", step), instance: fmt.Sprint("i", rapid.IntRange(0, 2).Draw(t, "instance"))})
			} else {
				i := rapid.IntRange(0, len(members)-1).Draw(t, "leaves")
				members = slices.Delete(slices.Clone(members), i, i+1)
			}
			if len(members) == 0 {
				continue
			}
			settle(t, plan, members, &generation)
			sum, least, most := 0, total, 0
			for _, m := range members {
				n := tasksOf(plan, m)
				sum, least, most = sum+n, min(least, n), max(most, n)
			}
			if sum != total {
				t.Fatalf("%d of %d tasks have an owner", sum, total)
			}
			if most-least > 1 {
				t.Fatalf("members have %d to %d tasks", least, most)
			}
		}
	})
}

func TestAssignmentForAnotherLayoutIsStale(t *testing.T) {
	old, now := &balancer{plan: twoSubs(2)}, &balancer{plan: twoSubs(3)}
	jm := kmsg.NewJoinGroupResponseMember()
	jm.MemberID = "a"
	jm.ProtocolMetadata = old.JoinGroupMetadata([]string{"orders", "customers", "counts-repartition"}, nil, 1)
	mb, _, err := old.MemberBalancer([]kmsg.JoinGroupResponseMember{jm})
	if err != nil {
		t.Fatal(err)
	}
	into, err := mb.(kgo.GroupMemberBalancerOrError).BalanceOrError(nil)
	if err != nil {
		t.Fatal(err)
	}
	assignment := into.IntoSyncAssignment()[0].MemberAssignment
	if _, err := now.ParseSyncAssignment(assignment); err != nil || !now.takeStale() || now.takeStale() {
		t.Errorf("the new layout does not notice, once, that the assignment is for the old one (%v)", err)
	}
	if _, err := old.ParseSyncAssignment(assignment); err != nil || old.takeStale() {
		t.Errorf("the old layout calls its own assignment stale (%v)", err)
	}
}

// copiesOf runs one rebalance under rules and returns what each member is to copy.
func copiesOf(t *testing.T, plan []subTopology, members []*candidate, rules copyRules, owned map[string][]string) map[string][]standbyCopy {
	t.Helper()
	b := &balancer{plan: plan, rules: rules}
	for _, m := range members {
		m.topics, m.perSub, m.meta, m.copies, m.tasks = map[string]bool{}, map[int]int{}, &kmsg.ConsumerMemberMetadata{}, nil, 0
		for _, s := range plan {
			for topic := range s.topics {
				m.topics[topic] = true
			}
		}
	}
	jobs := b.jobs(members)
	for _, j := range jobs {
		for _, m := range members {
			if slices.Contains(owned[m.member.MemberID], j.id) {
				j.owner = m
			}
		}
	}
	assign(jobs, members, rules.acceptable)
	b.placeCopies(jobs, members)
	got := map[string][]standbyCopy{}
	for _, m := range members {
		got[m.member.MemberID] = m.copies
	}
	for _, j := range jobs {
		if j.to != nil {
			owned["now "+j.to.member.MemberID] = append(owned["now "+j.to.member.MemberID], j.id)
		}
	}
	return got
}

func someone(id, instance, rack string, state map[string]int64) *candidate {
	m := kmsg.NewJoinGroupResponseMember()
	m.MemberID = id
	return &candidate{member: &m, instance: instance, rack: rack, state: state}
}

func TestStandbysAreOnOtherInstancesAndRacks(t *testing.T) {
	plan := []subTopology{{id: 0, topics: map[string]int32{"in": 1}, changelogs: []string{"log"}}, {id: 1, topics: map[string]int32{"stateless": 1}}}
	members := []*candidate{someone("a0", "A", "r1", nil), someone("a1", "A", "r1", nil), someone("b", "B", "r1", nil), someone("c", "C", "r2", nil)}
	got := copiesOf(t, plan, members, copyRules{standbys: 1}, map[string][]string{"a0": {"0_0"}})
	want := map[string][]standbyCopy{"a0": nil, "a1": nil, "b": nil, "c": {{"0_0", standby}}}
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("copies %v, want one, in the other rack", got)
	}
	got = copiesOf(t, plan, members, copyRules{standbys: 5}, map[string][]string{"a0": {"0_0"}})
	want["b"] = want["c"]
	if !maps.EqualFunc(got, want, slices.Equal) {
		t.Errorf("copies %v, want one on each other instance, and none of the task without state", got)
	}
}

func TestTaskStaysUntilItsNewOwnerHasItsState(t *testing.T) {
	plan := []subTopology{{id: 0, topics: map[string]int32{"in": 4}, changelogs: []string{"log"}}}
	ends := func() (map[string]int64, error) {
		return map[string]int64{"0_0": 1000, "0_1": 1000, "0_2": 1000, "0_3": 1000}, nil
	}
	rules := copyRules{acceptable: 10, warmups: 1, ends: ends}
	all := []string{"0_0", "0_1", "0_2", "0_3"}
	owned := map[string][]string{"a": all}
	got := copiesOf(t, plan, []*candidate{someone("a", "A", "", nil), someone("b", "B", "", nil)}, rules, owned)
	if len(got["b"]) != 1 || got["b"][0].kind != warmup || !slices.Equal(owned["now a"], all) {
		t.Fatalf("b is to copy %v, and a has %v; want one warm-up, and every task with a", got["b"], owned["now a"])
	}
	// b has copied it: that one moves, and the next is copied.
	first := got["b"][0].task
	owned = map[string][]string{"a": all}
	got = copiesOf(t, plan, []*candidate{someone("a", "A", "", nil), someone("b", "B", "", map[string]int64{first: 995})}, rules, owned)
	if !slices.Equal(owned["now b"], []string{first}) || len(got["b"]) != 1 || got["b"][0].task == first {
		t.Errorf("b has %v and is to copy %v; want %s, and to copy another", owned["now b"], got["b"], first)
	}
}

// A table that is restored from its source topic is copied before it moves, too.
func TestTableOfASourceTopicStaysUntilItsNewOwnerHasIt(t *testing.T) {
	plan := []subTopology{{id: 0, topics: map[string]int32{"in": 2}, sourced: []string{"in"}}}
	rules := copyRules{acceptable: 10, warmups: 2, ends: func() (map[string]int64, error) { return map[string]int64{"0_0": 1000, "0_1": 1000}, nil }}
	owned := map[string][]string{"a": {"0_0", "0_1"}}
	got := copiesOf(t, plan, []*candidate{someone("a", "A", "", nil), someone("b", "B", "", nil)}, rules, owned)
	if len(got["b"]) != 1 || got["b"][0].kind != warmup || len(owned["now a"]) != 2 {
		t.Fatalf("b is to copy %v, and a has %v; want one warm-up, and every task with a", got["b"], owned["now a"])
	}
	first := got["b"][0].task
	owned = map[string][]string{"a": {"0_0", "0_1"}}
	got = copiesOf(t, plan, []*candidate{someone("a", "A", "", nil), someone("b", "B", "", map[string]int64{first: 995})}, rules, owned)
	if !slices.Equal(owned["now b"], []string{first}) || len(got["b"]) != 0 {
		t.Errorf("b has %v and is to copy %v; want %s, and nothing more", owned["now b"], got["b"], first)
	}
}

// A member that dies between giving tasks up and joining again comes back to the same assignment, without a rebalance:
// the others would wait for ever for what it gave up.
func TestMemberThatDiedGivingTasksUpAsksForARebalance(t *testing.T) {
	plan := twoSubs(2)
	all := map[string][]int32{"orders": {0, 1}, "customers": {0, 1}, "counts-repartition": {0, 1}}
	var joined []kmsg.JoinGroupResponseMember
	for _, m := range []*member{{id: "a", instance: "A", owned: all}, {id: "b", instance: "B"}} {
		jm := kmsg.NewJoinGroupResponseMember()
		jm.MemberID = m.id
		jm.ProtocolMetadata = (&balancer{plan: plan, instance: m.instance}).JoinGroupMetadata(slices.Collect(maps.Keys(all)), m.owned, 1)
		joined = append(joined, jm)
	}
	mb, _, err := (&balancer{plan: plan}).MemberBalancer(joined)
	if err != nil {
		t.Fatal(err)
	}
	into, err := mb.(kgo.GroupMemberBalancerOrError).BalanceOrError(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range into.IntoSyncAssignment() {
		begun := &balancer{plan: plan}
		if _, err := begun.ParseSyncAssignment(a.MemberAssignment); err != nil {
			t.Fatal(err)
		}
		if asks := begun.takeStale(); asks != (a.MemberID == "a") {
			t.Errorf("%s, begun anew, asks for a rebalance: %t; a has tasks to give up, b has not", a.MemberID, asks)
		}
		if _, err := begun.ParseSyncAssignment(a.MemberAssignment); err != nil || begun.takeStale() {
			t.Errorf("%s, in the group, asks for what the client does by itself (%v)", a.MemberID, err)
		}
	}
}

func FuzzUserData(f *testing.F) {
	f.Add(userData{layout: 1, asks: 2, instance: "i", rack: "r", state: []held{{"0_1", 7}, {"1_2", 0}}, address: "http://h:1"}.append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		u, err := parseUserData(b)
		if err != nil {
			return
		}
		again, err := parseUserData(u.append(nil))
		if err != nil || again.instance != u.instance || again.address != u.address || !slices.Equal(again.state, u.state) || again.layout != u.layout {
			t.Fatalf("%+v comes back as %+v, %v", u, again, err)
		}
	})
}

func FuzzExtra(f *testing.F) {
	f.Add(extra{layout: 1, gives: true, copies: []standbyCopy{{"0_1", standby}, {"1_2", warmup}}}.append(nil))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := parseExtra(b)
		if err != nil {
			return
		}
		again, err := parseExtra(e.append(nil))
		if err != nil || !slices.Equal(again.copies, e.copies) || again.layout != e.layout || again.gives != e.gives {
			t.Fatalf("%+v comes back as %+v, %v", e, again, err)
		}
	})
}
