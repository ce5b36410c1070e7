// Command bench measures Leat beside its anchors: hand-written loops and other brokers that do the same work in the
// same process layout. Run it from the module's root:
//
//	go run ./bench P1 P4        the figures of two targets
//	go run ./bench all          everything
//	go run ./bench -list        what there is
//
// Ours and the anchor run in turn, five rounds by default, each in a process of its own against a broker in a process of
// its own. One line is printed per figure: the ratio of the medians, the target, both medians, the spread of the rounds
// and the CPU time per record. Nothing here passes or fails: figures are for people to read.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// target is one line of the table of targets; run prints its figures.
type target struct {
	name, what string
	run        func(context.Context, settings) error
}

// settings are the flags.
type settings struct {
	rounds  int
	records int    // per round and side, for the streams targets
	broker  string // of the streams targets: leat, leat-sync, kfake, kafka, or host:port of another
	keys    int

	manyKeys int // distinct keys of P19

	eventRate int    // events of P21 to a second of event time
	queries   string // of P21, with commas between; empty: all
	profiles  string // folder for a CPU profile of every topology and loop; empty: none
}

func targets() []target {
	return []target{
		{"P1", "stateless topology beside the hand-written pass loop", stateless},
		{"P2", "cost of each further fused stateless operator", operators},
		{"P3", "exactly once beside at least once", guarantees},
		{"P4", "count by key beside the optimised hand loop", counting},
		{"P5", "beside Kafka Streams in Java, on Apache Kafka and on our broker; needs Java and Maven", besideKafkaStreams},
		{"P6", "count by key that passes every update on, beside a hand loop on raw Pebble", forwarding},
		{"P7", "count by key in windows beside the plain count, and the longest pause when windows expire", windowing},
		{"P8", "restore of a changelog beside consuming, sorting and ingesting it by hand", restoring},
		{"P9", "after SIGKILL: time to the first record, and records replayed", killing},
		{"P10", "end-to-end latency through an application at 10,000 records per second", endToEnd},
		{"P11", "broker beside kfake on disk, nobody syncs", brokers},
		{"P12", "broker beside a warm Apache Kafka, nobody syncs: throughput, CPU, memory, start; needs Java and Maven", besideKafka},
		{"P13", "broker, fsync before the acknowledgement, beside its own unsynced rate", synced},
		{"P14", "end-to-end latency at 10,000 records per second", latency},
		{"P15", "durable transaction commits per second beside kfake synced", commits},
		{"P16", "4,000 partitions: restart, memory, idle CPU, produce; beside Apache Kafka if Java is there", holding},
		{"P17", "beside goka, whose guarantee is at least once; gets its module by the Go module proxy", besideGoka},
		{"P18", "Avro through the serde beside the bare codec", serdes},
		{"P19", "count of many keys within 512 MiB beside unlimited memory", manyKeys},
		{"P20", "queries of the counts while P4 runs", querying},
		{"P21", "queries of Nexmark, for each core, beside the figures that Flink 1.13 has published", besideFlink},
		{"P22", "the longest time without a record, of tasks that a rebalance moves to their standby and of those that stay", rebalancing},
	}
}

func main() {
	if len(os.Args) > 1 && os.Args[1] == "child" {
		if err := child(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, "bench child:", err)
			os.Exit(1)
		}
		return
	}
	var s settings
	list := flag.Bool("list", false, "list the targets and stop")
	flag.IntVar(&s.rounds, "rounds", 5, "rounds of each figure, all sides in each")
	flag.IntVar(&s.records, "records", 2_000_000, "records per round in P1, P3 to P7, P16, P17, P20 and P21")
	flag.IntVar(&s.keys, "keys", 1_000_000, "distinct keys in P1, P3 to P20 and P22 (at most 100,000 there)")
	flag.IntVar(&s.manyKeys, "many-keys", 10_000_000, "distinct keys in P19")
	flag.StringVar(&s.broker, "broker", "leat", "broker of the streams targets: leat (flush=os), leat-sync, kfake, kafka (Apache Kafka, with Java and Maven), or host:port")
	flag.IntVar(&s.eventRate, "event-rate", 50_000, "events of P21 to a second of event time")
	flag.StringVar(&s.queries, "queries", "", "queries of P21, with commas between, for example q0,q5; none: all")
	flag.StringVar(&s.profiles, "profiles", "", "folder for a CPU profile of every topology and hand-written loop")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s, *list, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings, list bool, names []string) error {
	all := targets()
	if list || len(names) == 0 {
		for _, t := range all {
			fmt.Printf("%-4s %s\n", t.name, t.what)
		}
		return nil
	}
	known := func(name string) bool {
		return name == "all" || slices.ContainsFunc(all, func(t target) bool { return t.name == name })
	}
	for i, n := range names {
		if names[i] = strings.ToLower(n); names[i] != "all" {
			names[i] = strings.ToUpper(n)
		}
		if !known(names[i]) {
			return fmt.Errorf("no target %q: see go run ./bench -list", n)
		}
	}
	describeMachine()
	var failed error // a target that cannot be run costs its own figures only
	for _, t := range all {
		if slices.Contains(names, "all") || slices.Contains(names, t.name) {
			if err := t.run(ctx, s); err != nil {
				failed = errors.Join(failed, fmt.Errorf("%s: %w", t.name, err))
			}
			if ctx.Err() != nil {
				break
			}
		}
	}
	return failed
}
