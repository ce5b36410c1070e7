package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/cmd/leat/internal/cli"
	"github.com/leatstream/leat/internal/vfs"
)

// TestMain makes the test binary the program itself when it is called as such: the tests run real processes.
func TestMain(m *testing.M) {
	if os.Getenv("LEAT_TEST_RUN_AS_PROGRAM") != "" {
		main()
		return
	}
	goleak.VerifyTestMain(m)
}

// process is a running leat.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdout *bufio.Reader
	stderr *strings.Builder
	done   bool
}

func start(t *testing.T, args ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // a process that hangs is killed, and the test fails
	p := &process{t: t, cmd: exec.CommandContext(ctx, exe, args...), stderr: new(strings.Builder)}
	p.cmd.Env = append(os.Environ(), "LEAT_TEST_RUN_AS_PROGRAM=1")
	p.cmd.Stderr = p.stderr
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	p.stdout = bufio.NewReader(out)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		if !p.done {
			_ = p.cmd.Wait()
		}
	})
	return p
}

// expect reads lines until one matches, and returns its first group.
func (p *process) expect(pattern string) string {
	p.t.Helper()
	re := regexp.MustCompile(pattern)
	var seen strings.Builder
	for {
		line, err := p.stdout.ReadString('\n')
		seen.WriteString(line)
		if m := re.FindStringSubmatch(strings.TrimSuffix(line, "\n")); m != nil {
			return m[1]
		}
		if err != nil {
			_ = p.cmd.Wait()
			p.done = true
			p.t.Fatalf("no line like %q: %v\nstdout: %s\nstderr: %s", pattern, err, seen.String(), p.stderr)
		}
	}
}

// stop sends SIGTERM and returns the exit code and what was left of stdout.
func (p *process) stop() (int, string) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.t.Fatal(err)
	}
	return p.wait()
}

func (p *process) wait() (int, string) {
	p.t.Helper()
	rest, err := io.ReadAll(p.stdout)
	if err != nil {
		p.t.Fatal(err)
	}
	p.done = true
	err = p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode(), string(rest)
}

func (p *process) stopsCleanly() {
	p.t.Helper()
	if code, rest := p.stop(); code != 0 || rest != "" || p.stderr.String() != "" {
		p.t.Errorf("exit %d; stdout after the ready line: %q; stderr: %q", code, rest, p.stderr)
	}
}

func produce(t *testing.T, addr, value string) {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("t"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := client.ProduceSync(ctx, kgo.StringRecord(value)).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

func consume(t *testing.T, addr string, n int) []string {
	t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var got []string
	for len(got) < n {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("got %q: %v", got, err)
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	return got
}

func TestBrokerServeKeepsItsDataAndStopsCleanly(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "data")
	for i := range 2 {
		p := start(t, "broker", "serve", "--listen", "localhost:0", "--data", dir)
		addr := p.expect(`^Kafka broker ready on (localhost:\d+), data in `)
		produce(t, addr, fmt.Sprint("v", i))
		if got := consume(t, addr, i+1); strings.Join(got, " ") != []string{"v0", "v0 v1"}[i] {
			t.Errorf("start %d: got %q", i, got)
		}
		p.stopsCleanly()
	}
}

func TestDataDirectoryInUseNamesTheProcess(t *testing.T) {
	dir := t.TempDir()
	first := start(t, "broker", "serve", "--listen", "localhost:0", "--data", dir)
	first.expect(`(ready)`)
	second := start(t, "broker", "serve", "--listen", "localhost:0", "--data", dir)
	code, out := second.wait()
	if want := fmt.Sprintf("in use by process %d", first.cmd.Process.Pid); code != 1 || out != "" || !strings.Contains(second.stderr.String(), want) {
		t.Errorf("exit %d, stdout %q, stderr %q: want 1 and %q", code, out, second.stderr, want)
	}
	first.stopsCleanly()
}

func TestPortInUseSaysWhichAndWhatToDo(t *testing.T) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	for _, c := range []struct {
		args []string
		says []string
	}{
		{[]string{"broker", "serve", "--listen", "localhost:" + port, "--data", t.TempDir()}, []string{port, "in use"}},
		{[]string{"dev", "--ephemeral", "--kafka-port", port, "--registry-port", "0"}, []string{"port " + port + " is in use", "--kafka-port"}},
		{[]string{"dev", "--ephemeral", "--kafka-port", "0", "--registry-port", port}, []string{"port " + port + " is in use", "--registry-port"}},
	} {
		p := start(t, c.args...)
		code, out := p.wait()
		for _, s := range c.says {
			if code != 1 || out != "" || !strings.Contains(p.stderr.String(), s) {
				t.Errorf("%v: exit %d, stdout %q, stderr %q: want 1 and %q", c.args, code, out, p.stderr, s)
			}
		}
	}
}

func TestListeningBeyondTheMachineMustBeAskedFor(t *testing.T) {
	for _, addr := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:0", "no-such-host.invalid:0"} {
		for _, server := range []string{"broker", "registry"} {
			p := start(t, server, "serve", "--listen", addr)
			if code, out := p.wait(); code != 2 || out != "" || !strings.Contains(p.stderr.String(), "--insecure") {
				t.Errorf("%s %s: exit %d, stdout %q, stderr %q", server, addr, code, out, p.stderr)
			}
		}
	}
	p := start(t, "broker", "serve", "--listen", "0.0.0.0:0", "--data", t.TempDir(), "--insecure")
	p.expect(`(ready)`)
	if code, _ := p.stop(); code != 0 || !strings.Contains(p.stderr.String(), "WARNING: --insecure") {
		t.Errorf("exit %d, stderr %q", code, p.stderr)
	}
}

