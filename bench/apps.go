package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/leatstream/leat/streams"
	"github.com/twmb/franz-go/pkg/kerr"
)

// The applications that run the topologies.

// application is one that runs.
type application struct {
	app   *streams.App
	stop  context.CancelFunc
	ended chan error
}

// launch starts the application of the job, with its state in dir.
func launch(ctx context.Context, j job, p *probe, dir string) (*application, error) {
	t, err := build(j, p)
	if err != nil {
		return nil, err
	}
	return launchApp(ctx, t, appConfig(j, dir))
}

func launchApp(ctx context.Context, t *streams.Topology, c streams.Config) (*application, error) {
	app, err := streams.New(t, c)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &application{app, cancel, make(chan error, 1)}
	go func() { a.ended <- app.Run(ctx) }()
	return a, nil
}

// until waits for something to happen while the application runs.
func (a *application) until(what <-chan struct{}) error {
	select {
	case <-what:
		return nil
	case err := <-a.ended:
		a.ended <- err
		return errors.Join(errors.New("the application ended before its work did"), err)
	}
}

// close stops the application cleanly.
func (a *application) close() error {
	a.stop()
	return <-a.ended
}

// appConfig says how the job's application runs. With a limit of its process's memory it decides itself what to use of it.
func appConfig(j job, dir string) streams.Config {
	c := streams.Config{AppID: j.ID, Brokers: []string{j.Addr}, StateDir: dir, Workers: 1, CommitInterval: j.Every, MemoryBytes: 1 << 30, LeaveOnStop: true}
	if j.Memory != 0 {
		c.MemoryBytes = 0
	}
	if j.Static {
		c.InstanceID = "one"
	}
	if !j.EOS {
		c.Guarantee = streams.AtLeastOnce
	}
	return c
}

// stateDir makes the folder of the job's state, unless the job names one to come back to, and returns what removes it.
func stateDir(j job) (dir string, remove func(), err error) {
	if j.Dir != "" {
		return j.Dir, func() {}, nil
	}
	dir, err = os.MkdirTemp("", "leat-bench-app-")
	return dir, func() { os.RemoveAll(dir) }, err
}

// launchProbed starts an application of the kind, with its output topic and a state directory, which remove gives back.
func launchProbed(ctx context.Context, j job) (p *probe, a *application, remove func(), err error) {
	if err := createTopics(ctx, j.Addr, j.parts(), j.Out); err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return nil, nil, nil, err
	}
	dir, remove, err := stateDir(j)
	if err != nil {
		return nil, nil, nil, err
	}
	p = newProbe(j)
	if a, err = launch(ctx, j, p, dir); err != nil {
		remove()
		return nil, nil, nil, err
	}
	return p, a, remove, nil
}

// runTopology runs an application of the kind over N records of Topic.
func runTopology(ctx context.Context, j job) (sample, error) {
	p, a, remove, err := launchProbed(ctx, j)
	if err != nil {
		return sample{}, err
	}
	defer remove()
	err = a.until(p.done)
	return p.result, errors.Join(err, a.close())
}

// runApp runs an application of the kind until standard input closes. It prints a line when it is ready, so that others can
// begin; its sample has the CPU time since then for each of the N records that it is to get.
func runApp(ctx context.Context, j job) (sample, error) {
	dir, remove, err := stateDir(j)
	if err != nil {
		return sample{}, err
	}
	defer remove()
	endless := j
	endless.N = math.MaxInt
	a, err := launch(ctx, j, newProbe(endless), dir)
	if err != nil {
		return sample{}, err
	}
	if err := a.until(a.app.Ready()); err != nil {
		return sample{}, errors.Join(err, a.close())
	}
	m := startMeter(j.Broker)
	fmt.Println("ready")
	closed := make(chan struct{})
	go func() {
		io.Copy(io.Discard, os.Stdin)
		close(closed)
	}()
	err = a.until(closed)
	s := m.done(j.N)
	return s, errors.Join(err, a.close())
}

// restart starts a counting application over the state directory j.Dir, and reports how long it took from the start of the
// process until it was ready or, with Restart, until its first record, and how many changelog records it replayed.
func restart(ctx context.Context, j job) (sample, error) {
	started, err := processStart()
	if err != nil {
		return sample{}, err
	}
	p := newProbe(j)
	a, err := launch(ctx, j, p, j.Dir)
	if err != nil {
		return sample{}, err
	}
	wait := a.app.Ready()
	if j.Restart {
		wait = p.first
	}
	if err := a.until(wait); err != nil {
		return sample{}, errors.Join(err, a.close())
	}
	took := time.Since(started)
	replayed := float64(a.app.RestoredRecords())
	return sample{Rate: replayed / took.Seconds(), P50: float64(took.Microseconds()), Extra: replayed}, a.close()
}

// countManyKeys is runTopology in a process whose memory is limited, with the share of its CPU time that went into garbage
// collection.
func countManyKeys(ctx context.Context, j job) (sample, error) {
	if j.Memory > 0 {
		debug.SetMemoryLimit(j.Memory)
	}
	before := readGC()
	s, err := runTopology(ctx, j)
	s.Extra = readGC().share(before)
	return s, err
}

// gcTimes are CPU seconds, as the runtime estimates them.
type gcTimes struct{ gc, idle, total float64 }

func readGC() gcTimes {
	ms := []metrics.Sample{{Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/idle:cpu-seconds"}, {Name: "/cpu/classes/total:cpu-seconds"}}
	metrics.Read(ms)
	return gcTimes{ms[0].Value.Float64(), ms[1].Value.Float64(), ms[2].Value.Float64()}
}

// share is that of garbage collection in the CPU time that was used since before, idle time left out.
func (t gcTimes) share(before gcTimes) float64 {
	used := t.total - before.total - (t.idle - before.idle)
	if used <= 0 {
		return 0
	}
	return (t.gc - before.gc) / used
}
