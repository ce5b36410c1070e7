package streams

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams/internal/runtime"
)

// ErrTopologyChanged is wrapped by the error of an application that would lose or misread state of the topology that ran
// before under its AppID. The error says what, and how to go on: give things their names back, or set Config.AcceptPlan.
var ErrTopologyChanged = errors.New("the topology has changed in a way that loses state")

// Plan is what a new topology means for an application that has run with another one: what it renames, orphans, begins,
// re-reads. The zero value is a plan without changes.
type Plan struct {
	Changes []PlanChange
}

// PlanChange is one change, in words. LosesState: rows or records of the running topology would not be used any more, or be
// read as what they are not.
type PlanChange struct {
	What       string // source, sink, repartition or store
	Name       string
	Text       string
	LosesState bool
}

// LosesState reports whether one of the changes does.
func (p Plan) LosesState() bool {
	return slices.ContainsFunc(p.Changes, func(c PlanChange) bool { return c.LosesState })
}

// Fingerprint names the changes that lose state, for Config.AcceptPlan; "" if there are none. Another change has another.
func (p Plan) Fingerprint() string {
	if !p.LosesState() {
		return ""
	}
	h := sha256.New()
	for _, c := range p.Changes {
		if c.LosesState {
			fmt.Fprintf(h, "%s\x00%s\x00%s\n", c.What, c.Name, c.Text)
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// String is the plan as lines of text; a line that loses state begins with an exclamation mark.
func (p Plan) String() string {
	if len(p.Changes) == 0 {
		return "no changes\n"
	}
	var b strings.Builder
	for _, c := range p.Changes {
		mark := "  "
		if c.LosesState {
			mark = "! "
		}
		fmt.Fprintf(&b, "%s%s %s: %s\n", mark, c.What, c.Name, c.Text)
	}
	return b.String()
}

func (p *Plan) add(what, name string, loses bool, format string, args ...any) {
	p.Changes = append(p.Changes, PlanChange{What: what, Name: name, Text: fmt.Sprintf(format, args...), LosesState: loses})
}

// PlanChanges says what it means to run topology to where from has run before.
func PlanChanges(from, to Manifest) Plan {
	var p Plan
	p.stores(from, to)
	p.repartitions(from.Repartitions, to.Repartitions)
	p.sources(from.Sources, to.Sources)
	p.sinks(from.Sinks, to.Sinks)
	return p
}

// by indexes a list by name.
func by[T any](list []T, name func(T) string) map[string]T {
	out := make(map[string]T, len(list))
	for _, v := range list {
		out[name(v)] = v
	}
	return out
}

func storeName(s ManifestStore) string { return s.Name }
func topicName(t ManifestTopic) string { return t.Name }

func (p *Plan) stores(from, to Manifest) {
	before, after := by(from.Stores, storeName), by(to.Stores, storeName)
	read := by(from.Sources, topicName)
	for _, s := range to.Stores {
		if old, ok := before[s.Name]; ok {
			p.store(old, s)
			continue
		}
		text := "new, begins empty"
		if s.FromSource {
			text = fmt.Sprintf("new, is built by reading topic %s from its beginning", s.Changelog)
		} else if readsKnown(to, s.Name, read) {
			text += "; what its topics held before the committed positions is not read again"
		}
		p.add("store", s.Name, false, "%s", text)
	}
	for _, s := range from.Stores {
		if _, ok := after[s.Name]; ok {
			continue
		}
		text := "gone; its rows stay behind"
		if s.Changelog != "" && !s.FromSource {
			text += fmt.Sprintf(" in topic <app>-%s, which nobody reads", s.Changelog)
		}
		for _, n := range to.Stores {
			if _, was := before[n.Name]; !was && n.Kind == s.Kind && n.Key == s.Key && n.Value == s.Value {
				text += fmt.Sprintf("; store %s is new and has the same kind and formats: if it is this one renamed, call it %s again to keep the rows", n.Name, s.Name)
				break
			}
		}
		p.add("store", s.Name, !s.FromSource, "%s", text)
	}
}

// readsKnown reports whether a store is in a sub-topology that reads a topic of the running topology.
func readsKnown(m Manifest, store string, known map[string]ManifestTopic) bool {
	return slices.ContainsFunc(m.Subs, func(s ManifestSubTopology) bool {
		return slices.Contains(s.Stores, store) && slices.ContainsFunc(s.Sources, func(t string) bool { _, ok := known[t]; return ok })
	})
}

// store compares a store with what it was.
func (p *Plan) store(old, s ManifestStore) {
	ms := func(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
	if old.Kind != s.Kind {
		p.add("store", s.Name, true, "is a %s store, was a %s store: its rows cannot be read; give the new one another name", s.Kind, old.Kind)
		return
	}
	if differ(old.Key, s.Key) {
		p.add("store", s.Name, true, "has keys in format %s, its rows have %s: they would be misread; give the new one another name", s.Key, old.Key)
	}
	if differ(old.Value, s.Value) {
		p.add("store", s.Name, true, "has values in format %s, its rows have %s: they would be misread; give the new one another name", s.Value, old.Value)
	}
	if old.SizeMillis != s.SizeMillis && old.Kind == "window" {
		p.add("store", s.Name, true, "has windows of %s, its rows are of windows of %s; give the new one another name", ms(s.SizeMillis), ms(old.SizeMillis))
	}
	if s.RetentionMillis < old.RetentionMillis && s.RetentionMillis > 0 {
		p.add("store", s.Name, false, "keeps its rows for %s, kept them for %s: older ones are dropped", ms(s.RetentionMillis), ms(old.RetentionMillis))
	}
	switch {
	case old.FromSource && s.FromSource && old.Changelog != s.Changelog:
		p.add("store", s.Name, false, "is rebuilt by reading topic %s from its beginning, was a copy of topic %s", s.Changelog, old.Changelog)
	case len(old.Table) > 0 && len(s.Table) > 0 && !slices.Equal(old.Table, s.Table):
		p.add("store", s.Name, true, "is filled from %s, was filled from %s: rows of both would mix; give the new one another name",
			strings.Join(s.Table, ", "), strings.Join(old.Table, ", "))
	case old.Changelog == s.Changelog:
	case s.FromSource:
		p.add("store", s.Name, false, "is rebuilt by reading topic %s from its beginning; topic <app>-%s stays behind", s.Changelog, old.Changelog)
	case s.Changelog == "":
		p.add("store", s.Name, true, "keeps no changelog any more, and begins empty")
	default:
		p.add("store", s.Name, true, "is logged in <app>-%s, which does not have the rows that it had; it would begin empty", s.Changelog)
	}
}

// missing notes internal topics of both topologies that somebody has deleted.
func (p *Plan) missing(from, to Manifest, appID string, topics []string) {
	gone := func(name string) bool { return slices.Contains(topics, appID+"-"+name) }
	before := by(from.Stores, storeName)
	for _, s := range to.Stores {
		if old := before[s.Name]; s.Changelog != "" && !s.FromSource && old.Changelog == s.Changelog && gone(s.Changelog) {
			p.add("store", s.Name, true, "its changelog topic %s-%s is gone, and its rows with it: it would begin empty, and what was processed into it is "+
				"not read again; leat app reset computes it anew", appID, s.Changelog)
		}
	}
	had := by(from.Repartitions, topicName)
	for _, t := range to.Repartitions {
		if _, ok := had[t.Name]; ok && gone(t.Name) {
			p.add("repartition", t.Name, true, "its topic %s-%s is gone, and the records that waited in it", appID, t.Name)
		}
	}
}

// differ reports whether two formats are known and not the same.
func differ(a, b string) bool { return a != "" && b != "" && a != b }

func (p *Plan) repartitions(from, to []ManifestTopic) {
	before, after := by(from, topicName), by(to, topicName)
	for _, t := range to {
		old, ok := before[t.Name]
		switch {
		case !ok:
			p.add("repartition", t.Name, false, "new")
		case differ(old.Key, t.Key) || differ(old.Value, t.Value):
			p.add("repartition", t.Name, true, "carries %s and %s, records that wait in it are %s and %s: they would be misread; let the application drain it first, or give the new one another name",
				t.Key, t.Value, old.Key, old.Value)
		}
	}
	for _, t := range from {
		if _, ok := after[t.Name]; !ok {
			p.add("repartition", t.Name, true, "gone; records that wait in <app>-%s are not read any more", t.Name)
		}
	}
}

func (p *Plan) sources(from, to []ManifestTopic) {
	before, after := by(from, topicName), by(to, topicName)
	for _, t := range to {
		old, ok := before[t.Name]
		switch {
		case !ok && t.Reset == "latest":
			p.add("source", t.Name, false, "new, is read from its end on")
		case !ok && t.Reset == "none":
			p.add("source", t.Name, false, "new, and must have committed positions")
		case !ok:
			p.add("source", t.Name, false, "new, is read from its beginning")
		case differ(old.Key, t.Key) || differ(old.Value, t.Value):
			p.add("source", t.Name, false, "is read as %s and %s, was read as %s and %s", t.Key, t.Value, old.Key, old.Value)
		}
	}
	for _, t := range from {
		if _, ok := after[t.Name]; !ok {
			p.add("source", t.Name, false, "is not read any more; its committed positions stay in the group")
		}
	}
}

func (p *Plan) sinks(from, to []ManifestTopic) {
	before, after := by(from, topicName), by(to, topicName)
	for _, t := range to {
		old, ok := before[t.Name]
		switch {
		case !ok:
			p.add("sink", t.Name, false, "new")
		case differ(old.Key, t.Key) || differ(old.Value, t.Value):
			p.add("sink", t.Name, false, "is written as %s and %s, was written as %s and %s: mind its readers", t.Key, t.Value, old.Key, old.Value)
		}
	}
	for _, t := range from {
		if _, ok := after[t.Name]; !ok {
			p.add("sink", t.Name, false, "is not written any more")
		}
	}
}

// refuse returns the error of an application that may not start, nil if it may.
func (p Plan) refuse(accepted string) error {
	if print := p.Fingerprint(); print != accepted && print != "" {
		return fmt.Errorf("%w (Config.AcceptPlan: %q accepts it):\n%s", ErrTopologyChanged, print, p)
	}
	return nil
}

// planFrom is what the topology changes in what ran before, of whose internal topics some are missing.
func (a *App) planFrom(before Manifest, missing []string) Plan {
	p := PlanChanges(before, a.topology.manifest)
	p.missing(before, a.topology.manifest, a.cfg.AppID, missing)
	return p
}

// checkManifest compares the topology with the one that ran before. It is called at every start.
func (a *App) checkManifest(running []byte, missing []string) (write bool, err error) {
	m := a.topology.manifest
	if running == nil {
		return m.keepsSomething(), nil
	}
	before, err := DecodeManifest(running)
	if err != nil {
		return false, err
	}
	p := a.planFrom(before, missing)
	if err := p.refuse(a.cfg.AcceptPlan); err != nil {
		return false, err
	}
	if len(p.Changes) > 0 {
		a.cfg.Logger.Info("the topology has changed", "app", a.cfg.AppID, "plan", p.String())
	}
	return string(running) != string(m.encode()), nil
}

// Plan asks the cluster which topology the application ran last, and says what it means to run this one now. It changes
// nothing. An application that has not run yet, or has never kept anything, has no changes. It needs the brokers; ctx bounds
// the wait for them.
func (a *App) Plan(ctx context.Context) (Plan, error) {
	opts := a.clientOptions()
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return Plan{}, fmt.Errorf("application %s: configure the client: %w", a.cfg.AppID, err)
	}
	defer cl.Close()
	running, err := runtime.ReadManifest(ctx, cl, opts, a.cfg.AppID)
	if err != nil || running == nil {
		return Plan{}, err
	}
	before, err := DecodeManifest(running)
	if err != nil {
		return Plan{}, fmt.Errorf("application %s: %w", a.cfg.AppID, err)
	}
	missing, err := runtime.MissingTopics(ctx, cl, a.topology.plan, a.cfg.AppID)
	if err != nil {
		return Plan{}, fmt.Errorf("application %s: its internal topics: %w", a.cfg.AppID, err)
	}
	return a.planFrom(before, missing), nil
}

// clientOptions are what every client of the application begins with.
func (a *App) clientOptions() []kgo.Opt {
	opts := []kgo.Opt{kgo.ClientID(a.cfg.AppID)}
	if len(a.cfg.Brokers) > 0 {
		opts = append(opts, kgo.SeedBrokers(a.cfg.Brokers...))
	}
	if a.cfg.Rack != "" {
		opts = append(opts, kgo.Rack(a.cfg.Rack))
	}
	return append(opts, a.cfg.Client...)
}
