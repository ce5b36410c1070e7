// Command wordCount counts the words of the topic "lines" into the topic "word-counts", exactly once.
//
//	go run ./examples/wordCount                                     with a broker in the same process
//	go run ./examples/wordCount --bootstrap-server localhost:9092   on any cluster that speaks the Kafka protocol
//
// Stop it, kill it, start it again: the counts stay exact.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/leatstream/leat/broker"
	"github.com/leatstream/leat/streams"
)

// What the program reads, keeps and writes. Strings, bytes and numbers need no serdes beside their types, and a topic that
// names its partitions is created if it is missing.
var (
	Lines  = streams.Topic[[]byte, string]{Name: "lines", Partitions: 4}
	Counts = streams.Store[string, int64]{Name: "counts"}
	Totals = streams.Topic[string, int64]{Name: "word-counts", Partitions: 4}
)

func topology() (*streams.Topology, error) {
	var b streams.Builder
	b.Stream(Lines).
		FlatMapValues(func(_ []byte, line string) ([]string, error) { return strings.Fields(strings.ToLower(line)), nil }).
		GroupBy(func(_ []byte, word string) string { return word }).
		Count(Counts).
		ToStream().
		To(Totals)
	return b.Build()
}

func main() {
	server := flag.String("bootstrap-server", "", "cluster to run on, host:port or several with commas between; empty: a broker in this process, on localhost:9092")
	data := flag.String("data", ".leat", "directory of the state stores and of the embedded broker")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *server, *data); err != nil {
		fmt.Fprintln(os.Stderr, "wordCount:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, server, data string) (err error) {
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if server == "" {
		b, err := broker.Start(ctx, broker.Config{Dir: data + "/broker", Listen: []string{"localhost:9092"}, Logger: log})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, b.Close()) }()
		server = b.Addr()
	}
	t, err := topology()
	if err != nil {
		return err
	}
	app, err := streams.New(t, streams.Config{
		AppID:    "word-count",
		Brokers:  strings.Split(server, ","),
		StateDir: data + "/word-count",
		Logger:   log,
		Listen:   "localhost:0", // any free port; the instances, and the command leat app, find it through the group
	})
	if err != nil {
		return err
	}
	go func() {
		select {
		case <-app.Ready():
			fmt.Println("counting the words of topic lines on", server)
		case <-ctx.Done():
		}
	}()
	return app.Run(ctx)
}
