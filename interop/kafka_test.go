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

// apacheKafka starts one Apache Kafka node, broker and controller in one, in a temporary folder, and returns its address
// once it serves.
func apacheKafka(t *testing.T) string {
	t.Helper()
	libs := kafkaLibs(t)
	dir := t.TempDir()
	port, controller := freePort(t), freePort(t)
	conf := filepath.Join(dir, "server.properties")
	write(t, conf, fmt.Sprintf(`process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:%[2]d
listeners=PLAINTEXT://127.0.0.1:%[1]d,CONTROLLER://127.0.0.1:%[2]d
advertised.listeners=PLAINTEXT://127.0.0.1:%[1]d
controller.listener.names=CONTROLLER
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT
log.dirs=%[3]s
num.partitions=3
offsets.topic.replication.factor=1
offsets.topic.num.partitions=8
transaction.state.log.replication.factor=1
transaction.state.log.num.partitions=8
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
`, port, controller, filepath.Join(dir, "data")))
	logs := filepath.Join(dir, "log4j2.yaml")
	write(t, logs, "Configuration:\n  Loggers:\n    Root:\n      level: WARN\n      AppenderRef:\n        ref: out\n  Appenders:\n    Console:\n      name: out\n")
	java := func(args ...string) []string {
		return append([]string{"-Xmx768m", "-Dlog4j2.configurationFile=" + logs, "-cp", libs + "/*"}, args...)
	}
	id := strings.TrimSpace(run(t, dir, nil, "java", java("kafka.tools.StorageTool", "random-uuid")...))
	run(t, dir, nil, "java", java("kafka.tools.StorageTool", "format", "-t", id, "-c", conf)...)

	var said bytes.Buffer
	c := exec.Command("java", java("kafka.Kafka", conf)...)
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan error, 1)
	go func() { exited <- c.Wait() }()
	t.Cleanup(func() {
		c.Process.Signal(syscall.SIGTERM)
		select {
		case <-exited:
		case <-time.After(30 * time.Second):
			c.Process.Kill()
			<-exited
		}
	})
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if err := serving(t.Context(), addr, exited); err != nil {
		t.Fatalf("Apache Kafka did not start: %v\n%s", err, said.String())
	}
	return addr
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
