//go:build interop

package interop

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
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const kafkaVersion = "4.3.1"

// kafkaLibs has Maven fetch Apache Kafka's jars and returns the folder.
func kafkaLibs(t *testing.T) string {
	t.Helper()
	java := "default-jdk-headless"
	need(t, "java", java)
	need(t, "mvn", "maven")
	libs, err := filepath.Abs("kafka/libs")
	if err != nil {
		t.Fatal(err)
	}
	if jars, _ := filepath.Glob(filepath.Join(libs, "kafka_2.13-"+kafkaVersion+".jar")); len(jars) == 0 {
		run(t, "kafka", nil, "mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=libs")
	}
	return libs
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port
}

// kafkaNode is one Apache Kafka process, broker and controller in one, with its files in a temporary folder.
type kafkaNode struct {
	addr   string
	java   []string // its command line before the class
	conf   string
	said   bytes.Buffer
	cmd    *exec.Cmd
	exited chan error
}

// apacheKafka starts one Apache Kafka node and returns its address once it serves.
func apacheKafka(t *testing.T) string { return apacheKafkas(t, 1)[0].addr }

// apacheKafkas starts a cluster of n nodes and returns them once they serve. Topics have as many replicas as there are
// nodes, and a write is acknowledged when all but one of three have it.
func apacheKafkas(t *testing.T, n int) []*kafkaNode {
	t.Helper()
	libs := kafkaLibs(t)
	ports, voters := make([]int, 2*n), make([]string, n)
	for i := range ports {
		ports[i] = freePort(t)
	}
	for i := range voters {
		voters[i] = fmt.Sprintf("%d@127.0.0.1:%d", i+1, ports[n+i])
	}
	heap := "-Xmx768m"
	if n > 1 {
		heap = "-Xmx384m"
	}
	id := ""
	var nodes []*kafkaNode
	for i := range n {
		dir := t.TempDir()
		node := &kafkaNode{addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(ports[i])), conf: filepath.Join(dir, "server.properties")}
		write(t, node.conf, fmt.Sprintf(`process.roles=broker,controller
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
`, i+1, strings.Join(voters, ","), ports[i], ports[n+i], filepath.Join(dir, "data"), n, (n+1)/2))
		logs := filepath.Join(dir, "log4j2.yaml")
		write(t, logs, "Configuration:\n  Loggers:\n    Root:\n      level: WARN\n      AppenderRef:\n        ref: out\n  Appenders:\n    Console:\n      name: out\n")
		node.java = []string{heap, "-Dlog4j2.configurationFile=" + logs, "-cp", libs + "/*"}
		if id == "" {
			id = strings.TrimSpace(run(t, dir, nil, "java", append(node.java, "kafka.tools.StorageTool", "random-uuid")...))
		}
		run(t, dir, nil, "java", append(node.java, "kafka.tools.StorageTool", "format", "-t", id, "-c", node.conf)...)
		nodes = append(nodes, node)
	}
	for _, node := range nodes {
		node.start(t)
		t.Cleanup(node.stop)
	}
	for _, node := range nodes {
		node.wait(t)
	}
	return nodes
}

func (k *kafkaNode) start(t *testing.T) {
	t.Helper()
	k.cmd = exec.Command("java", append(k.java, "kafka.Kafka", k.conf)...)
	k.cmd.Stdout, k.cmd.Stderr = &k.said, &k.said
	if err := k.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	k.exited = exited
	cmd := k.cmd
	go func() { exited <- cmd.Wait() }()
}

// wait returns when the node serves.
func (k *kafkaNode) wait(t *testing.T) {
	t.Helper()
	if err := serving(t.Context(), k.addr, k.exited); err != nil {
		k.kill()
		t.Fatalf("Apache Kafka did not start: %v\n%s", err, k.said.String())
	}
}

// kill ends the node as a crash does.
func (k *kafkaNode) kill() {
	k.cmd.Process.Kill()
	k.exited <- <-k.exited // whoever comes next finds it, too
}

func (k *kafkaNode) stop() {
	k.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-k.exited:
	case <-time.After(30 * time.Second):
		k.cmd.Process.Kill()
		<-k.exited
	}
}

// serving waits until the broker at addr answers, the process behind it ends, or a minute has passed.
func serving(ctx context.Context, addr string, exited chan error) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RetryTimeout(time.Second))
	if err != nil {
		return err
	}
	defer cl.Close()
	tick := time.NewTicker(100 * time.Millisecond)
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
			exited <- err // the cleanup waits for it too
			return fmt.Errorf("it ended: %w", err)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