func TestRegistryServeWaitsForTheBroker(t *testing.T) {
	l, err := net.Listen("tcp", "localhost:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	r := start(t, "registry", "serve", "--listen", "localhost:0", "--bootstrap-server", addr)
	b := start(t, "broker", "serve", "--listen", addr, "--data", t.TempDir())
	b.expect(`(ready)`)
	url := r.expect(`^Schema registry ready on (http://localhost:\d+)`)
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Get(url + "/subjects")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if body, _ := io.ReadAll(res.Body); res.StatusCode != 200 || strings.TrimSpace(string(body)) != "[]" {
		t.Errorf("%d %s", res.StatusCode, body)
	}
	if code, rest := r.stop(); code != 0 || rest != "" {
		t.Errorf("registry: exit %d, %q, %s", code, rest, r.stderr)
	}
	b.stopsCleanly()
}

func TestDevPrintsWhereEverythingIs(t *testing.T) {
	p := start(t, "dev", "--ephemeral", "--kafka-port", "0", "--registry-port", "0")
	kafka := p.expect(`^  Kafka +(localhost:\d+)`)
	p.expect(`^  Schema registry +(http://localhost:\d+)$`)
	dir := p.expect(`^  Data +(\S+)  \(deleted at the end\)`)
	p.expect(`^  (Ready) in`)
	produce(t, kafka, "v")
	p.stopsCleanly()
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s: %v", dir, err)
	}
}

func TestInterruptedConsumerSaysSoAndExits130(t *testing.T) {
	p := start(t, "broker", "serve", "--listen", "localhost:0", "--data", t.TempDir())
	addr := p.expect(`^Kafka broker ready on (localhost:\d+)`)
	produce(t, addr, "v")
	c := start(t, "topic", "consume", "t", "--bootstrap-server", addr)
	c.expect(`^NULL\t(v)$`)
	if err := c.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code, rest := c.wait(); code != 130 || rest != "" || !strings.Contains(c.stderr.String(), "interrupted") {
		t.Errorf("exit %d, stdout %q, stderr %q", code, rest, c.stderr)
	}
	p.stopsCleanly()
}

