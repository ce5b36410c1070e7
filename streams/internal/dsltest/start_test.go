package dsltest

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/leatstream/leat/serde"
	"github.com/leatstream/leat/streams"
)

// logText is a log that wakes whoever waits for a line.
type logText struct {
	sync.Mutex
	text bytes.Buffer
	has  func(string)
}

func (l *logText) Write(b []byte) (int, error) {
	l.Lock()
	defer l.Unlock()
	l.has(string(b))
	return l.text.Write(b)
}

// passOn reads one topic and writes another.
func passOn() (*streams.Topology, error) {
	var b streams.Builder
	b.Stream(streams.Topic[string, string]{Name: "in", Key: serde.String, Value: serde.String}).
		To(streams.Topic[string, string]{Name: "out", Key: serde.String, Value: serde.String})
	return b.Build()
}

// Without a Logger an application that finds no broker does not wait in silence. The test does not run beside others: it
// changes the program's logger.
func TestAnApplicationWithoutALoggerSaysWhatItWaitsFor(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out := &logText{has: func(line string) {
		if strings.Contains(line, "waiting for") {
			cancel()
		}
	}}
	was := slog.Default()
	slog.SetDefault(slog.New(slog.NewTextHandler(out, &slog.HandlerOptions{Level: slog.LevelDebug})))
	defer slog.SetDefault(was)
	topology, err := passOn()
	if err != nil {
		t.Fatal(err)
	}
	app, err := streams.New(topology, streams.Config{AppID: "a", Brokers: []string{"127.0.0.1:1"}, StateDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Run(ctx); err != nil {
		t.Error(err)
	}
	text := out.text.String()
	if !strings.Contains(text, "stopped before") || !strings.Contains(text, "127.0.0.1:1") || strings.Contains(text, "level=INFO") {
		t.Errorf("the log says\n%s\nwant what it waited for in vain, and warnings alone", text)
	}
}

func TestAPortInUseIsAnErrorThatSaysWhatToDo(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	topology, err := passOn()
	if err != nil {
		t.Fatal(err)
	}
	app, err := streams.New(topology, streams.Config{AppID: "a", Brokers: []string{"127.0.0.1:1"}, StateDir: t.TempDir(), Listen: l.Addr().String(),
		Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	if err := app.Run(t.Context()); err == nil || !strings.Contains(err.Error(), l.Addr().String()+" (Config.Listen) is in use") || !strings.Contains(err.Error(), "another port") {
		t.Errorf("Run returned %v, want the address and what to do", err)
	}
}
