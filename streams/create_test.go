package streams_test

import (
	"strings"
	"testing"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

// A topic that is described twice must be described with one partition count.
func TestBuildRefusesTwoPartitionCounts(t *testing.T) {
	in := streams.Topic[string, string]{Name: "in", Key: serde.String, Value: serde.String, Partitions: 2}
	var b streams.Builder
	s := b.Stream(in)
	out := in
	out.Name = "out"
	s.To(out)
	out.Partitions = 3
	s.To(out)
	if _, err := b.Build(); err == nil || !strings.Contains(err.Error(), `topic "out" is described with 2 partitions and with 3`) || !strings.Contains(err.Error(), "create_test.go:") {
		t.Errorf("Build says %v", err)
	}
	in.Name, in.Partitions = "in", -1
	var c streams.Builder
	c.Stream(in).To(streams.Topic[string, string]{Name: "out"})
	if _, err := c.Build(); err == nil || !strings.Contains(err.Error(), `topic "in" has -1 partitions`) {
		t.Errorf("Build says %v", err)
	}
}
