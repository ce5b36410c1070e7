//go:build interop

// Package interop runs programs that nobody here wrote against Leat, and Leat against a broker that nobody here wrote.
// What is missing on the machine is said loudly and skipped; LEAT_INTEROP_INSTALL=1 installs it, and then a missing
// program is a failure.
package interop

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/leatstream/leat/broker"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(brokerDirEnv); dir != "" { // the soak test's broker, a process that can be killed
		serveSoakBroker(dir)
		return
	}
	if dir := os.Getenv(queriedDirEnv); dir != "" { // an instance that can be killed
		serveQueried(dir)
	}
	goleak.VerifyTestMain(m)
}

// installing says that the machine is to be made complete.
func installing() bool { return os.Getenv("LEAT_INTEROP_INSTALL") == "1" }

// need finds a program, installs its Debian package if that is wanted, and skips the test, loudly, where it is missing.
func need(t *testing.T, program, debian string) string {
	t.Helper()
	if p, err := exec.LookPath(program); err == nil {
		return p
	}
	if !installing() {
		t.Skipf("SKIPPED: %s is not installed: apt-get install %s, or set LEAT_INTEROP_INSTALL=1", program, debian)
	}
	run(t, "", nil, "apt-get", "update", "-qq")
	run(t, "", nil, "apt-get", "install", "-y", "-qq", debian)
	p, err := exec.LookPath(program)
	if err != nil {
		t.Fatalf("%s is missing although %s was installed", program, debian)
	}
	return p
}

// run runs a program to its end and returns its standard output; a failure ends the test with all it said.
func run(t *testing.T, dir string, stdin []byte, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	c := exec.CommandContext(ctx, name, args...)
	c.Dir, c.Stdin = dir, bytes.NewReader(stdin)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	if err := c.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s%s", name, strings.Join(args, " "), err, out.String(), errs.String())
	}
	return out.String()
}

// leatBroker starts an embedded broker on a free port and returns its address.
func leatBroker(t *testing.T) string {
	t.Helper()
	b, err := broker.Start(t.Context(), broker.Config{Dir: filepath.Join(t.TempDir(), "data"), Listen: []string{"127.0.0.1:0"}, DefaultPartitions: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
	return b.Addr()
}

// against runs the test on the embedded broker and on an Apache Kafka node: what works on ours alone is not proven.
func against(t *testing.T, f func(t *testing.T, addr string)) {
	t.Run("leat", func(t *testing.T) { f(t, leatBroker(t)) })
	t.Run("kafka", func(t *testing.T) { f(t, apacheKafka(t)) })
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}
