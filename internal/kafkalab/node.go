package kafkalab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Node is one Apache Kafka process, broker and controller in one. One goroutine at a time may use it.
type Node struct {
	Addr string // host:port of its clients

	java   []string // its command line before the class
	conf   string
	said   bytes.Buffer
	cmd    *exec.Cmd
	exited chan error
}

// NewNodes makes a cluster of n formatted nodes, with their files in folders of dir, and starts none of them. Topics have as
// many replicas as there are nodes, and a write is acknowledged when all but one of three have it. heap is the JVM's -Xmx.
func NewNodes(ctx context.Context, libs, dir, heap string, n int) ([]*Node, error) {
	ports, err := FreePorts(2 * n)
	if err != nil {
		return nil, err
	}
	id := ""
	var nodes []*Node
	for i := range n {
		home := filepath.Join(dir, "node"+strconv.Itoa(i+1))
		node, err := newNode(libs, home, heap, ports[i])
		if err == nil {
			err = os.WriteFile(node.conf, []byte(properties(i, ports, filepath.Join(home, "data"))), 0o600)
		}
		if err == nil && id == "" {
			id, err = node.storageTool(ctx, "random-uuid")
		}
		if err == nil {
			_, err = node.storageTool(ctx, "format", "-t", id, "-c", node.conf)
		}
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, node)
	}
	return nodes, nil
}

func newNode(libs, home, heap string, port int) (*Node, error) {
	if err := os.MkdirAll(home, 0o700); err != nil {
		return nil, err
	}
	logs := filepath.Join(home, "log4j2.yaml")
	quiet := "Configuration:\n  Loggers:\n    Root:\n      level: WARN\n      AppenderRef:\n        ref: out\n  Appenders:\n    Console:\n      name: out\n"
	if err := os.WriteFile(logs, []byte(quiet), 0o600); err != nil {
		return nil, err
	}
	return &Node{
		Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		conf: filepath.Join(home, "server.properties"),
		java: []string{"-Xmx" + heap, "-Dlog4j2.configurationFile=" + logs, "-cp", libs + "/*"},
	}, nil
}

// properties is the server.properties of node i of as many as half the ports: the first half are those of clients, the second
// those of controllers.
func properties(i int, ports []int, data string) string {
	n := len(ports) / 2
	voters := make([]string, n)
	for v := range voters {
		voters[v] = fmt.Sprintf("%d@127.0.0.1:%d", v+1, ports[n+v])
	}
	return fmt.Sprintf(`process.roles=broker,controller
node.id=%[1]d
controller.quorum.voters=%[2]s
listeners=PLAINTEXT://127.0.0.1:%[3]d,CONTROLLER://127.0.0.1:%[4]d
advertised.listeners=PLAINTEXT://127.0.0.1:%[3]d
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=%[5]s
num.partitions=3
default.replication.factor=%[6]d
min.insync.replicas=%[7]d
offsets.topic.replication.factor=%[6]d
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=%[6]d
transaction.state.log.num.partitions=8
transaction.state.log.min.isr=%[7]d
share.coordinator.state.topic.replication.factor=%[6]d
share.coordinator.state.topic.min.isr=%[7]d
group.initial.rebalance.delay.ms=0
log.segment.delete.delay.ms=1000
`, i+1, strings.Join(voters, ","), ports[i], ports[n+i], data, n, (n+1)/2)
}

func (k *Node) storageTool(ctx context.Context, args ...string) (string, error) {
	var said bytes.Buffer
	c := exec.CommandContext(ctx, "java", append(append(k.java[:len(k.java):len(k.java)], "kafka.tools.StorageTool"), args...)...)
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		return "", fmt.Errorf("Apache Kafka's StorageTool %s: %w\n%s%s", args[0], err, out, said.Bytes())
	}
	return strings.TrimSpace(string(out)), nil
}

// Start starts the process, the first time or again after it ended. Whoever starts a node ends it, by Kill or Stop.
func (k *Node) Start() error {
	k.said.Reset()
	k.cmd = exec.Command("java", append(k.java[:len(k.java):len(k.java)], "kafka.Kafka", k.conf)...)
	k.cmd.Stdout, k.cmd.Stderr = &k.said, &k.said
	if err := k.cmd.Start(); err != nil {
		return err
	}
	cmd, exited := k.cmd, make(chan error, 1)
	k.exited = exited
	go func() { exited <- cmd.Wait() }()
	return nil
}

// PID is the process id of a node that was started.
func (k *Node) PID() int { return k.cmd.Process.Pid }

// Wait returns when the node serves. If it does not within three minutes (one with thousands of partitions takes its time), it
// is killed, and the error has what it said.
func (k *Node) Wait(ctx context.Context) error {
	if err := Serving(ctx, k.Addr, k.exited); err != nil {
		k.Kill()
		return fmt.Errorf("Apache Kafka did not start: %w\n%s", err, k.said.Bytes())
	}
	return nil
}

// Kill ends the node as a crash does.
func (k *Node) Kill() {
	k.cmd.Process.Kill()
	k.exited <- <-k.exited // whoever comes next finds it, too
}

// Stop ends the node cleanly, or after two minutes as a crash does.
func (k *Node) Stop() {
	k.cmd.Process.Signal(syscall.SIGTERM)
	patience := time.NewTimer(2 * time.Minute)
	defer patience.Stop()
	select {
	case err := <-k.exited:
		k.exited <- err
	case <-patience.C:
		k.Kill()
	}
}

// Serving waits until the broker at addr answers, the process behind it ends (exited, which keeps what it gives), or three
// minutes have passed.
func Serving(ctx context.Context, addr string, exited chan error) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RetryTimeout(time.Second))
	if err != nil {
		return err
	}
	defer cl.Close()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if err = cl.Ping(ctx); err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		case err := <-exited:
			exited <- err
			return fmt.Errorf("it ended: %w", err)
		}
	}
}
