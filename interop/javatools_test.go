//go:build interop

package interop

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// javaTools is a JVM in which Apache Kafka's tools run one after another, unmodified: starting one for each costs seconds.
type javaTools struct {
	t     *testing.T
	in    io.WriteCloser
	out   *bufio.Reader
	addr  string
	noise *strings.Builder
}

// startTools starts the JVM for tools that talk to the broker at addr.
func startTools(t *testing.T, addr string) *javaTools {
	t.Helper()
	libs := kafkaLibs(t)
	j := &javaTools{t: t, addr: addr, noise: new(strings.Builder)}
	c := exec.CommandContext(t.Context(), "java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=ERROR", "-cp", libs+"/*", "kafka/src/Tools.java")
	c.Stderr = j.noise
	var err error
	if j.in, err = c.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	j.out = bufio.NewReader(out)
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		j.in.Close()
		end := time.AfterFunc(20*time.Second, func() { c.Process.Kill() })
		defer end.Stop()
		c.Wait()
	})
	return j
}

const tools = "org.apache.kafka.tools."

// run runs a tool and returns its exit code and all that it printed.
func (j *javaTools) run(stdin, class string, args ...string) (int, string) {
	j.t.Helper()
	command := append([]string{class, "--bootstrap-server", j.addr}, args...)
	enc := base64.StdEncoding.EncodeToString
	if _, err := fmt.Fprintf(j.in, "%s %s\n", enc([]byte(strings.Join(command, "\x00")+"\x00")), enc([]byte(stdin))); err != nil {
		j.t.Fatalf("the JVM is gone: %v\n%s", err, j.noise)
	}
	line, err := j.out.ReadString('\n')
	if err != nil {
		j.t.Fatalf("%s: the JVM is gone: %v\n%s", class, err, j.noise)
	}
	fields := strings.Split(strings.TrimSpace(line), " ")
	var code int
	var text [2][]byte
	if _, err = fmt.Sscan(fields[0], &code); err == nil {
		for i := range text {
			if i+1 < len(fields) {
				if text[i], err = base64.StdEncoding.DecodeString(fields[i+1]); err != nil {
					break
				}
			}
		}
	}
	if err != nil {
		j.t.Fatalf("%s: %q: %v", class, line, err)
	}
	return code, string(text[0]) + string(text[1])
}

// want runs a tool that must end well and print what matches all patterns.
func (j *javaTools) want(patterns []string, stdin, class string, args ...string) string {
	j.t.Helper()
	code, out := j.run(stdin, class, args...)
	if code != 0 {
		j.t.Fatalf("%s %q: exit %d\n%s", class, args, code, out)
	}
	for _, p := range patterns {
		if !regexp.MustCompile(p).MatchString(out) {
			j.t.Errorf("%s %q prints nothing like %q:\n%s", class, args, p, out)
		}
	}
	return out
}

func (j *javaTools) topics(patterns []string, args ...string) string {
	j.t.Helper()
	return j.want(patterns, "", tools+"TopicCommand", args...)
}

// TestJavaTools has Apache Kafka's tools do all that users do with them. What they print against Apache Kafka is the same: against in
// place of leatBroker shows it, at the price of a node's start.
func TestJavaTools(t *testing.T) {
	j := startTools(t, leatBroker(t))
	t.Run("topics", j.sub((*javaTools).testTopics))
	t.Run("records", j.sub((*javaTools).testRecords))
	t.Run("groups", j.sub((*javaTools).testGroups))
	t.Run("transactions", j.sub((*javaTools).testTransactions))
}

func (j *javaTools) sub(f func(*javaTools)) func(*testing.T) {
	return func(t *testing.T) {
		inner := *j
		inner.t = t
		f(&inner)
	}
}

