//go:build interop

package interop

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestStreamsOnApacheKafka runs the tests of the transactional session and of the application once more, on Apache Kafka:
// kills between any two steps of a commit, rebalances, lost answers.
func TestStreamsOnApacheKafka(t *testing.T) {
	addr := apacheKafka(t)
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, "go", "test", "-count=1", "-timeout", "5m",
		"./internal/txnclient", "./streams/internal/session", "./streams")
	c.Dir = ".."
	c.Env = append(os.Environ(), "LEAT_TEST_BOOTSTRAP="+addr)
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGQUIT) } // a test that hangs says where
	c.WaitDelay = 10 * time.Second
	out, err := c.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Fatal(err)
	}
}

// TestOrdersPipelineOnApacheKafka runs the shop for a few seconds with Apache Kafka under it, and wants its books to agree.
func TestOrdersPipelineOnApacheKafka(t *testing.T) {
	addr := apacheKafka(t)
	bin := filepath.Join(t.TempDir(), "ordersPipeline")
	run(t, "..", nil, "go", "build", "-o", bin, "./examples/ordersPipeline")
	out := run(t, "", nil, bin, "--bootstrap-server", addr, "--data", t.TempDir(), "--for", "10s", "--rate", "50",
		"--http-port", "0", "--smtp-port", "0", "--registry-port", "0")
	if !strings.Contains(out, "The books agree.") {
		t.Errorf("the program printed:\n%s", out)
	}
	t.Log(out)
}
