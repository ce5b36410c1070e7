package engine

import (
	"errors"
	"fmt"
	"sort"
	"strings"
)

// ErrMissingTopic is wrapped when a source topic does not exist.
var ErrMissingTopic = errors.New("source topic does not exist")

// ErrCopartition is wrapped when topics that must have equal partition counts do not.
var ErrCopartition = errors.New("topics are not co-partitioned")

// Layout is a plan on a cluster: how many tasks each sub-topology has and which internal topics it needs.
type Layout struct {
	Tasks    []int32         // by Sub.ID
	Internal []InternalTopic // repartition topics first, then changelogs
}

// InternalTopic is a topic that the application owns, with its full name.
type InternalTopic struct {
	Name        string
	Partitions  int32
	Config      map[string]string
	Repartition bool
	Store       string // of a changelog
	// AtLeast says that it may have more partitions: it may have been made when a pattern found larger topics.
	AtLeast bool
}

// Layout resolves partition counts (docs/semantics.md 75). counts returns the partition count of an external topic, and false
// if there is none, and that of an internal topic that is there already; found are the existing topics by pattern
// (Plan.Matching). A sub-topology of which nothing is found yet has no tasks, and its internal topics are left out.
func (p *Plan) Layout(appID string, counts func(topic string) (int32, bool), found map[string][]string) (*Layout, error) {
	r := resolver{plan: p, appID: appID, counts: counts, found: found, repart: make(map[string]int32), empty: make(map[string]bool)}
	for _, rp := range p.Repartitions {
		r.repart[rp.Topic.Name] = rp.Partitions
	}
	if err := r.external(); err != nil {
		return nil, err
	}
	if err := r.settle(); err != nil {
		return nil, err
	}
	l := &Layout{Tasks: make([]int32, len(p.Subs))}
	for i, s := range p.Subs {
		n, _ := r.tasks(s)
		if s.Global {
			n = 1
		}
		l.Tasks[i] = n
	}
	for _, rp := range p.Repartitions {
		if n := r.repart[rp.Topic.Name]; n > 0 {
			l.Internal = append(l.Internal, InternalTopic{Name: rp.Topic.In(appID), Partitions: n, Config: rp.Config(), Repartition: true})
		}
	}
	for i, s := range p.Subs {
		for _, st := range s.Stores {
			if st.Changelog.Name != "" && !st.FromSource && l.Tasks[i] > 0 {
				l.Internal = append(l.Internal, InternalTopic{
					Name: st.Changelog.In(appID), Partitions: l.Tasks[i], Config: st.Config(), Store: st.Name, AtLeast: r.loose(s)})
			}
		}
	}
	return l, nil
}

type resolver struct {
	plan   *Plan
	appID  string
	counts func(string) (int32, bool)
	found  map[string][]string
	repart map[string]int32 // 0: not known yet
	empty  map[string]bool  // repartition topics that nothing is written to yet
}

