package streams

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams/internal/engine"
)

// manifestVersion grows when a manifest says something that an older reader would misunderstand.
const manifestVersion = 1

// Manifest is what of a topology outlives the process: topics, stores and their formats, without the functions in between.
// An application keeps the manifest of the topology that it runs in the compacted topic <app>-manifest, and compares at
// every start. Formats are those that serdes name (serde.Formatted), empty for one that does not say; internal topics stand
// without the application's id.
type Manifest struct {
	Version      int                   `json:"version"`
	Sources      []ManifestTopic       `json:"sources"`
	Sinks        []ManifestTopic       `json:"sinks"`
	Repartitions []ManifestTopic       `json:"repartitions"`
	Stores       []ManifestStore       `json:"stores"`
	Subs         []ManifestSubTopology `json:"subTopologies"`
}

// ManifestTopic is a topic of the user's, or a repartition topic.
type ManifestTopic struct {
	Name       string `json:"name"` // of a source by pattern: the pattern between slashes
	Key        string `json:"key,omitempty"`
	Value      string `json:"value,omitempty"`
	Partitions int32  `json:"partitions,omitempty"` // as declared; 0: not
	Reset      string `json:"reset,omitempty"`      // of a source, where it is not the application's: earliest, latest, none, or how far back
}

// ManifestStore is a store.
type ManifestStore struct {
	Name            string   `json:"name"`
	Kind            string   `json:"kind"` // key-value, window, session or versioned
	Key             string   `json:"key,omitempty"`
	Value           string   `json:"value,omitempty"`
	Changelog       string   `json:"changelog,omitempty"`
	FromSource      bool     `json:"fromSource,omitempty"` // Changelog is the source topic
	Table           []string `json:"table,omitempty"`      // the topics that a source table is filled from
	SizeMillis      int64    `json:"sizeMillis,omitempty"` // of a window store
	RetentionMillis int64    `json:"retentionMillis,omitempty"`
}

// ManifestSubTopology says which topics and stores belong together.
type ManifestSubTopology struct {
	Sources []string `json:"sources"`
	Stores  []string `json:"stores,omitempty"`
}

// Manifest returns what of the topology outlives the process.
func (t *Topology) Manifest() Manifest {
	m := t.manifest
	m.Sources, m.Sinks, m.Repartitions = slices.Clone(m.Sources), slices.Clone(m.Sinks), slices.Clone(m.Repartitions)
	m.Stores, m.Subs = slices.Clone(m.Stores), slices.Clone(m.Subs)
	return m
}

func manifestOf(t *Topology) Manifest {
	m := Manifest{Version: manifestVersion}
	declared := make(map[string]int32)
	for _, c := range t.plan.Create {
		declared[c.Name] = c.Partitions
	}
	internal := make(map[string]*engine.Repartition)
	for _, r := range t.plan.Repartitions {
		internal[r.Topic.Name] = r
	}
	for _, sub := range t.picture.SubTopologies {
		for _, n := range sub.Nodes {
			for _, name := range n.External() {
				topic := ManifestTopic{Name: name, Key: n.Key, Value: n.Value, Partitions: declared[name]}
				switch r := internal[name]; {
				case r != nil && n.Type == "source":
					topic.Partitions = r.Partitions
					m.Repartitions = append(m.Repartitions, topic)
				case r != nil:
				case n.Type == "source":
					topic.Reset = resetOf(t.plan, name)
					m.Sources = append(m.Sources, topic)
				default:
					m.Sinks = append(m.Sinks, topic)
				}
			}
		}
	}
	for _, sub := range t.plan.Subs {
		m.addSub(sub)
	}
	byName := func(a, b ManifestTopic) int { return strings.Compare(a.Name, b.Name) }
	for _, list := range []*[]ManifestTopic{&m.Sources, &m.Sinks, &m.Repartitions} {
		slices.SortStableFunc(*list, byName)
		*list = slices.CompactFunc(*list, func(a, b ManifestTopic) bool { return a.Name == b.Name })
	}
	slices.SortFunc(m.Stores, func(a, b ManifestStore) int { return strings.Compare(a.Name, b.Name) })
	return m
}

func (m *Manifest) addSub(sub *engine.Sub) {
	tables := make(map[string][]string)
	var out ManifestSubTopology
	for _, src := range sub.Sources {
		for _, topic := range src.Topics {
			out.Sources = append(out.Sources, topic.Name)
			if src.Table != "" {
				tables[src.Table] = append(tables[src.Table], topic.Name)
			}
		}
		if src.Pattern != "" {
			out.Sources = append(out.Sources, "/"+src.Pattern+"/")
		}
	}
	for _, st := range sub.Stores {
		if st.Aside {
			continue
		}
		out.Stores = append(out.Stores, st.Name)
		m.Stores = append(m.Stores, ManifestStore{Name: st.Name, Kind: st.Kind.String(), Key: serde.FormatOf(st.Key), Value: serde.FormatOf(st.Value),
			Changelog: st.Changelog.Name, FromSource: st.FromSource, Table: tables[st.Name],
			SizeMillis: st.SizeMillis, RetentionMillis: st.RetentionMillis})
	}
	slices.Sort(out.Sources)
	slices.Sort(out.Stores)
	m.Subs = append(m.Subs, out)
}

func resetOf(p *engine.Plan, topic string) string {
	for _, sub := range p.Subs {
		for _, src := range sub.Sources {
			if slices.ContainsFunc(src.Topics, func(t engine.Topic) bool { return t.Name == topic }) {
				if src.ResetBy > 0 {
					return src.ResetBy.String()
				}
				switch src.Reset {
				case engine.ResetEarliest:
					return "earliest"
				case engine.ResetLatest:
					return "latest"
				case engine.ResetNone:
					return "none"
				}
			}
		}
	}
	return ""
}

// formatAround names a format of the house's own that holds another; "" if that does not say.
func formatAround(name string, of any) string {
	in := serde.FormatOf(of)
	if in == "" {
		return ""
	}
	return name + "(" + in + ")"
}

// keepsSomething reports whether there is anything that another topology could lose.
func (m Manifest) keepsSomething() bool { return len(m.Stores)+len(m.Repartitions) > 0 }

// encode is the manifest as it is kept.
func (m Manifest) encode() []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic("streams: a manifest does not encode: " + err.Error()) // strings and numbers always do
	}
	return b
}

// DecodeManifest reads a manifest as an application keeps it, in JSON.
func DecodeManifest(data []byte) (Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return m, fmt.Errorf("decode the manifest of an application: %w", err)
	}
	if m.Version < 1 || m.Version > manifestVersion {
		return m, fmt.Errorf("the manifest of the application has version %d, this program knows up to %d: run it with the newer Leat that wrote it", m.Version, manifestVersion)
	}
	return m, nil
}