func (j *javaTools) testTopics() {
	const class = "kafka.admin.ConfigCommand"
	j.topics([]string{`Created topic tools`}, "--create", "--topic", "tools", "--partitions", "2", "--replication-factor", "1", "--config", "retention.ms=86400000")
	j.topics([]string{`(?m)^tools$`}, "--list")
	j.topics([]string{`PartitionCount: 2\s+ReplicationFactor: 1\s+Configs: .*retention.ms=86400000`, `Topic: tools\s+Partition: 1\s+Leader: 1\s+Replicas: 1\s+Isr: 1`},
		"--describe", "--topic", "tools")
	j.topics(nil, "--alter", "--topic", "tools", "--partitions", "3")
	j.topics([]string{`PartitionCount: 3`}, "--describe", "--topic", "tools")
	j.want([]string{`Completed updating config for topic tools`}, "", class, "--alter", "--entity-type", "topics", "--entity-name", "tools",
		"--add-config", "cleanup.policy=compact,max.message.bytes=2000000", "--delete-config", "retention.ms")
	out := j.want([]string{`cleanup.policy=compact`, `max.message.bytes=2000000`}, "", class, "--describe", "--entity-type", "topics", "--entity-name", "tools")
	if strings.Contains(out, "retention.ms=86400000") {
		j.t.Errorf("retention.ms is still set: %s", out)
	}
	if code, out := j.run("", class, "--alter", "--entity-type", "topics", "--entity-name", "tools", "--add-config", "cleanup.policy=sometimes"); code == 0 || !strings.Contains(out, "InvalidConfig") {
		j.t.Errorf("a value that is none: exit %d, %s", code, out)
	}
	if code, out := j.run("", tools+"TopicCommand", "--create", "--topic", "tools"); code == 0 || !strings.Contains(out, "already exists") {
		j.t.Errorf("create again: exit %d, %s", code, out)
	}
	j.topics(nil, "--delete", "--topic", "tools")
	if out := j.topics(nil, "--list"); regexp.MustCompile(`(?m)^tools$`).MatchString(out) {
		j.t.Errorf("the topic is still there:\n%s", out)
	}
}

func (j *javaTools) testRecords() {
	j.topics(nil, "--create", "--topic", "records", "--partitions", "1", "--replication-factor", "1")
	for _, codec := range codecs {
		j.want(nil, "a:1\nb:"+codec+"\nb:NULL\n", tools+"ConsoleProducer", "--topic", "records", "--compression-codec", codec, "--reader-property", "parse.key=true",
			"--reader-property", "key.separator=:", "--reader-property", "null.marker=NULL")
	}
	out := j.want(nil, "", tools+"consumer.ConsoleConsumer", "--topic", "records", "--from-beginning", "--max-messages", "15", "--timeout-ms", "15000",
		"--formatter-property", "print.key=true", "--formatter-property", "print.offset=true", "--formatter-property", "null.literal=NULL", "--formatter-property", "key.separator=:")
	for i, codec := range codecs {
		want := fmt.Sprintf("Offset:%d:a:1\nOffset:%d:b:%s\nOffset:%d:b:NULL\n", 3*i, 3*i+1, codec, 3*i+2)
		if !strings.Contains(out, want) {
			j.t.Errorf("%s: no %q in\n%s", codec, want, out)
		}
	}
	j.want([]string{`(?m)^records:0:15$`}, "", tools+"GetOffsetShell", "--topic", "records", "--time", "latest")
	file := filepath.Join(j.t.TempDir(), "before.json")
	write(j.t, file, `{"partitions":[{"topic":"records","partition":0,"offset":6}],"version":1}`)
	j.want([]string{`partition: records-0\s+low_watermark: 6`}, "", tools+"DeleteRecordsCommand", "--offset-json-file", file)
	j.want([]string{`(?m)^records:0:6$`}, "", tools+"GetOffsetShell", "--topic", "records", "--time", "earliest")
}

