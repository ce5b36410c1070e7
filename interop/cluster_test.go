//go:build interop

package interop

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/leatstream/leat/internal/kafkalab"
)

// TestClusterSurvivesBrokersAndInstances runs applications on three Apache Kafka nodes, every topic replicated three times.
func TestClusterSurvivesBrokersAndInstances(t *testing.T) {
	nodes := apacheKafkas(t, 3)
	addrs := make([]string, len(nodes))
	for i, n := range nodes {
		addrs[i] = n.Addr
	}
	all := strings.Join(addrs, ",")
	t.Run("queries", func(t *testing.T) { queriesOn(t, all) })
	t.Run("counts", func(t *testing.T) { countsSurvive(t, nodes, all) })
}

// countsSurvive has two instances of examples/wordCount die while they work: one by SIGKILL again and again, each broker once,
// and the other instance leaves and comes back. Every word has to be counted exactly once.
func countsSurvive(t *testing.T, nodes []*kafkalab.Node, all string) {
	bin := filepath.Join(t.TempDir(), "wordCount")
	run(t, "..", nil, "go", "build", "-o", bin, "./examples/wordCount")
	w := newWords(t, all)
	one, two := t.TempDir(), t.TempDir()
	first, second := startApp(t, bin, "--bootstrap-server", all, "--data", one), startApp(t, bin, "--bootstrap-server", all, "--data", two)
	for i, node := range nodes {
		w.feed(3_000)
		first.Process.Kill()
		first.Wait()
		node.Kill()
		w.feed(3_000) // by the two that are left
		first = startApp(t, bin, "--bootstrap-server", all, "--data", one)
		startNode(t, node)
		if i == 1 {
			second.Process.Signal(syscall.SIGTERM)
			if err := second.Wait(); err != nil {
				t.Errorf("the second instance did not stop cleanly: %v", err)
			}
		}
		waitNode(t, node)
		w.feed(3_000)
		if i == 1 {
			second = startApp(t, bin, "--bootstrap-server", all, "--data", two)
		}
	}
	defer func() {
		for _, app := range []*exec.Cmd{first, second} {
			if t.Failed() {
				app.Process.Signal(syscall.SIGQUIT) // it says where it stands
			} else {
				app.Process.Kill()
			}
			app.Wait()
		}
	}()
	began := time.Now()
	wantCounts(t, all, "word-counts", w.want)
	t.Logf("the counts were there %s after the last line", time.Since(began).Round(time.Millisecond))
}
