package streamstest_test

import (
	"context"
	"testing"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/streamstest"
)

// A null key under a plain key type is asked about again after a retry, and counted when it is skipped.
func TestNullKeyIsRetriedAndThenSkipped(t *testing.T) {
	in := streams.Topic[string, string]{Name: "in", Key: serde.String, Value: serde.String}
	out := in
	out.Name = "out"
	var b streams.Builder
	b.Stream(in).To(out)
	top, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	var attempts []int
	d := streamstest.New(t, top, streams.Config{OnError: func(_ context.Context, e *streams.RecordError) streams.Decision {
		attempts = append(attempts, e.Attempt)
		if e.Attempt < 3 {
			return streams.Retry(0)
		}
		return streams.Skip()
	}})
	d.SendRaw("in", nil, []byte("v"))
	d.Send(in, "k", "w")
	if len(attempts) != 3 || attempts[2] != 3 {
		t.Errorf("OnError was asked with attempts %v, want 1 2 3", attempts)
	}
	if got := d.Dropped().Skipped; got != 1 {
		t.Errorf("%d records were skipped, want 1", got)
	}
	if got := d.Read(out); len(got) != 1 || got[0].Key != "k" {
		t.Errorf("out has %v", got)
	}
}
