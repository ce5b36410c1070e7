package registry

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// confluentTopic reads a file of testdata/confluent: keys and values by turns.
func confluentTopic(t *testing.T, name string) [][2]string {
	t.Helper()
	text, err := os.ReadFile("testdata/confluent/" + name)
	if err != nil {
		t.Fatal(err)
	}
	var list [][2]string
	for line := range strings.Lines(string(text)) {
		key, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok {
			t.Fatalf("%s: %q is no record", name, line)
		}
		list = append(list, [2]string{key, value})
	}
	return list
}

// operate sends the requests of testdata/confluent/operations.txt.
func operate(t *testing.T, s *Server) {
	t.Helper()
	text, err := os.ReadFile("testdata/confluent/operations.txt")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		parts := strings.SplitN(strings.TrimSpace(line), " ", 3)
		body := ""
		if len(parts) == 3 {
			body = parts[2]
		}
		if a := do(t, s, parts[0], parts[1], body); a.status != 200 {
			t.Fatalf("%s %s: %d %s", parts[0], parts[1], a.status, a.body)
		}
	}
}

// TestConfluentBytes compares what is written for a list of requests with what Confluent's registry writes for them, byte by
// byte.
func TestConfluentBytes(t *testing.T) {
	c := newCluster(t)
	operate(t, start(t, c.ListenAddrs()))
	var got [][2]string
	for _, r := range records(t, c.ListenAddrs(), "_schemas") {
		value := "null"
		if r.Value != nil {
			value = string(r.Value)
		}
		got = append(got, [2]string{string(r.Key), value})
	}
	if d := cmp.Diff(confluentTopic(t, "topic.tsv"), got); d != "" {
		t.Errorf("(-Confluent +ours):\n%s", d)
	}
}

// everything is what the API says about the subjects of the operations.
func everything(t *testing.T, s *Server) string {
	t.Helper()
	var b strings.Builder
	for _, path := range []string{"/schemas?deleted=true&subjectPrefix=:*:", "/subjects?deleted=true", "/contexts", "/config", "/config/orders-value", "/mode/money",
		"/mode/orders-value", "/schemas/ids/4", "/schemas/ids/17", "/subjects/money/versions"} {
		a := do(t, s, "GET", path, "")
		fmt.Fprintf(&b, "%s %d %s\n", path, a.status, timestamps.ReplaceAllString(a.body, ""))
	}
	// Ids go on where Confluent's registry would go on.
	a := do(t, s, "POST", "/subjects/new/versions", schemaBody(`"float"`))
	fmt.Fprintf(&b, "%d %s\n", a.status, timestamps.ReplaceAllString(a.body, ""))
	return b.String()
}

// TestConfluentServed serves the topic as Confluent's registries of two ages wrote it, as it is and compacted: the answers are
// those of the registry that wrote it itself.
func TestConfluentServed(t *testing.T) {
	c := newCluster(t)
	s := start(t, c.ListenAddrs())
	operate(t, s)
	want := everything(t, s)
	for _, name := range []string{"topic.tsv", "confluent7.tsv"} {
		for _, compacted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s compacted=%v", name, compacted), func(t *testing.T) {
				list := confluentTopic(t, name)
				if compacted {
					list = compact(list)
				}
				s := start(t, topicOf(t, list))
				if d := cmp.Diff(want, everything(t, s)); d != "" {
					t.Errorf("(-own +Confluent's):\n%s", d)
				}
			})
		}
	}
}

// compact keeps the last record of each key, and its place.
func compact(list [][2]string) [][2]string {
	last := make(map[string]int)
	for i, r := range list {
		last[r[0]] = i
	}
	var kept [][2]string
	for i, r := range list {
		if last[r[0]] == i {
			kept = append(kept, r)
		}
	}
	return kept
}

// topicOf makes a topic of schemas with these records, and returns its brokers.
func topicOf(t *testing.T, list [][2]string) []string {
	t.Helper()
	c := newCluster(t)
	cl, err := kgo.NewClient(kgo.SeedBrokers(c.ListenAddrs()...), kgo.DefaultProduceTopic("_schemas"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	policy := "compact"
	if _, err := kadm.NewClient(cl).CreateTopic(t.Context(), 1, 1, map[string]*string{"cleanup.policy": &policy}, "_schemas"); err != nil {
		t.Fatal(err)
	}
	for _, r := range list {
		record := &kgo.Record{Key: []byte(r[0])}
		if r[1] != "null" {
			record.Value = []byte(r[1])
		}
		if err := cl.ProduceSync(t.Context(), record).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return c.ListenAddrs()
}
