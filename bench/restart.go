package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// P9: what a restart costs.

// counted is an application of a framework that has counted every key of a topic: its changelog holds one record a key, and its
// state directory the same.
type counted struct {
	in    framework
	f     *fixture
	state string
	job   job
}

// newCounted starts a broker, writes the keys, and has them counted. Who asks for one has to close it.
func newCounted(ctx context.Context, s settings, in framework, broker string) (*counted, error) {
	s.broker = broker
	f, err := newFixture(ctx, s, job{Topic: "keys", N: s.keys, Keys: s.keys})
	if err != nil {
		return nil, err
	}
	state, err := os.MkdirTemp("", "leat-bench-state-")
	if err != nil {
		f.b.stop()
		return nil, err
	}
	c := &counted{in, f, state, job{Kind: "count", Addr: f.b.addr, Broker: f.b.pid, Topic: "keys", Out: "counted-out", ID: "counted",
		Dir: filepath.Join(state, "count"), N: s.keys, Keys: s.keys, Every: commitEvery, EOS: true, Static: true}}
	if err = createTopics(ctx, f.b.addr, partitions, c.job.Out); err == nil {
		_, err = c.run(ctx, "topology", c.job)
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

func (c *counted) close() {
	c.f.b.stop()
	os.RemoveAll(c.state)
}

// wipe deletes the state directory.
func (c *counted) wipe() error { return os.RemoveAll(c.job.Dir) }

// run runs a job in the framework.
func (c *counted) run(ctx context.Context, role string, j job) (sample, error) {
	cmd, err := c.in(ctx, role, j)
	if err != nil {
		return sample{}, err
	}
	return output(cmd)
}

// P9: an application that counts a steady stream over keys that it has all seen is killed and started again; on its state, and
// without. The same with Kafka Streams.
func killing(ctx context.Context, s settings) error {
	if err := killed(ctx, s, "P9", childCommand, s.broker); err != nil {
		return err
	}
	java, remove, err := kafkaStreams(ctx)
	if err != nil {
		return err
	}
	defer remove()
	return killed(ctx, s, "P9.kafka-streams", java, "kafka")
}

// killed prints the two figures of one framework.
func killed(ctx context.Context, s settings, figure string, in framework, broker string) error {
	c, err := newCounted(ctx, s, in, broker)
	if err != nil {
		return err
	}
	defer c.close()
	for _, one := range []struct {
		figure, goal string
		wiped        bool
	}{{figure, " (target of ours <= 1000 ms, <= 300k)", false}, {figure + "-wiped", "", true}} {
		var ms, replayed []sample
		for range s.rounds {
			s, err := c.kill(ctx, one.wiped)
			if err != nil {
				return fmt.Errorf("%s: %w", one.figure, err)
			}
			ms, replayed = append(ms, sample{Rate: s.P50 / 1e3}), append(replayed, sample{Rate: s.Extra})
		}
		fmt.Printf("%-22s %.0f ms from process start to the first record, %s records replayed%s  spread %s ms, %s records  %s keys of state\n",
			one.figure, median(ms, rate), thousands(median(replayed, rate)), one.goal, spread(ms), spread(replayed), thousands(float64(s.keys)))
	}
	return nil
}

// kill runs the application under a steady load of 100,000 records a second, kills it after ten seconds, when a virtual machine
// is warm, too, and measures the next start, on the state that is there or on none.
func (c *counted) kill(ctx context.Context, wiped bool) (sample, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	victim, err := startApp(ctx, c.in, c.job)
	if err != nil {
		return sample{}, err
	}
	feed := c.job
	feed.RatePer, feed.N = 100_000, 1_000_000
	_, err = work(ctx, "feed", feed)
	if err := errors.Join(err, victim.kill()); err != nil {
		return sample{}, err
	}
	if wiped {
		if err := c.wipe(); err != nil {
			return sample{}, err
		}
	}
	more := make(chan error, 1)
	go func() {
		_, err := work(ctx, "feed", feed) // so that there is a first record to meet
		more <- err
	}()
	again := c.job
	c.f.runs++
	again.Restart, again.Profile = true, c.f.profile("restarted", again)
	s, err := c.run(ctx, "restart", again)
	return s, errors.Join(err, <-more)
}

// processStart is when this process was started, by the kernel's account, to 10 ms.
func processStart() (time.Time, error) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return time.Time{}, err
	}
	up, err := os.ReadFile("/proc/uptime")
	if err != nil {
		return time.Time{}, err
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+2:]))
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return time.Time{}, err
	}
	seconds, err := strconv.ParseFloat(strings.Fields(string(up))[0], 64)
	if err != nil {
		return time.Time{}, err
	}
	age := time.Duration(seconds*float64(time.Second)) - time.Duration(ticks)*10*time.Millisecond
	return time.Now().Add(-age), nil
}
