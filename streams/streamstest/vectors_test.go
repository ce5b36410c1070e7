package streamstest_test

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// vectorTopology is a line of topologies.jsonl.
type vectorTopology struct {
	Name, Group, Words, Describe string
	DescribeOptimized            string `json:"describe_optimized"`
	Semantics                    []string
	Topics                       map[string]struct{ Role, Key, Value string }
	Stores                       map[string]string
}

// vectorScenario is a line of a scenario file.
type vectorScenario struct {
	Topology, Scenario, Mark string
	Steps                    []vectorStep
	Stores                   map[string][]any
	Outputs                  map[string][]any
	Changelog                map[string][]any
	LeatDeviates             []string `json:"leat_deviates"`
	Informative              bool
}

type vectorStep struct {
	Topic    string
	Key      any
	Value    any
	TS       int64 `json:"ts"`
	Headers  [][]*string
	Advance  *int64 `json:"advance_wall_clock_ms"`
	Out      []map[string]any
	Error    string
	Noop     []string
	AnyOrder bool `json:"any_order"`
}

func vectorsDir() string {
	if dir := os.Getenv("LEAT_STREAMS_VECTORS"); dir != "" {
		return dir
	}
	return filepath.Join("testdata", "streams")
}

func readLines[T any](t *testing.T, path string) []T {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var out []T
	sc := bufio.NewScanner(f)
	sc.Buffer(nil, 16<<20)
	for sc.Scan() {
		if len(sc.Bytes()) == 0 {
			continue
		}
		dec := json.NewDecoder(strings.NewReader(sc.Text()))
		dec.UseNumber()
		var v T
		if err := dec.Decode(&v); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		out = append(out, v)
	}
	if err := sc.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// TestVectors runs the topologies that Apache Kafka Streams was recorded with, and compares step by step.
func TestVectors(t *testing.T) {
	dir := vectorsDir()
	ran := 0
	for _, top := range readLines[vectorTopology](t, filepath.Join(dir, "topologies.jsonl")) {
		build := vectorTopologies[top.Name]
		if build == nil {
			t.Errorf("topology %q has no builder", top.Name)
			continue
		}
		path := filepath.Join(dir, "scenarios", top.Name+".jsonl")
		for _, sc := range readLines[vectorScenario](t, path) {
			ran++
			t.Run(top.Name+"/"+sc.Scenario, func(t *testing.T) { runScenario(t, top, sc, build) })
		}
	}
	t.Logf("%d scenarios run", ran)
}

// vector is a topology being built for the harness: it collects how the stores are read, and what config is needed.
type vector struct {
	streams.Builder
	rows    map[string]func(d *streamstest.Driver) []any
	onError func(context.Context, *streams.RecordError) streams.Decision
}

func buildVector(t *testing.T, build func(*vector)) (*vector, *streams.Topology) {
	t.Helper()
	x := &vector{rows: make(map[string]func(*streamstest.Driver) []any)}
	build(x)
	topology, err := x.Build()
	if err != nil {
		t.Fatal(err)
	}
	return x, topology
}

func runScenario(t *testing.T, top vectorTopology, sc vectorScenario, build func(*vector)) {
	tags := sc.LeatDeviates
	for _, tag := range []string{"38", "type-system", "55", "66-67", "54"} {
		if slices.Contains(tags, tag) {
			t.Skipf("deviates by decision (%s); asserted in semantics_test.go", tag)
		}
	}
	if strings.Contains(top.Name, "suppress") && (slices.Contains(tags, "84-same") || slices.Contains(tags, "84-absent")) {
		t.Skip("deviates by decision (84, 58): what changes nothing moves no suppression's time; asserted in suppress_test.go")
	}
	if sc.Informative {
		t.Skip("depends on Kafka's internals")
	}
	if own := leatsOutcome[top.Name]; own != nil {
		own(&sc)
	}
	x, topology := buildVector(t, build)
	d := streamstest.New(t, topology, streams.Config{AppID: "v", OnError: x.onError})
	d.SetClock(time.UnixMilli(0))
	for name, topic := range top.Topics {
		if topic.Role == "in" {
			d.SetPartitions(name, 1)
		}
	}
	loose := slices.Contains(tags, "84-same")
	// Without a changelog Kafka's recording could not see that a delete changes nothing (84-absent).
	unlogged := top.Name == "table-no-logging"
	var whenever outOfStep
	for i, step := range sc.Steps {
		err := d.Fails(func() { send(t, d, top, step) })
		got := outputs(t, d, top)
		if step.Error != "" {
			if err == nil {
				t.Errorf("step %d: no error, want one (%s)", i, step.Error)
			}
			return
		}
		if err != nil {
			t.Fatalf("step %d: %v", i, err)
		}
		if unlogged && step.Value == nil {
			step.Noop = []string{"a"}
		}
		if slices.Contains(tags, "65") {
			whenever.add(step.Out, got)
			continue
		}
		if slices.Contains(tags, "53") {
			step.Out = lastOfEachKey(step.Out)
		}
		if sc.Mark == "exact" {
			compareStep(t, i, step, got, slices.Contains(tags, "41"), loose)
		}
	}
	whenever.compare(t)
	for name, want := range sc.Stores {
		if top.Name == "session-group-by" {
			continue // the recording looked for sessions of the input's keys, which the repartition has replaced
		}
		read := x.rows[name]
		if read == nil {
			t.Errorf("store %q is not in the topology", name)
			continue
		}
		// Of a global table, which has no changelog, the recording cannot tell what changes nothing (84-same).
		compareRows(t, name, want, read(d), loose || top.Group == "join-global")
	}
	compareChangelogs(t, d, sc, top)
}

func send(t *testing.T, d *streamstest.Driver, top vectorTopology, s vectorStep) {
	t.Helper()
	if s.Advance != nil {
		d.Advance(time.Duration(*s.Advance) * time.Millisecond)
		return
	}
	var hs []streams.Header
	for _, h := range s.Headers {
		hs = append(hs, streams.Header{Key: *h[0]})
		if h[1] != nil {
			hs[len(hs)-1].Value = []byte(*h[1])
		}
	}
	types := top.Topics[s.Topic]
	d.SendRaw(s.Topic, toBytes(t, types.Key, s.Key), toBytes(t, types.Value, s.Value), streamstest.At(time.UnixMilli(s.TS)), streamstest.Headers(hs...))
}

// toBytes encodes a JSON value as a type of the vectors' README.
func toBytes(t *testing.T, typ string, v any) []byte {
	t.Helper()
	var out []byte
	err := errors.ErrUnsupported
	switch v := v.(type) {
	case nil:
		return nil
	case map[string]any:
		out, err = hex.DecodeString(v["hex"].(string))
	case string:
		out, err = []byte(v), nil
	case json.Number:
		at := serde.Place{}
		switch typ {
		case "int64":
			n, _ := strconv.ParseInt(v.String(), 10, 64)
			out, err = serde.Int64.Append([]byte{}, at, n)
		case "float64":
			f, _ := v.Float64()
			out, err = serde.Float64.Append([]byte{}, at, f)
		}
	}
	if err != nil {
		t.Fatalf("value %v of type %s: %v", v, typ, err)
	}
	return out
}

// fromBytes decodes bytes of a type to what its JSON would be.
func fromBytes(t *testing.T, typ string, b []byte) any {
	t.Helper()
	if b == nil {
		return nil
	}
	at := serde.Place{}
	switch {
	case typ == "string":
		return strings.ToValidUTF8(string(b), "\uFFFD")
	case typ == "bytes":
		return map[string]any{"hex": hex.EncodeToString(b)}
	case typ == "int64":
		n, err := serde.Int64.Decode(at, b)
		if err != nil {
			t.Fatal(err)
		}
		return n
	case typ == "float64":
		f, err := serde.Float64.Decode(at, b)
		if err != nil {
			t.Fatal(err)
		}
		return f
	case typ == "session:string":
		k, err := serde.SessionWindowed(serde.String).Decode(at, b)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]any{"key": k.Key, "start": k.Start.UnixMilli(), "end": k.End.UnixMilli()}
	case typ == "windowed:string:max":
		k, err := serde.Windowed(serde.String, 0).Decode(at, b)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]any{"key": k.Key, "start": k.Start.UnixMilli(), "end": int64(math.MaxInt64)}
	case strings.HasPrefix(typ, "windowed:string:"):
		size, _ := strconv.ParseInt(strings.TrimPrefix(typ, "windowed:string:"), 10, 64)
		k, err := serde.Windowed(serde.String, time.Duration(size)*time.Millisecond).Decode(at, b)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]any{"key": k.Key, "start": k.Start.UnixMilli(), "end": k.End.UnixMilli()}
	}
	t.Fatalf("unknown type %q", typ)
	return nil
}

