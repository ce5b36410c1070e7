package dsltest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/streamstest"
)

var (
	in      = streams.Topic[string, string]{Name: "in"}
	out     = streams.Topic[string, string]{Name: "out"}
	lengths = streams.Topic[int64, string]{Name: "lengths"}
	long    = streams.Output[int64, string]{Name: "long"}
	broken  = streams.Output[string, string]{Name: "broken"}
)

// route emits short words to its children, long ones to an output of other types.
func route(t *streams.Task, emit streams.Emit[string, string]) (streams.Processor[string, string], error) {
	long := t.Output(long)
	return func(_ context.Context, r streams.Record[string, string]) error {
		if len(r.Value) > 3 {
			return long(streams.Record[int64, string]{Key: int64(len(r.Value)), Value: r.Value, Time: r.Time})
		}
		return emit(r)
	}, nil
}

func TestOutputsHaveTypesOfTheirOwn(t *testing.T) {
	var b streams.Builder
	routed := b.Stream(in).Process("route", route)
	routed.To(out)
	routed.Output(long).To(lengths).Named("to-lengths")
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, topology)
	d.Send(in, "k", "abc")
	d.Send(in, "k", "abcde")
	if got := d.Read(out); len(got) != 1 || got[0].Value != "abc" {
		t.Errorf("out: %v", got)
	}
	if got := d.Read(lengths); len(got) != 1 || got[0].Key != 5 || got[0].Value != "abcde" {
		t.Errorf("lengths: %v", got)
	}
	if text := topology.Describe(); !strings.Contains(text, "Sink: to-lengths (topic: lengths)\n      <-- route\n") {
		t.Errorf("the output's sink is not below its processor:\n%s", text)
	}
}

// What groups by an output's key is repartitioned, as after Process.
func TestOutputsAreRekeyed(t *testing.T) {
	var b streams.Builder
	counts := streams.Store[int64, int64]{Name: "by-length"}
	b.Stream(in).Process("route", route).Output(long).WithSerdes(nil, serde.String).GroupByKey().Count(counts)
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, topology)
	for _, word := range []string{"three", "seven", "no"} {
		d.Send(in, "k", word)
	}
	if n, ok := d.Store(counts).Get(5); !ok || n != 2 {
		t.Errorf("counted %d, %t; want 2", n, ok)
	}
	if !strings.Contains(topology.Describe(), "by-length-repartition") {
		t.Error("no repartition topic")
	}
}

func TestOutputMistakes(t *testing.T) {
	var b streams.Builder
	s := b.Stream(in)
	s.Filter(func(_, _ string) bool { return true }).Output(long)
	p := s.Process("route", route)
	p.Output(long)
	p.Output(long)
	p.Output(streams.Output[string, string]{})
	_, err := b.Build()
	for _, want := range []string{"only processors have outputs", `output "long" of processor "route" is taken twice`, "has no name"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that says %q", err, want)
		}
	}
}

// A processor that emits where nobody listens, or with other types, does not open.
func TestOutputThatIsNotWired(t *testing.T) {
	for want, wire := range map[string]func(*streams.KStream[string, string]){
		"which no stream was made of": func(*streams.KStream[string, string]) {},
		"not an emitter of these types": func(s *streams.KStream[string, string]) {
			s.Output(streams.Output[string, string]{Name: "long"})
		},
	} {
		var b streams.Builder
		wire(b.Stream(in).Process("route", route))
		topology, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := started(topology.Engine(), &engine.Env{AppID: "a"}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one that says %q", err, want)
		}
	}
}

// Punctuators emit to outputs, and an output that nobody asks for is opened all the same.
func TestOutputsOfPunctuators(t *testing.T) {
	var b streams.Builder
	opened := false
	p := b.Stream(in).ProcessValues("tick", func(t *streams.Task, _ streams.Emit[string, string]) (streams.Processor[string, string], error) {
		long := t.Output(long)
		t.Every(time.Second, streams.WallClock, func(context.Context, time.Time) error {
			return long(streams.Record[int64, string]{Key: 1, Value: "tick"})
		})
		return func(context.Context, streams.Record[string, string]) error { return nil }, nil
	})
	p.Output(long).To(lengths)
	p.Output(broken).Process("below", func(*streams.Task, streams.Emit[string, string]) (streams.Processor[string, string], error) {
		opened = true
		return func(context.Context, streams.Record[string, string]) error { return nil }, nil
	})
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	d := streamstest.New(t, topology)
	d.Send(in, "k", "v")
	d.Advance(time.Second)
	if got := d.Read(lengths); len(got) == 0 || got[0].Value != "tick" {
		t.Errorf("lengths: %v", got)
	}
	if !opened {
		t.Error("the processor below the output was not opened")
	}
}
