package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/leatstream/leat/internal/kafkalab"
)

// P5 and P17: the same topologies in other frameworks.

// framework makes the program that does a job and prints its sample; ours is childCommand. The others have one role for all that
// is not "restart".
type framework func(ctx context.Context, role string, j job) (*exec.Cmd, error)

// kafkaStreams compiles the Java program and returns what runs it, and what removes it.
func kafkaStreams(ctx context.Context) (in framework, remove func(), err error) {
	const home = "bench/kafkastreams"
	libs, err := kafkalab.Jars(ctx, home, "kafka-streams-"+kafkalab.Version+".jar")
	if err == nil {
		err = kafkalab.Require("javac", "default-jdk-headless")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("Kafka Streams: %w", err)
	}
	classes, err := os.MkdirTemp("", "leat-bench-java-")
	if err != nil {
		return nil, nil, err
	}
	remove = func() { os.RemoveAll(classes) }
	if out, err := exec.CommandContext(ctx, "javac", "-cp", libs+"/*", "-d", classes, filepath.Join(home, "Bench.java")).CombinedOutput(); err != nil {
		remove()
		return nil, nil, fmt.Errorf("javac: %w\n%s", err, out)
	}
	return func(ctx context.Context, role string, j job) (*exec.Cmd, error) {
		c := exec.CommandContext(ctx, "java", append([]string{"-Xmx2g", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
			"-cp", classes + ":" + libs + "/*", "Bench"}, javaArguments(role, j)...)...)
		c.Stderr = os.Stderr
		return c, nil
	}, remove, nil
}

// javaArguments is the job as the Java program reads it. The records of a stream join are those of both sides.
func javaArguments(role string, j job) []string {
	return []string{"role=" + role, "kind=" + j.Kind, "addr=" + j.Addr, "broker=" + strconv.Itoa(j.Broker), "topic=" + j.Topic, "other=" + j.Other, "out=" + j.Out,
		"id=" + j.ID, "dir=" + j.Dir, "n=" + strconv.Itoa(j.N), "every=" + strconv.FormatInt(j.Every.Milliseconds(), 10),
		"static=" + strconv.FormatBool(j.Static)}
}

// lovooGoka builds the program of the module bench/goka into dir and returns what runs it.
func lovooGoka(ctx context.Context, dir string) (framework, error) {
	bin := filepath.Join(dir, "goka")
	c := exec.CommandContext(ctx, "go", "build", "-o", bin, ".")
	c.Dir = "bench/goka"
	if out, err := c.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build in bench/goka, which gets github.com/lovoo/goka by the Go module proxy: %w\n%s", err, out)
	}
	return func(ctx context.Context, _ string, j job) (*exec.Cmd, error) {
		arg, err := json.Marshal(j)
		if err != nil {
			return nil, err
		}
		c := exec.CommandContext(ctx, bin, string(arg))
		c.Stderr = os.Stderr
		return c, nil
	}, nil
}

// by makes a side that runs the job in a framework. Its topics are deleted after it.
func (f *fixture) by(name string, in framework, j job) side {
	return side{name, func(ctx context.Context, round int) (s sample, err error) {
		f.runs++
		j := j
		j.Addr, j.Broker = f.b.addr, f.b.pid
		j.ID = fmt.Sprintf("bench-%d-%d", time.Now().UnixMilli(), f.runs)
		j.Out = j.ID + "-out"
		if j.Dir, err = os.MkdirTemp("", "leat-bench-app-"); err != nil {
			return s, err
		}
		defer os.RemoveAll(j.Dir)
		if err := createTopics(ctx, j.Addr, partitions, j.Out); err != nil {
			return s, err
		}
		j.Profile = f.profile(name, j)
		c, err := in(ctx, "topology", j)
		if err != nil {
			return s, err
		}
		s, err = output(c)
		return s, errors.Join(err, deleteTopics(ctx, j.Addr, j.ID))
	}}
}

// P5: on an Apache Kafka node, and on our broker.
func besideKafkaStreams(ctx context.Context, s settings) error {
	java, remove, err := kafkaStreams(ctx)
	if err != nil {
		return err
	}
	defer remove()
	for _, on := range []struct{ broker, suffix string }{{"kafka", ""}, {"leat", "-on-leat"}} {
		s := s
		s.broker = on.broker
		if err := besideOn(ctx, s, java, on.suffix); err != nil {
			return err
		}
	}
	return nil
}

// besideOn runs all topologies on one broker.
func besideOn(ctx context.Context, s settings, java framework, suffix string) error {
	begin, half := epoch(), s.records/2
	f, err := newFixture(ctx, s,
		job{Topic: "uniform", N: s.records, Keys: s.keys, Event: eventRate, Begin: begin},
		job{Topic: "zipf", N: s.records, Keys: s.keys, Zipf: true, Event: eventRate, Begin: begin},
		job{Topic: "rows", N: s.keys, Keys: s.keys, Event: eventRate, Begin: begin.Add(-time.Hour)}, // before the stream that is joined with it
		job{Topic: "left", N: half, Keys: s.keys, Event: eventRate / 2, Begin: begin},
		job{Topic: "right", N: half, Keys: s.keys, Event: eventRate / 2, Begin: begin, Seed: 1})
	if err != nil {
		return err
	}
	defer f.b.stop()
	for _, c := range []struct{ figure, goal, kind, topic, other string }{
		{"P5.stateless", ">= 2.5", "stateless", "uniform", ""},
		{"P5.count-uniform", ">= 5.0", "count", "uniform", ""},
		{"P5.count-zipf", ">= 5.0", "count", "zipf", ""},
		{"P5.windowed", ">= 5.0", "windowed", "uniform", ""},
		{"P5.table-join", ">= 4.0", "table-join", "uniform", "rows"},
		{"P5.stream-join", ">= 4.0", "stream-join", "left", "right"},
	} {
		j := job{Kind: c.kind, Topic: c.topic, Other: c.other, Every: commitEvery, EOS: true, N: s.records}
		if c.kind == "stream-join" {
			j.N = 2 * half
		}
		got, err := interleave(ctx, s.rounds, f.by("leat", childCommand, j), f.by("Kafka Streams", java, j))
		if err != nil {
			return fmt.Errorf("%s: %w", c.figure+suffix, err)
		}
		printRatio(c.figure+suffix, c.goal, "leat", "Kafka Streams", got[0], got[1])
		cpu, memory := median(got[0], clientNs)/median(got[1], clientNs), median(got[0], resident)/median(got[1], resident)
		fmt.Printf("%-18s CPU %.2f (target <= 0.25), resident memory %.2f (target <= 0.30)  %.0f MB | %.0f MB  Kafka Streams from a fifth on %s/s\n",
			c.figure+suffix+"-cost", cpu, memory, median(got[0], resident), median(got[1], resident), thousands(median(got[1], extra)))
	}
	return nil
}

// P17: goka at least once, we exactly once.
func besideGoka(ctx context.Context, s settings) error {
	dir, err := os.MkdirTemp("", "leat-bench-goka-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	goka, err := lovooGoka(ctx, dir)
	if err != nil {
		return err
	}
	f, err := newFixture(ctx, s, job{Topic: "in", N: s.records, Keys: s.keys})
	if err != nil {
		return err
	}
	defer f.b.stop()
	for _, kind := range []string{"stateless", "count"} {
		j := job{Kind: kind, Topic: "in", Every: commitEvery, EOS: true, N: s.records}
		if err := compare(ctx, "P17."+kind, ">= 4.0", s.rounds, f.by("leat", childCommand, j), f.by("goka", goka, j)); err != nil {
			return err
		}
	}
	return nil
}
