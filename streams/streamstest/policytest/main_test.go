// Package policytest tests what a topology's author decides about records: how sources are read, what counts as late, and
// what becomes of what goes wrong. It is apart from package streamstest because programs compile faster the fewer types
// they use stores and streams with.
package policytest

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type topic = streams.Topic[string, string]

func at(seconds int) streamstest.Option {
	return streamstest.At(time.Unix(int64(seconds), 0))
}

func build(t *testing.T, b *streams.Builder) *streams.Topology {
	t.Helper()
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return topology
}

// values are those of what was written to a topic.
func values(d *streamstest.Driver, name string) []string {
	var out []string
	for _, r := range d.Read(topic{Name: name}) {
		out = append(out, r.Value)
	}
	return out
}
