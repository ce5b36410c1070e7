//go:build interop

package interop

import (
	"fmt"
	"math/rand"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestJavaStreamsWordCount runs a word count of Kafka Streams, exactly once, on Leat's broker, and kills both with SIGKILL in the
// middle of the work, the application twice and the broker once. Every word must be counted exactly once.
func TestJavaStreamsWordCount(t *testing.T) {
	libs := kafkaLibs(t)
	need(t, "javac", "default-jdk-headless")
	classes, state, data := t.TempDir(), t.TempDir(), filepath.Join(t.TempDir(), "data")
	run(t, "", nil, "javac", "-cp", libs+"/*", "-d", classes, "kafka/src/WordCount.java")
	leat := filepath.Join(t.TempDir(), "leat")
	run(t, "..", nil, "go", "build", "-o", leat, "./cmd/leat")
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	serve := func() *exec.Cmd { return startApp(t, leat, "broker", "serve", "--listen", addr, "--data", data) }
	count := func() *exec.Cmd {
		return startApp(t, "java", "-Xmx384m", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=ERROR", "-cp", libs+"/*:"+classes, "WordCount", addr, state)
	}
	kill := func(c *exec.Cmd) {
		c.Process.Kill()
		c.Wait()
	}
	broker := serve()
	defer func() { kill(broker) }()

	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic("java-lines"))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	if _, err := kadm.NewClient(cl).CreateTopics(t.Context(), 3, 1, nil, "java-lines", "java-counts"); err != nil {
		t.Fatal(err)
	}
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewSource(seed))
	want := map[string]int64{}
	feed := func(lines int) {
		for range lines {
			words := make([]string, 1+rnd.Intn(6))
			for i := range words {
				words[i] = fmt.Sprintf("word%d", rnd.Intn(500))
				want[words[i]]++
			}
			cl.Produce(t.Context(), &kgo.Record{Value: []byte(strings.Join(words, " "))}, func(_ *kgo.Record, err error) {
				if err != nil {
					t.Error(err)
				}
			})
		}
		if err := cl.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	somewhere := func() { <-time.After(time.Duration(100+rnd.Intn(600)) * time.Millisecond) } // in the middle of the work

	app := count()
	defer func() { kill(app) }()
	feed(5000)
	somewhere()
	kill(app)
	app = count()
	feed(5000)
	somewhere()
	kill(broker)
	broker = serve()
	feed(5000)
	somewhere()
	kill(app)
	app = count()
	feed(5000)
	wantCounts(t, addr, "java-counts", want)
}