func (j *javaTools) testGroups() {
	groups := tools + "consumer.group.ConsumerGroupCommand"
	j.topics(nil, "--create", "--topic", "grouped", "--partitions", "2", "--replication-factor", "1")
	cl, err := kgo.NewClient(kgo.SeedBrokers(j.addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.DefaultProduceTopic("grouped"))
	if err != nil {
		j.t.Fatal(err)
	}
	defer cl.Close()
	base := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range 10 {
		r := &kgo.Record{Partition: int32(i % 2), Timestamp: base.Add(time.Duration(i) * time.Minute), Value: []byte("v")}
		if err := cl.ProduceSync(j.t.Context(), r).FirstErr(); err != nil {
			j.t.Fatal(err)
		}
	}
	for _, protocol := range []string{"classic", "consumer"} {
		group := "readers-" + protocol
		j.want([]string{`Processed a total of 10 messages`}, "", tools+"consumer.ConsoleConsumer", "--topic", "grouped", "--group", group, "--from-beginning", "--max-messages", "10",
			"--timeout-ms", "20000", "--command-property", "group.protocol="+protocol)
		j.want([]string{`(?m)^` + group}, "", groups, "--list")
		lag := func(p, current, end, lag int) string {
			return fmt.Sprintf(`(?m)^%s\s+grouped\s+%d\s+%d\s+%d\s+%d\s`, group, p, current, end, lag)
		}
		j.want([]string{lag(0, 5, 5, 0), lag(1, 5, 5, 0)}, "", groups, "--describe", "--group", group)
		j.want([]string{`grouped\s+0\s+0`}, "", groups, "--reset-offsets", "--group", group, "--topic", "grouped", "--to-earliest", "--dry-run")
		j.want([]string{lag(0, 5, 5, 0)}, "", groups, "--describe", "--group", group)
		j.want([]string{`grouped\s+0\s+0`, `grouped\s+1\s+0`}, "", groups, "--reset-offsets", "--group", group, "--topic", "grouped", "--to-earliest", "--execute")
		j.want([]string{lag(0, 0, 5, 5), lag(1, 0, 5, 5)}, "", groups, "--describe", "--group", group)
		j.want([]string{`grouped\s+0\s+2`, `grouped\s+1\s+2`}, "", groups, "--reset-offsets", "--group", group, "--all-topics",
			"--to-datetime", base.Add(4*time.Minute).Format("2006-01-02T15:04:05.000"), "--execute")
		j.want([]string{lag(0, 2, 5, 3), lag(1, 2, 5, 3)}, "", groups, "--describe", "--group", group)
		j.want([]string{`grouped\s+1\s+1`}, "", groups, "--reset-offsets", "--group", group, "--topic", "grouped:1", "--shift-by", "-1", "--execute")
		j.want([]string{`Deletion of requested consumer groups .* was successful`}, "", groups, "--delete", "--group", group)
	}
}

func (j *javaTools) testTransactions() {
	txns := tools + "TransactionsCommand"
	j.topics(nil, "--create", "--topic", "transacted", "--partitions", "1", "--replication-factor", "1")
	cl, err := kgo.NewClient(kgo.SeedBrokers(j.addr), kgo.DefaultProduceTopic("transacted"), kgo.TransactionalID("open"))
	if err != nil {
		j.t.Fatal(err)
	}
	defer cl.Close()
	if err := cl.BeginTransaction(); err != nil {
		j.t.Fatal(err)
	}
	if err := cl.ProduceSync(j.t.Context(), kgo.StringRecord("maybe")).FirstErr(); err != nil {
		j.t.Fatal(err)
	}
	j.want([]string{`(?m)^open\s+1\s+\d+\s+Ongoing`}, "", txns, "list")
	j.want([]string{`Ongoing`, `transacted-0`}, "", txns, "describe", "--transactional-id", "open")
	j.want([]string{`(?m)^\d+\s+\d+\s+-?\d+\s+0\s+\d+\s+0`}, "", txns, "describe-producers", "--topic", "transacted", "--partition", "0")
	read := func(isolation string, until ...string) string {
		return j.want(nil, "", tools+"consumer.ConsoleConsumer", append([]string{"--topic", "transacted", "--partition", "0", "--offset", "earliest", "--isolation-level", isolation}, until...)...)
	}
	quiet := []string{"--timeout-ms", "2000"} // for what must not come
	if out := read("read_committed", quiet...); strings.Contains(out, "maybe") {
		j.t.Errorf("an open transaction is read: %s", out)
	}
	if out := read("read_uncommitted", "--max-messages", "1", "--timeout-ms", "60000"); !strings.Contains(out, "maybe") {
		j.t.Errorf("read_uncommitted does not read it: %s", out)
	}
	j.want(nil, "", txns, "abort", "--topic", "transacted", "--partition", "0", "--start-offset", "0")
	j.want([]string{`(?m)^\d+\s+\d+\s+-?\d+\s+0\s+\d+\s+None`}, "", txns, "describe-producers", "--topic", "transacted", "--partition", "0")
	if out := read("read_committed", quiet...); strings.Contains(out, "maybe") {
		j.t.Errorf("an aborted record is read: %s", out)
	}
}