// external checks that every external topic is there, and that co-partitioned ones agree.
func (r *resolver) external() error {
	var errs []error
	for _, s := range r.plan.Subs {
		for _, g := range groups(s) {
			if err := r.group(g); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// groups returns the co-partition groups of s; a source in none is a group of its own, whose topics need not agree.
func groups(s *Sub) [][]*SourceSpec {
	byGroup := make(map[int][]*SourceSpec)
	var out [][]*SourceSpec
	for _, src := range s.Sources {
		if src.Group < 0 {
			out = append(out, []*SourceSpec{src})
			continue
		}
		byGroup[src.Group] = append(byGroup[src.Group], src)
	}
	ids := make([]int, 0, len(byGroup))
	for id := range byGroup {
		ids = append(ids, id)
	}
	sort.Ints(ids)
	for _, id := range ids {
		out = append(out, byGroup[id])
	}
	return out
}

func (r *resolver) group(g []*SourceSpec) error {
	want, wantTopic := int32(0), ""
	together := g[0].Group >= 0
	var errs []error
	for _, src := range g {
		for _, t := range r.topics(src) {
			if t.Internal {
				continue
			}
			n, ok := r.counts(t.Name)
			if !ok {
				errs = append(errs, fmt.Errorf("%w: %q, read by %s; create it first", ErrMissingTopic, t.Name, src.Node))
				continue
			}
			if together && want != 0 && n != want {
				errs = append(errs, fmt.Errorf("%w: %q has %d partitions and %q has %d, but they are joined or grouped together: "+
					"repartition one of them (KStream.Repartition), or recreate the topics with equal counts", ErrCopartition, wantTopic, want, t.Name, n))
			}
			if want == 0 {
				want, wantTopic = n, t.Name
			}
		}
	}
	if together {
		errs = append(errs, r.pin(g, want, wantTopic))
	}
	return errors.Join(errs...)
}

// pin gives the repartition topics of a co-partition group the count of its external topics, or the one that is pinned.
func (r *resolver) pin(g []*SourceSpec, want int32, by string) error {
	var errs []error
	for _, src := range g {
		for _, t := range src.Topics {
			n := r.repart[t.Name]
			if !t.Internal || n == 0 {
				continue
			}
			if want != 0 && n != want {
				errs = append(errs, fmt.Errorf("%w: %s is declared with %d partitions, but is joined with %s, which has %d",
					ErrCopartition, t, n, by, want))
			}
			if want == 0 {
				want, by = n, t.String()
			}
		}
	}
	if want != 0 {
		for _, src := range g {
			for _, t := range src.Topics {
				if t.Internal {
					r.repart[t.Name] = want
				}
			}
		}
	}
	return errors.Join(errs...)
}

// settle derives the remaining repartition counts from the sub-topologies that write them, until all are known. Where such
// a sub-topology reads repartition topics whose counts are not known themselves (a table that is grouped anew and joined
// with what it was made of reads its own), those that are known count, as in Kafka Streams.
func (r *resolver) settle() error {
	partly := false
	for {
		open, progress := []string(nil), false
		for _, rp := range r.plan.Repartitions {
			if r.repart[rp.Topic.Name] != 0 {
				continue
			}
			var most int32
			known := true
			for _, from := range rp.From {
				n, ok := r.tasks(r.plan.Subs[from])
				known = known && ok
				most = max(most, n)
				if have, ok := r.counts(rp.Topic.In(r.appID)); ok && r.loose(r.plan.Subs[from]) {
					most = max(most, have)
				}
			}
			if known && most == 0 {
				progress = progress || !r.empty[rp.Topic.Name]
				r.empty[rp.Topic.Name] = true
				continue
			}
			if (known || partly) && most > 0 {
				partly = false
				r.repart[rp.Topic.Name] = most
				progress = true
			} else {
				open = append(open, rp.Topic.Name)
			}
		}
		r.level()
		if len(open) == 0 {
			return nil
		}
		if !progress && !partly {
			partly = true
			continue
		}
		if !progress {
			return fmt.Errorf("partition counts of the repartition topics %s depend on each other: "+
				"give one of them a count (Topic.Partitions of KStream.Repartition)", strings.Join(open, ", "))
		}
	}
}

// level raises the repartition topics of each co-partition group to the largest of them.
func (r *resolver) level() {
	for _, s := range r.plan.Subs {
		for _, g := range groups(s) {
			if g[0].Group < 0 {
				continue
			}
			var most int32
			for _, src := range g {
				for _, t := range src.Topics {
					if t.Internal {
						most = max(most, r.repart[t.Name])
					}
				}
			}
			for _, src := range g {
				for _, t := range src.Topics {
					if t.Internal && r.repart[t.Name] != 0 {
						r.repart[t.Name] = most
					}
				}
			}
		}
	}
}

// tasks returns the partition count of s's largest source, and whether all of them are known.
func (r *resolver) tasks(s *Sub) (int32, bool) {
	var most int32
	known := true
	for _, src := range s.Sources {
		for _, t := range r.topics(src) {
			n := r.repart[t.Name]
			if !t.Internal {
				n, _ = r.counts(t.Name)
			}
			known = known && (n != 0 || r.empty[t.Name])
			most = max(most, n)
		}
	}
	return most, known
}

func (r *resolver) topics(src *SourceSpec) []Topic {
	if src.Pattern == "" {
		return src.Topics
	}
	var out []Topic
	for _, name := range r.found[src.Pattern] {
		out = append(out, Topic{Name: name})
	}
	return out
}

// loose reports whether the partition count of a sub-topology may change while the application runs, because a pattern
// decides, here or upstream.
func (r *resolver) loose(s *Sub) bool {
	seen := make(map[int]bool)
	var look func(s *Sub) bool
	look = func(s *Sub) bool {
		if seen[s.ID] {
			return false
		}
		seen[s.ID] = true
		if s.hasPatterns() {
			return true
		}
		for _, rp := range r.plan.Repartitions {
			for _, from := range rp.From {
				if rp.To == s.ID && rp.Partitions == 0 && look(r.plan.Subs[from]) {
					return true
				}
			}
		}
		return false
	}
	return look(s)
}