// Ctrl-C ends a producer that waits for its next line, and what was written before stays.
func TestInterruptedProducerEnds(t *testing.T) {
	p := start(t, "broker", "serve", "--listen", "localhost:0", "--data", t.TempDir())
	addr := p.expect(`^Kafka broker ready on (localhost:\d+)`)
	produce(t, addr, "first")
	in, lines := io.Pipe()
	defer in.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	var out, errs strings.Builder
	env := &cli.Env{In: in, Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
	code := make(chan int, 1)
	go func() { code <- run(ctx, env, []string{"topic", "produce", "t", "-b", addr}) }()
	if _, err := io.WriteString(lines, "v\n"); err != nil {
		t.Fatal(err)
	}
	if got := consume(t, addr, 2); got[1] != "v" {
		t.Errorf("%q was written", got)
	}
	interrupt()
	if c := <-code; c != 130 || !strings.Contains(errs.String(), "interrupted") {
		t.Errorf("exit %d, stdout %q, stderr %q", c, out.String(), errs.String())
	}
	p.stopsCleanly()
}

// Lines that are more than the topic takes at once are sent in several batches.
func TestManyLinesAreProduced(t *testing.T) {
	p := start(t, "broker", "serve", "--listen", "localhost:0", "--data", t.TempDir())
	addr := p.expect(`^Kafka broker ready on (localhost:\d+)`)
	for _, args := range [][]string{{"topic", "create", "t"}, {"topic", "create", "small", "-c", "max.message.bytes=5000"}, {"topic", "create", "segments", "-c", "segment.bytes=20000", "-c", "internal.segment.bytes=10000"},
		{"topic", "produce", "t"}, {"topic", "produce", "small"}, {"topic", "produce", "segments"}, {"topic", "produce", "not-there-yet"}} {
		var out, errs strings.Builder
		env := &cli.Env{In: strings.NewReader(strings.Repeat(strings.Repeat("x", 1000)+"\n", 3000)), Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
		if code := run(t.Context(), env, append(args, "-b", addr)); code != 0 || args[1] == "produce" && !strings.Contains(out.String(), " 3000 ") {
			t.Errorf("%s: exit %d, %s%s", args, code, out.String(), errs.String())
		}
	}
	p.stopsCleanly()
}

// What did not get out is not committed for the group.
func TestConsumerCommitsWhatGotOut(t *testing.T) {
	p := start(t, "broker", "serve", "--listen", "localhost:0", "--data", t.TempDir())
	addr := p.expect(`^Kafka broker ready on (localhost:\d+)`)
	produce(t, addr, "v")
	var errs strings.Builder
	env := &cli.Env{In: strings.NewReader(""), Out: brokenPipe{}, Err: &errs, Getenv: func(string) string { return "" }}
	if code := run(t.Context(), env, []string{"topic", "consume", "t", "-g", "g", "-e", "-b", addr}); code != 1 || !strings.Contains(errs.String(), "broken pipe") {
		t.Errorf("exit %d: %s", code, errs.String())
	}
	var out strings.Builder
	env = &cli.Env{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
	if code := run(t.Context(), env, []string{"topic", "consume", "t", "-g", "g", "-e", "-b", addr}); code != 0 || out.String() != "NULL\tv\n" {
		t.Errorf("the next one: exit %d, %q, %s", code, out.String(), errs.String())
	}
	p.stopsCleanly()
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, errors.New("broken pipe") }

// A record that a broker can never take is given up after --timeout.
func TestProduceGivesUp(t *testing.T) {
	fs := &vfs.Faulty{FS: vfs.NewMem()}
	b, err := broker.Start(t.Context(), broker.Config{Dir: "/data", FS: fs, Listen: []string{"localhost:0"}})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	produce(t, b.Addr(), "v")
	fs.Fail(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && strings.Contains(name, "t-0") {
			return syscall.ENOSPC
		}
		return nil
	})
	var out, errs strings.Builder
	env := &cli.Env{In: strings.NewReader("x\n"), Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
	if code := run(t.Context(), env, []string{"topic", "produce", "t", "--timeout", "3s", "-b", b.Addr()}); code != 1 || !strings.Contains(errs.String(), "not acknowledged in time") {
		t.Errorf("exit %d: %s%s", code, out.String(), errs.String())
	}
}

// A server that a signal stops, and that cannot keep what it has, says why.
func TestServerThatCannotStopCleanlySaysWhy(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "broker", "serve", "--listen", "localhost:0", "--data", dir)
	produce(t, p.expect(`^Kafka broker ready on (localhost:\d+)`), "v")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if code, _ := p.stop(); code != 1 || strings.Contains(p.stderr.String(), "interrupted") || !strings.Contains(p.stderr.String(), "no such file") {
		t.Errorf("exit %d: %s", code, p.stderr)
	}
}

// What destroys asks nobody at /dev/null: it is told to say yes on the command line.
func TestNobodyIsAskedAtDevNull(t *testing.T) {
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	p := start(t, "broker", "serve", "--listen", "localhost:0", "--data", t.TempDir())
	addr := p.expect(`^Kafka broker ready on (localhost:\d+)`)
	produce(t, addr, "v")
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), exe, "topic", "delete", "t", "-b", addr)
	c.Env = append(os.Environ(), "LEAT_TEST_RUN_AS_PROGRAM=1")
	c.Stdin, c.Stderr = null, null
	if err := c.Run(); c.ProcessState.ExitCode() != 2 {
		t.Errorf("exit %d: %v", c.ProcessState.ExitCode(), err)
	}
	p.stopsCleanly()
}

func TestUsage(t *testing.T) {
	for _, c := range []struct {
		args      string
		code      int
		out, says string
	}{
		{"version", 0, "leat ", ""},
		{"--help", 0, "broker", ""},
		{"broker", 0, "serve", ""},
		{"brocker", 2, "", `unknown command "brocker" (did you mean "broker"?)`},
		{"broker serve --lissen x", 2, "", "unknown flag: --lissen"},
		{"topic list --timeout 0s", 2, "", "--timeout 0s"},
		{"broker serve --users u", 2, "", "--users needs --sasl"},
		{"broker serve --advertise h:p --listen localhost:0", 1, "", "from 1 to 65535"},
		{"broker serve extra", 2, "", "extra"},
		{"broker serve --listen nonsense", 2, "", "want HOST:PORT"},
		{"broker serve --flush never", 2, "", "always or os"},
		{"broker serve --log-level loud", 2, "", "debug, info"},
		{"dev --data x --ephemeral", 2, "", "data ephemeral"},
		{"dev --kafka-port 70000", 2, "", "kafka-port"},
		{"--help-json", 0, `"name":"leat topic create"`, ""},
		{"completion bsh", 2, "", `unknown command "bsh"`},
		{"completion bash", 0, "bash completion", ""},
		{"topic --help", 0, "SEE ALSO", ""},
	} {
		var out, errs strings.Builder
		env := &cli.Env{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }}
		code := run(t.Context(), env, strings.Fields(c.args))
		if code != c.code || !strings.Contains(out.String(), c.out) || !strings.Contains(errs.String(), c.says) {
			t.Errorf("leat %s: exit %d, stdout %q, stderr %q", c.args, code, out.String(), errs.String())
		}
	}
}