// outputs reads what the last step wrote, by topic.
func outputs(t *testing.T, d *streamstest.Driver, top vectorTopology) map[string][]map[string]any {
	t.Helper()
	out := make(map[string][]map[string]any)
	for name, topic := range top.Topics {
		if topic.Role != "out" {
			continue
		}
		for _, r := range d.ReadRaw(name) {
			m := map[string]any{"key": fromBytes(t, topic.Key, r.Key), "value": fromBytes(t, topic.Value, r.Value), "ts": r.Timestamp.UnixMilli()}
			var hs []any
			for _, h := range r.Headers {
				var v any
				if h.Value != nil {
					v = string(h.Value)
				}
				if strings.HasPrefix(h.Key, "__streams.errors.") && slices.Contains([]string{"exception", "message", "stacktrace"}, h.Key[17:]) {
					v = "..."
				}
				hs = append(hs, []any{h.Key, v})
			}
			if hs != nil {
				m["headers"] = hs
			}
			out[name] = append(out[name], m)
		}
	}
	return out
}

// compareStep compares topic by topic, record for record; at a step that changes nothing outputs may be missing.
func compareStep(t *testing.T, i int, step vectorStep, got map[string][]map[string]any, noHeaders, laterTimes bool) {
	t.Helper()
	want := make(map[string][]map[string]any)
	for _, o := range step.Out {
		name := o["topic"].(string)
		delete(o, "topic")
		if hs, ok := o["headers"].([]any); ok {
			for _, h := range hs {
				pair := h.([]any)
				if name := pair[0].(string); strings.HasPrefix(name, "__streams.errors.") && slices.Contains([]string{"exception", "message", "stacktrace"}, name[17:]) {
					pair[1] = "..."
				}
			}
		}
		want[name] = append(want[name], o)
	}
	names := make(map[string]bool)
	for n := range want {
		names[n] = true
	}
	for n := range got {
		names[n] = true
	}
	for n := range names {
		w, g := texts(want[n], noHeaders, laterTimes), texts(got[n], noHeaders, laterTimes)
		if step.AnyOrder {
			sort.Strings(w)
			sort.Strings(g)
		}
		if len(step.Noop) > 0 && isSubsequence(g, w) {
			continue
		}
		if diff := cmp.Diff(w, g); diff != "" {
			t.Errorf("step %d (%v %v=%v @%d), topic %s (-want +got):\n%s", i, step.Topic, step.Key, step.Value, step.TS, n, diff)
		}
	}
}

