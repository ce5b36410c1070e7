package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"
	"strings"

	"github.com/leatstream/leat/internal/kafkalab"
)

// brokerProcess is a broker in a process of its own, or one that somebody else runs. It may be halted and started again on the
// data that it has.
type brokerProcess struct {
	kind, dir string
	addr      string // may be another one after every start
	pid       int    // 0: somebody else runs it

	stdin io.Closer
	cmd   *exec.Cmd
	kafka *kafkalab.Node
}

// startBroker starts a broker of the kind, on no data.
func startBroker(ctx context.Context, kind string) (*brokerProcess, error) {
	b, err := newBroker(ctx, kind)
	if err != nil || b.dir == "" {
		return b, err
	}
	if err := b.start(ctx); err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.dir))
	}
	return b, nil
}

// newBroker makes a broker of the kind, which is not started: leat (flush=os), leat-sync, kfake (in memory), kfake-disk,
// kfake-sync, or kafka, an Apache Kafka node; anything else is the address of a broker that runs already.
func newBroker(ctx context.Context, kind string) (*brokerProcess, error) {
	if !slices.Contains([]string{"leat", "leat-sync", "kfake", "kfake-disk", "kfake-sync", "kafka"}, kind) {
		return &brokerProcess{kind: kind, addr: kind}, nil
	}
	dir, err := os.MkdirTemp("", "leat-bench-")
	if err != nil {
		return nil, err
	}
	b := &brokerProcess{kind: kind, dir: dir}
	if kind == "kafka" {
		b.kafka, err = newKafka(ctx, dir)
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return b, nil
}

// newKafka makes an Apache Kafka node with the files of interop/kafka. Kafka's own default is a heap of 1 GiB.
func newKafka(ctx context.Context, dir string) (*kafkalab.Node, error) {
	libs, err := kafkalab.Jars(ctx, "interop/kafka", kafkalab.BrokerJar)
	if err != nil {
		return nil, fmt.Errorf("Apache Kafka: %w", err)
	}
	nodes, err := kafkalab.NewNodes(ctx, libs, dir, "1g", 1)
	if err != nil {
		return nil, err
	}
	return nodes[0], nil
}

// start starts the process, the first time or again, and returns when its address is known and it serves.
func (b *brokerProcess) start(ctx context.Context) error {
	if b.kafka != nil {
		if err := b.kafka.Start(); err != nil {
			return err
		}
		b.addr, b.pid = b.kafka.Addr, b.kafka.PID()
		return b.kafka.Wait(ctx)
	}
	c, err := childCommand(ctx, "broker", job{Kind: b.kind, Dir: b.dir})
	if err != nil {
		return err
	}
	in, err := c.StdinPipe()
	if err != nil {
		return err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return err
	}
	if err := c.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return errors.Join(fmt.Errorf("broker %s did not start: %w", b.kind, err), c.Wait())
	}
	b.addr, b.pid, b.stdin, b.cmd = strings.TrimSpace(line), c.Process.Pid, in, c
	return nil
}

// halt ends the process, cleanly or as a crash does, and keeps its data.
func (b *brokerProcess) halt(kill bool) {
	switch {
	case b.kafka != nil && kill:
		b.kafka.Kill()
	case b.kafka != nil:
		b.kafka.Stop()
	case b.cmd != nil:
		if kill {
			b.cmd.Process.Kill()
		}
		b.stdin.Close()
		b.cmd.Wait()
	}
}

// stop ends the broker and removes its data.
func (b *brokerProcess) stop() {
	if b.pid == 0 {
		return
	}
	b.halt(false)
	os.RemoveAll(b.dir)
}
