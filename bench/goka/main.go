// Command goka is the side of the benchmarks that lovoo/goka runs: the same work as Leat's topologies, with goka's guarantee,
// at least once. It is a module of its own, so that nothing of goka's is among Leat's dependencies. Package bench builds and
// starts it: the argument is the job as JSON, the sample goes to standard output.
package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/IBM/sarama"
	"github.com/lovoo/goka"
	"github.com/lovoo/goka/storage"
)

// job is what is used here of the benchmarks' job.
type job struct {
	Kind, Addr, Dir, Topic, Out, ID string
	N, Broker                       int
}

// sample is what is measured here of the benchmarks' sample.
type sample struct{ Rate, ClientNs, BrokerNs, Resident float64 }

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "goka:", err)
		os.Exit(1)
	}
}

func run() error {
	if len(os.Args) != 2 {
		return errors.New("usage: goka JSON")
	}
	var j job
	if err := json.Unmarshal([]byte(os.Args[1]), &j); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p := &probe{job: j, done: make(chan struct{})}
	proc, err := processor(j, p)
	if err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- proc.Run(ctx) }()
	select {
	case <-p.done:
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(p.result)
	case err := <-ended:
		return errors.Join(errors.New("the processor ended before the input did"), err)
	}
}

// processor passes records on as they are, or counts them by key and passes every count on.
func processor(j job, p *probe) (*goka.Processor, error) {
	cfg := goka.DefaultConfig()
	cfg.Version = sarama.V2_8_0_0 // Apache Kafka 4 has given up those of goka's default
	cfg.Consumer.Offsets.Initial = sarama.OffsetOldest
	goka.ReplaceGlobalConfig(cfg)
	topics := goka.NewTopicManagerConfig()
	topics.Table.Replication, topics.Stream.Replication = 1, 1
	in, out := goka.Stream(j.Topic), goka.Stream(j.Out)
	var group *goka.GroupGraph
	switch j.Kind {
	case "stateless":
		group = goka.DefineGroup(goka.Group(j.ID), goka.Output(out, raw{}), goka.Input(in, raw{}, func(ctx goka.Context, v any) {
			p.record()
			ctx.Emit(out, ctx.Key(), v)
		}))
	case "count":
		group = goka.DefineGroup(goka.Group(j.ID), goka.Output(out, number{}), goka.Persist(number{}), goka.Input(in, raw{}, func(ctx goka.Context, _ any) {
			p.record()
			n, _ := ctx.Value().(int64)
			ctx.SetValue(n + 1)
			ctx.Emit(out, ctx.Key(), n+1)
		}))
	default:
		return nil, fmt.Errorf("no processor %q", j.Kind)
	}
	return goka.NewProcessor([]string{j.Addr}, group, goka.WithStorageBuilder(storage.DefaultBuilder(j.Dir)),
		goka.WithTopicManagerBuilder(goka.TopicManagerBuilderWithTopicManagerConfig(topics)), goka.WithLogger(log.New(io.Discard, "", 0)))
}

// raw passes bytes through.
type raw struct{}

func (raw) Encode(v any) ([]byte, error)    { return v.([]byte), nil }
func (raw) Decode(data []byte) (any, error) { return data, nil }

// number is a count in eight bytes.
type number struct{}

func (number) Encode(v any) ([]byte, error) {
	return binary.BigEndian.AppendUint64(nil, uint64(v.(int64))), nil
}

func (number) Decode(data []byte) (any, error) {
	if len(data) != 8 {
		return nil, fmt.Errorf("a count of %d bytes", len(data))
	}
	return int64(binary.BigEndian.Uint64(data)), nil
}

// probe measures from the first record to the last, whichever partition's goroutine has them.
type probe struct {
	job    job
	at     atomic.Int64
	start  time.Time
	client time.Duration
	broker time.Duration
	result sample
	done   chan struct{}
}

func (p *probe) record() {
	switch p.at.Add(1) {
	case 1:
		p.start, p.client, p.broker = time.Now(), ownCPU(), processCPU(p.job.Broker)
	case int64(p.job.N):
		n := float64(p.job.N)
		p.result = sample{n / time.Since(p.start).Seconds(), float64(ownCPU()-p.client) / n, float64(processCPU(p.job.Broker)-p.broker) / n, residentMB()}
		close(p.done)
	}
}

func ownCPU() time.Duration {
	var ru syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &ru) != nil {
		return 0
	}
	return time.Duration(ru.Utime.Nano() + ru.Stime.Nano())
}

// processCPU is the CPU time of another process, in ticks of 10 ms; 0 where /proc does not tell.
func processCPU(pid int) time.Duration {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if pid == 0 || err != nil {
		return 0
	}
	f := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
	user, _ := strconv.ParseInt(f[11], 10, 64)
	system, _ := strconv.ParseInt(f[12], 10, 64)
	return time.Duration(user+system) * 10 * time.Millisecond
}

func residentMB() float64 {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(b), "VmRSS:")
	kb, _, _ := strings.Cut(strings.TrimSpace(rest), " ")
	n, _ := strconv.ParseFloat(kb, 64)
	return n * 1024 / 1e6
}