// lastOfEachKey leaves out the delete that Kafka sends before the value of a session that keeps its bounds.
func lastOfEachKey(out []map[string]any) []map[string]any {
	at := func(o map[string]any) string { return canonical([]any{o["topic"], o["key"]}) }
	last := make(map[string]int)
	for i, o := range out {
		last[at(o)] = i
	}
	var kept []map[string]any
	for i, o := range out {
		if last[at(o)] == i {
			kept = append(kept, o)
		}
	}
	return kept
}

func isSubsequence(part, whole []string) bool {
	i := 0
	for _, w := range whole {
		if i < len(part) && part[i] == w {
			i++
		}
	}
	return i == len(part)
}

func texts(records []map[string]any, noHeaders, noTimes bool) []string {
	out := []string{}
	for _, r := range records {
		if noHeaders {
			delete(r, "headers")
		}
		if noTimes {
			delete(r, "ts")
		}
		out = append(out, canonical(r))
	}
	return out
}

// canonical is JSON text that is equal for equal values: numbers of the vectors and of Go alike.
func canonical(v any) string {
	b, err := json.Marshal(jsonPlain(v))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func jsonPlain(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := strconv.ParseInt(v.String(), 10, 64); err == nil {
			return n
		}
		f, _ := v.Float64()
		return jsonPlain(f)
	case float64:
		if v == float64(int64(v)) {
			return int64(v)
		}
		return v
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, x := range v {
			out[k] = jsonPlain(x)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, x := range v {
			out[i] = jsonPlain(x)
		}
		return out
	}
	return v
}

func compareRows(t *testing.T, name string, want, got []any, noTimes bool) {
	t.Helper()
	set := func(rows []any) []string {
		out := []string{}
		for _, r := range rows {
			row := r.([]any)
			if noTimes && len(row) > 2 {
				row = row[:len(row)-1]
			}
			out = append(out, canonical(row))
		}
		sort.Strings(out)
		return out
	}
	if diff := cmp.Diff(set(want), set(got)); diff != "" {
		t.Errorf("store %s (-want +got):\n%s", name, diff)
	}
}

// compareChangelogs compares bytes, for scenarios in which nothing deviates. Of a store that processors write Leat logs
// the last change of each key per commit, and of a commit the keys in order, so there, and where one record changes
// several windows in an order of Kafka's own, only the last record per key is compared. A tombstone's timestamp is
// left aside: Kafka's is the record's, also where the update that it sends on has the row's, which was later.
func compareChangelogs(t *testing.T, d *streamstest.Driver, sc vectorScenario, top vectorTopology) {
	t.Helper()
	if len(sc.LeatDeviates) > 0 || sc.Mark != "exact" {
		return
	}
	for store, want := range sc.Changelog {
		var w, g []string
		for _, r := range want {
			w = append(w, logged(r.([]any)[:3]))
		}
		for _, r := range d.ReadRaw("v-" + store + "-changelog") {
			var value any
			if r.Value != nil {
				value = hex.EncodeToString(r.Value)
			}
			g = append(g, logged([]any{hex.EncodeToString(r.Key), value, r.Timestamp.UnixMilli()}))
		}
		if top.Stores[store] == "kv-plain" || top.Stores[store] == "session" || strings.Contains(top.Name, "sliding") ||
			top.Name == "join-then-count" { // one record joins several
			w, g = lastPerKey(w), lastPerKey(g)
		}
		if diff := cmp.Diff(w, g); diff != "" {
			t.Errorf("changelog of %s (-want +got):\n%s", store, diff)
		}
	}
}

func logged(r []any) string {
	if r[1] == nil {
		r = r[:2]
	}
	return canonical(r)
}

// lastPerKey keeps the last record of each key that is there in the end.
func lastPerKey(records []string) []string {
	last := make(map[string]string)
	for _, r := range records {
		key, rest, _ := strings.Cut(r, ",")
		if rest == "null]" {
			delete(last, key)
			continue
		}
		last[key] = r
	}
	out := []string{}
	for _, r := range last {
		out = append(out, r)
	}
	sort.Strings(out)
	return out
}

// TestDescribeEqualsKafkas compares Describe with the recorded text, to the byte. Where the recorded topology names nodes
// that Leat leaves unnamed, or uses an operator of another shape, the list says so.
func TestDescribeEqualsKafkas(t *testing.T) {
	same := 0
	for _, top := range readLines[vectorTopology](t, filepath.Join(vectorsDir(), "topologies.jsonl")) {
		build := vectorTopologies[top.Name]
		if build == nil {
			continue
		}
		_, topology := buildVector(t, build)
		diff := cmp.Diff(top.Describe, topology.Describe())
		if why := otherShape[top.Name]; why != "" {
			if diff == "" {
				t.Errorf("%s is equal to Kafka's text: take it off the list (%s)", top.Name, why)
			}
			continue
		}
		if diff != "" {
			t.Errorf("%s (-Kafka +Leat):\n%s", top.Name, diff)
			continue
		}
		same++
	}
	t.Log(fmt.Sprint(same, " descriptions are equal to the byte"))
}

// Records on repartition topics are Kafka's to the byte, headers included.
func TestRepartitionRecordsEqualKafkas(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(vectorsDir(), "formats.json"))
	if err != nil {
		t.Fatal(err)
	}
	var formats struct {
		Repartition struct {
			Vectors map[string][]struct {
				Input, Topic, Key, Value string
				TS                       int64 `json:"ts"`
				Headers                  [][]string
			}
		}
	}
	if err := json.Unmarshal(raw, &formats); err != nil {
		t.Fatal(err)
	}
	_, topology := buildVector(t, func(x *vector) {
		x.Stream(strs("A")).GroupBy(func(_, v str) str { return v }).Count(x.kv[str, int64]("n"))
	})
	d := streamstest.New(t, topology, streams.Config{AppID: "v"})
	if len(formats.Repartition.Vectors["stream"]) == 0 {
		t.Fatal("no vectors")
	}
	for _, v := range formats.Repartition.Vectors["stream"] {
		in := strings.Split(v.Input, "|")
		var key []byte
		if in[1] != "~" {
			key = []byte(in[1])
		}
		ts, _ := strconv.ParseInt(in[3], 10, 64)
		opts := []streamstest.Option{at(ts)}
		for _, h := range in[4:] {
			name, value, _ := strings.Cut(h, "=")
			opts = append(opts, streamstest.Headers(streams.Header{Key: name, Value: []byte(value)}))
		}
		d.SendRaw("A", key, []byte(in[2]), opts...)
		got := d.ReadRaw(v.Topic)
		if len(got) != 1 || hex.EncodeToString(got[0].Key) != v.Key || hex.EncodeToString(got[0].Value) != v.Value ||
			got[0].Timestamp.UnixMilli() != v.TS || len(got[0].Headers) != len(v.Headers) {
			t.Errorf("%s: %+v, want %+v", v.Input, got, v)
		}
	}
}
