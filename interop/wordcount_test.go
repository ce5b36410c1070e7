//go:build interop

package interop

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestWordCountSurvivesKill runs examples/wordCount as a process of its own, kills it with SIGKILL in the middle of the
// input, starts it again, and wants every word counted exactly once.
func TestWordCountSurvivesKill(t *testing.T) {
	bin := filepath.Join(t.TempDir(), "wordCount")
	run(t, "..", nil, "go", "build", "-o", bin, "./examples/wordCount")
	against(t, func(t *testing.T, addr string) {
		const lines, kills = 30_000, 3
		w := newWords(t, addr)
		data := t.TempDir()
		for range kills {
			app := startApp(t, bin, "--bootstrap-server", addr, "--data", data)
			w.feed(lines / (kills + 1))
			<-time.After(time.Duration(50+w.rnd.Intn(400)) * time.Millisecond) // somewhere in the middle of the work
			app.Process.Kill()
			app.Wait()
		}
		app := startApp(t, bin, "--bootstrap-server", addr, "--data", data)
		w.feed(lines / (kills + 1))
		defer func() { app.Process.Kill(); app.Wait() }()
		wantCounts(t, addr, "word-counts", w.want)
	})
}

// words writes lines of random words and counts them.
type words struct {
	t    *testing.T
	cl   *kgo.Client
	rnd  *rand.Rand
	want map[string]int64
}

func newWords(t *testing.T, addrs string) *words {
	t.Helper()
	seed := time.Now().UnixNano()
	t.Logf("seed %d", seed)
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(addrs, ",")...), kgo.DefaultProduceTopic("lines"), kgo.AllowAutoTopicCreation(), kgo.UnknownTopicRetries(-1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return &words{t, cl, rand.New(rand.NewSource(seed)), map[string]int64{}}
}

// feed returns when n lines are acknowledged.
func (w *words) feed(n int) {
	w.t.Helper()
	for range n {
		words := make([]string, 1+w.rnd.Intn(8))
		for i := range words {
			words[i] = fmt.Sprintf("word%d", w.rnd.Intn(2000))
			w.want[words[i]]++
		}
		w.cl.Produce(w.t.Context(), &kgo.Record{Value: []byte(strings.Join(words, " "))}, func(_ *kgo.Record, err error) {
			if err != nil {
				w.t.Error(err)
			}
		})
	}
	if err := w.cl.Flush(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// startApp starts the program and waits for the line that says it is ready.
func startApp(t *testing.T, bin string, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.Command(bin, args...)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	c.Stderr = testWriter{t}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ready := make(chan error, 1)
	go func() {
		_, err := bufio.NewReader(out).ReadString('\n')
		ready <- err
	}()
	select {
	case err = <-ready:
	case <-time.After(time.Minute):
		err = fmt.Errorf("not ready after a minute")
		c.Process.Kill()
		<-ready
	}
	if err != nil {
		c.Process.Kill()
		c.Wait()
		t.Fatalf("%s: %v", bin, err)
	}
	return c
}

// testWriter passes what a child says to the test's log.
type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("child: %s", strings.TrimSpace(string(p)))
	return len(p), nil
}

var _ io.Writer = testWriter{}

// wantCounts reads a topic of counts, read_committed, until its latest values are those wanted: every count goes up by what
// its transaction added, so a duplicate would overshoot and a loss would never arrive.
func wantCounts(t *testing.T, addr, topic string, want map[string]int64) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(addr, ",")...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	got := map[string]int64{}
	missing := func() int {
		n := 0
		for w, c := range want {
			if got[w] != c {
				n++
			}
		}
		return n
	}
	for missing() > 0 {
		fs := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			whereItStands(t, cl)
			t.Fatalf("%d of %d words are not at their count: %v", missing(), len(want), ctx.Err())
		}
		for r := range fs.RecordsAll() {
			n := int64(binary.BigEndian.Uint64(r.Value))
			if n <= got[string(r.Key)] {
				t.Fatalf("%s went from %d to %d: a count must only grow", r.Key, got[string(r.Key)], n)
			}
			got[string(r.Key)] = n
			if n > want[string(r.Key)] {
				t.Fatalf("%s was counted %d times, want %d", r.Key, n, want[string(r.Key)])
			}
		}
	}
}

// whereItStands logs how far the application and the log have come.
func whereItStands(t *testing.T, cl *kgo.Client) {
	adm := kadm.NewClient(cl)
	ends, err := adm.ListEndOffsets(t.Context())
	stable, err2 := adm.ListCommittedOffsets(t.Context())
	group, err3 := adm.FetchOffsets(t.Context(), "word-count")
	members, err4 := adm.DescribeGroups(t.Context(), "word-count")
	if err := errors.Join(err, err2, err3, err4); err != nil {
		t.Log(err)
	}
	ends.Each(func(o kadm.ListedOffset) {
		if strings.HasPrefix(o.Topic, "__") || o.Offset == 0 {
			return
		}
		lso, _ := stable.Lookup(o.Topic, o.Partition)
		at, _ := group.Lookup(o.Topic, o.Partition)
		t.Logf("%s/%d: stable %d of %d, committed %d", o.Topic, o.Partition, lso.Offset, o.Offset, at.At)
	})
	for _, g := range members.Sorted() {
		t.Logf("group %s: %s, %d members", g.Group, g.State, len(g.Members))
		for _, m := range g.Members {
			a, _ := m.Assigned.AsConsumer()
			t.Logf("member %s: %+v", m.MemberID, a)
		}
	}
}
