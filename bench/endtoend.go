package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// P10: how long a record takes through an application.

// appProcess is an application in a process of its own that runs until it is closed.
type appProcess struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
}

// startApp starts the application of the job in a framework and returns when it is ready.
func startApp(ctx context.Context, in framework, j job) (*appProcess, error) {
	c, err := in(ctx, "app", j)
	if err != nil {
		return nil, err
	}
	stdin, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	a := &appProcess{c, stdin, bufio.NewReader(out)}
	if line, err := a.out.ReadString('\n'); err != nil || strings.TrimSpace(line) != "ready" {
		return nil, errors.Join(fmt.Errorf("the application said %q and not that it is ready: %w", line, err), stdin.Close(), c.Wait())
	}
	return a, nil
}

// kill ends the application as a crash of the machine would.
func (a *appProcess) kill() error {
	if err := a.cmd.Process.Kill(); err != nil {
		return err
	}
	var exit *exec.ExitError
	if err := a.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return nil
}

// close stops the application cleanly and returns its sample.
func (a *appProcess) close() (s sample, err error) {
	err = a.stdin.Close()
	if e := json.NewDecoder(a.out).Decode(&s); e != nil {
		err = errors.Join(err, fmt.Errorf("the application's sample: %w", e))
	}
	return s, errors.Join(err, a.cmd.Wait())
}

// P10
func endToEnd(ctx context.Context, s settings) error {
	f, err := newFixture(ctx, s)
	if err != nil {
		return err
	}
	defer f.b.stop()
	const perSecond = 10_000
	load := job{N: 12 * perSecond, RatePer: perSecond, Warm: 2 * time.Second, Size: 92, Keys: s.keys, Parts: 1}
	for _, c := range []struct {
		figure, kind string
		eos          bool
		every        time.Duration
		goal         float64 // milliseconds
	}{
		{"P10.stateless-alo", "stateless", false, commitEvery, 5},
		{"P10.stateless-100ms", "stateless", true, commitEvery, 110},
		{"P10.count-100ms", "dated", true, commitEvery, 110},
		{"P10.stateless-10ms", "stateless", true, 10 * time.Millisecond, 25},
		{"P10.count-10ms", "dated", true, 10 * time.Millisecond, 25},
	} {
		j := load
		j.Kind, j.EOS, j.Every = c.kind, c.eos, c.every
		got, err := interleave(ctx, s.rounds, f.through("application", j), f.through("bare", load))
		if err != nil {
			return err
		}
		ms := func(s sample) float64 { return s.P99 / 1e3 }
		fmt.Printf("%-18s %.1f ms p99 (target <= %.0f)  p50 %.1f  spread of p99 %s  without an application p50 %.1f, p99 %.1f  CPU application %.0f ns, broker %.0f ns\n",
			c.figure, median(got[0], ms), c.goal, median(got[0], p50)/1e3, spreadOf(got[0], ms), median(got[1], p50)/1e3, median(got[1], ms),
			median(got[0], clientNs), median(got[0], brokerNs))
	}
	return nil
}

// through makes a side that sends the job's load through an application of its kind; without a kind, to a consumer directly.
func (f *fixture) through(name string, j job) side {
	return side{name, func(ctx context.Context, round int) (sample, error) {
		f.runs++
		j := j
		j.Addr, j.Broker = f.b.addr, f.b.pid
		j.ID = fmt.Sprintf("bench-%d-%d", time.Now().UnixMilli(), f.runs)
		j.Topic = j.ID + "-in"
		if j.Kind == "" {
			return work(ctx, "latency", j)
		}
		j.Out = j.ID + "-out"
		if err := createTopics(ctx, j.Addr, j.parts(), j.Topic, j.Out); err != nil {
			return sample{}, err
		}
		app := j
		app.Profile = f.profile(name, j)
		a, err := startApp(ctx, childCommand, app)
		if err != nil {
			return sample{}, err
		}
		s, err := work(ctx, "latency", j)
		own, stopped := a.close()
		s.ClientNs, s.Resident = own.ClientNs, own.Resident
		return s, errors.Join(err, stopped)
	}}
}
