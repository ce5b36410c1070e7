package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/cmd/leat/internal/cli"
	"github.com/leatstream/leat/registry"
)

// TestGolden runs the commands of testdata/*.txt against an embedded broker and registry, in process, and compares what they
// print and their exit codes. Each file has its own broker. `go test ./cmd/leat -run TestGolden -rewrite` writes what came.
//
//	leat                        the first line is the command line, the rest is standard input
//	topic produce orders -K :
//	k:v
//	----
func TestGolden(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := newWorld(t)
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			switch d.Cmd {
			case "leat":
				args, stdin, _ := strings.Cut(d.Input, "\n")
				return w.leat(t, args, stdin)
			case "file":
				name, text, _ := strings.Cut(d.Input, "\n")
				if err := os.WriteFile(filepath.Join(w.dir, name), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
				return ""
			case "registry":
				w.serveRegistry(t)
				return ""
			case "join":
				return w.join(t, d.Input)
			case "begin":
				return w.begin(t, d.Input)
			case "leave":
				w.leave()
				return ""
			case "run-app":
				return w.runApp(t, d.Input)
			case "settle":
				return w.settle(t, d.Input)
			case "stop-app":
				w.stopApp(t)
				return ""
			case "records-at":
				return w.recordsAt(t, d.Input)
			}
			d.Fatalf(t, "unknown command %q", d.Cmd)
			return ""
		})
	})
}

// world is what a script acts on.
type world struct {
	broker   *broker.Broker
	registry *registry.Server
	dir      string
	clients  []*kgo.Client
	app      *application
}

func newWorld(t *testing.T) *world {
	w := &world{dir: t.TempDir()}
	var err error
	w.broker, err = broker.Start(t.Context(), broker.Config{Dir: filepath.Join(w.dir, "data"), Listen: []string{"127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		w.stopApp(t)
		w.leave()
		if err := w.broker.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// serveRegistry starts the schema registry, for scripts that want one: it has topics and transactions of its own.
func (w *world) serveRegistry(t *testing.T) {
	var err error
	w.registry, err = registry.Start(t.Context(), registry.Config{Listen: "127.0.0.1:0",
		ClientOpts: []kgo.Opt{kgo.SeedBrokers(w.broker.Addr()), kgo.Dialer(w.broker.Dialer())}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.registry.Close(); err != nil {
			t.Error(err)
		}
	})
}

// leat runs a command line. In it DIR stands for the test's folder, '…' quotes, and \n ends nothing: standard input follows.
func (w *world) leat(t *testing.T, line, stdin string) string {
	var out, errs strings.Builder
	env := &cli.Env{In: strings.NewReader(stdin), Out: &out, Err: &errs, Version: "test", Getenv: func(name string) string {
		switch name {
		case "LEAT_BOOTSTRAP_SERVER":
			return w.broker.Addr()
		case "LEAT_REGISTRY":
			if w.registry == nil {
				return ""
			}
			return "http://" + w.registry.Addr()
		case "LEAT_APP_TOKEN":
			return "secret"
		}
		return ""
	}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute) // a command that hangs fails
	defer cancel()
	code := run(ctx, env, split(strings.ReplaceAll(line, "DIR", w.dir)))
	text := out.String()
	if errs.Len() > 0 {
		text += "stderr:\n" + errs.String()
	}
	if code != 0 {
		text += fmt.Sprintf("exit %d\n", code)
	}
	return w.mask(text)
}

// split splits a command line into its arguments; '…' keeps spaces.
func split(line string) []string {
	var args []string
	for _, m := range regexp.MustCompile(`'([^']*)'|\S+`).FindAllStringSubmatch(line, -1) {
		if strings.HasPrefix(m[0], "'") {
			args = append(args, m[1])
		} else {
			args = append(args, m[0])
		}
	}
	return args
}

// masks replace what differs from run to run.
var masks = []struct{ pattern, with string }{
	{`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z`, "<time>"},
	{`\b1[6789]\d{11}\b`, "<ms>"},
	{`\b[0-9a-f]{32}\b`, "<instance>"},
	{`127\.0\.0\.1(:(\d+|<port>))?`, "<addr>"},
	{`\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`, "<uuid>"},
	{`\b[\w-]*-<uuid>`, "<member>"},
	{`\b[A-Za-z0-9_+/-]{22}(==)?( |"|\t|\n)`, "<id>$2"},
	{`(crc|producerId): \d+`, "$1: <n>"},
	{`((SECONDS|ANSWER-MS|seconds|per_second|_ms|answer_ms)\t)[\d.]+`, "$1<figure>"},
	{`\b\d+ APIs`, "<n> APIs"},
	{` {2,}`, "  "},
}

func (w *world) mask(s string) string {
	s = strings.ReplaceAll(s, w.dir, "DIR")
	if _, port, err := net.SplitHostPort(w.broker.Addr()); err == nil {
		s = regexp.MustCompile(`\b`+port+`\b`).ReplaceAllString(s, "<port>")
	}
	for _, m := range masks {
		s = regexp.MustCompile(m.pattern).ReplaceAllString(s, m.with)
	}
	return s
}

// join makes a client a member of a group, "GROUP TOPIC", and waits for its assignment.
func (w *world) join(t *testing.T, input string) string {
	group, topic, _ := strings.Cut(input, " ")
	assigned := make(chan struct{}, 1)
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.broker.Addr()), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ClientID("reader"),
		kgo.DisableAutoCommit(), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) { assigned <- struct{}{} }))
	if err != nil {
		t.Fatal(err)
	}
	w.clients = append(w.clients, cl)
	select {
	case <-assigned:
	case <-time.After(time.Minute):
		t.Fatal("no assignment after a minute")
	}
	return ""
}

// begin leaves a transaction open, "ID TOPIC VALUE".
func (w *world) begin(t *testing.T, input string) string {
	f := strings.Fields(input)
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.broker.Addr()), kgo.TransactionalID(f[0]), kgo.DefaultProduceTopic(f[1]))
	if err != nil {
		t.Fatal(err)
	}
	w.clients = append(w.clients, cl)
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	if err := cl.ProduceSync(t.Context(), kgo.StringRecord(f[2])).FirstErr(); err != nil {
		t.Fatal(err)
	}
	return ""
}

// recordsAt produces records with timestamps, lines of "TOPIC PARTITION MS VALUE".
func (w *world) recordsAt(t *testing.T, input string) string {
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.broker.Addr()), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for line := range strings.Lines(input) {
		var r kgo.Record
		var ms int64
		var value string
		if _, err := fmt.Sscan(line, &r.Topic, &r.Partition, &ms, &value); err != nil {
			t.Fatal(err)
		}
		r.Timestamp, r.Value = time.UnixMilli(ms), []byte(value)
		if err := cl.ProduceSync(t.Context(), &r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	return ""
}

func (w *world) leave() {
	for _, cl := range w.clients {
		cl.Close()
	}
	w.clients = nil
}
