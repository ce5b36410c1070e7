package engine

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// ErrTwoPatterns is wrapped when a topic matches the patterns of two sources.
var ErrTwoPatterns = errors.New("topic matches the patterns of two sources")

// pattern compiles a source's pattern, which a topic's whole name has to match. Builder.Build has compiled it before.
func (s *SourceSpec) pattern() (*regexp.Regexp, error) {
	re, err := regexp.Compile("^(?:" + s.Pattern + ")$")
	if err != nil {
		return nil, fmt.Errorf("pattern of %s: %w", s.Node, err)
	}
	return re, nil
}

// HasPatterns reports whether a source of the plan reads topics by a pattern.
func (p *Plan) HasPatterns() bool {
	return slices.ContainsFunc(p.Subs, (*Sub).hasPatterns)
}

func (s *Sub) hasPatterns() bool {
	return slices.ContainsFunc(s.Sources, func(src *SourceSpec) bool { return src.Pattern != "" })
}

// Matching returns, by pattern, those of the topics that exist which a pattern source reads, sorted. The application's own
// topics, those that a source names, and those that Kafka keeps for itself (__…) are no pattern's.
func (p *Plan) Matching(appID string, existing []string) (map[string][]string, error) {
	taken := p.Taken(appID)
	out, by := make(map[string][]string), make(map[string]*SourceSpec)
	for _, sub := range p.Subs {
		for _, src := range sub.Sources {
			if src.Pattern == "" {
				continue
			}
			re, err := src.pattern()
			if err != nil {
				return nil, err
			}
			for _, name := range existing {
				if taken[name] || reserved(name) || !re.MatchString(name) {
					continue
				}
				if other := by[name]; other != nil {
					return nil, fmt.Errorf("%w: %q matches %q of %s and %q of %s: let the patterns exclude each other", ErrTwoPatterns,
						name, other.Pattern, other.Node, src.Pattern, src.Node)
				}
				by[name] = src
				out[src.Pattern] = append(out[src.Pattern], name)
			}
			slices.Sort(out[src.Pattern])
		}
	}
	return out, nil
}

func reserved(name string) bool { return strings.HasPrefix(name, "__") }

// Named returns the topics that sources name, sorted; internal ones and those of global tables are left out.
func (p *Plan) Named() []string {
	var names []string
	for _, sub := range p.Subs {
		for _, src := range sub.Sources {
			for _, t := range src.Topics {
				if !t.Internal && !sub.Global {
					names = append(names, t.Name)
				}
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Taken are the topics that are no pattern's: those that sources name, and internal ones.
func (p *Plan) Taken(appID string) map[string]bool {
	taken := make(map[string]bool)
	for _, sub := range p.Subs {
		for _, src := range sub.Sources {
			for _, t := range src.Topics {
				taken[t.In(appID)] = true
			}
		}
	}
	for _, name := range p.InternalNames(appID) {
		taken[name] = true
	}
	return taken
}

// InternalNames are the application's own topics: those of repartitions, and the changelogs that are no source.
func (p *Plan) InternalNames(appID string) []string {
	var names []string
	for _, rp := range p.Repartitions {
		names = append(names, rp.Topic.In(appID))
	}
	for _, sub := range p.Subs {
		for _, st := range sub.Stores {
			if st.Changelog.Name != "" && !st.FromSource {
				names = append(names, st.Changelog.In(appID))
			}
		}
	}
	return names
}

// found adds the queue of a topic that a pattern source reads; nil if none does.
func (t *Task) found(topic string, partition int32) *queue {
	if partition != t.id.Partition || reserved(topic) || !t.sub.hasPatterns() || t.plan.Taken(t.env.AppID)[topic] {
		return nil
	}
	for i, src := range t.sub.Sources {
		if src.Pattern == "" {
			continue
		}
		if re, err := src.pattern(); err == nil && re.MatchString(topic) {
			return t.addQueue(i, topic, partition)
		}
	}
	return nil
}
