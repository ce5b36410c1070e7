package cluster

import (
	"encoding/binary"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/leatstream/leat/streams"
	"github.com/leatstream/leat/streams/internal/failpoint"
)

const (
	zombieCut   = 20 * time.Second
	zombieJoins = 25 * time.Second // the one that goes on
	zombieBack  = 110 * time.Second
)

// An instance is cut off for longer than its session lasts, with a commit in hand, and another one goes on with its task. What the
// first one has in hand must not arrive behind what the other one has written: at least once no broker refuses it.
func TestStateIsNotWrittenByAZombie(t *testing.T) {
	var stall atomic.Pointer[func()] // called with the next record
	slow := func(d time.Duration) func(*world, *process) {
		return func(w *world, p *process) {
			f := func() {
				w.trace.note("cut off")
				p.host.hold()
				<-time.After(d)
			}
			stall.Store(&f)
		}
	}
	for name, cut := range map[string]func(w *world, p *process){
		"its records are on their way": func(w *world, p *process) {
			p.points.Arm(failpoint.CommitBegin, 1, func() error { w.trace.note("cut off"); p.host.hold(); return nil })
		},
		"its function is slow, and done before it is back": slow(zombieBack - zombieCut - 10*time.Second),
		"its function is slow, and done after it is back":  slow(zombieBack - zombieCut),
	} {
		t.Run(name, func(t *testing.T) {
			in, out := streams.Topic[string, string]{Name: "in"}, streams.Topic[string, int64]{Name: "out"}
			var w *world
			s, err := Scenario{
				Topology: func() (*streams.Topology, error) {
					var b streams.Builder
					b.Stream(in).
						MapValues(func(_, v string) (string, error) {
							if f := stall.Swap(nil); f != nil {
								(*f)()
							}
							return v, nil
						}).
						GroupByKey().Count(streams.Store[string, int64]{Name: "counts"}).ToStream().To(out)
					return b.Build()
				},
				Topics: map[string]int{"in": 1, "out": 1},
				Input: func(f *Feed) {
					for range 300 {
						f.Send(in, "k", "v")
					}
					w.later(zombieCut, func() error { cut(w, w.instances[0].now); return nil })
					w.later(zombieJoins, func() error { return w.newInstance().start() })
					w.later(zombieBack, func() error { w.instances[0].now.host.release(); return nil })
				},
				Check:     stateNeverGoesBack,
				Config:    streams.Config{Guarantee: streams.AtLeastOnce},
				Instances: 1,
				Faults:    []Fault{},
				During:    2 * time.Minute,
			}.withDefaults()
			if err != nil {
				t.Fatal(err)
			}
			w = newWorld(&s, 1)
			synctest.Test(t, func(t *testing.T) { w.err = w.run(t.Context()) })
			if w.err == nil {
				w.err = w.check(t)
			}
			if w.err != nil {
				t.Errorf("%v\n%s", w.err, w.trace)
			}
		})
	}
}

// stateNeverGoesBack looks at the changelog of the count of the one key.
func stateNeverGoesBack(o *Outcome) error {
	last := uint64(0)
	for _, r := range o.logs[appID+"-counts-changelog"] {
		n := binary.BigEndian.Uint64(r.Value[len(r.Value)-8:])
		if n < last {
			return fmt.Errorf("at %d the changelog goes back from %d to %d", r.Offset, last, n)
		}
		last = n
	}
	if last < 300 {
		return fmt.Errorf("the changelog ends at %d, want 300 or more", last)
	}
	return nil
}
