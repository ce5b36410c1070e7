// Package bench holds the commands of leat bench: how much a cluster takes and gives, and how long records are on their way.
package bench

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

// New makes leat bench.
func New(env *cli.Env) *cobra.Command {
	return env.ClusterFlags(cli.Group("bench", "Measure a cluster: produce, consume, end to end",
		newProduce(env), newConsume(env), newEndToEnd(env)))
}

// load are the flags that say what is sent.
type load struct {
	topic      string
	records    int64
	size       int
	rate       float64
	codec      string
	partitions int32
}

func (l *load) flags(cmd *cobra.Command, records int64) {
	f := cmd.Flags()
	f.StringVar(&l.topic, "topic", "leat-bench", "topic; created if it does not exist")
	f.Int64VarP(&l.records, "records", "n", records, "how many records")
	f.IntVarP(&l.size, "size", "s", 100, "bytes of a record's value")
	f.Float64VarP(&l.rate, "rate", "r", 0, "records a second; 0 means as fast as it goes")
	f.StringVarP(&l.codec, "compression", "z", "none", "none, gzip, snappy, lz4 or zstd")
	f.Int32VarP(&l.partitions, "partitions", "p", 1, "partitions, if the topic is created")
}

func (l *load) check() error {
	if l.records < 1 || l.size < 1 || l.size > 64<<20 || l.rate < 0 {
		return cli.Usagef("--records and --size must be at least 1, --size at most 64 MiB, and --rate not negative")
	}
	return nil
}

// prepare creates the topic if it is not there.
func (l *load) prepare(ctx context.Context, cl *cli.Cluster) error {
	created, err := cl.Admin.CreateTopics(ctx, l.partitions, -1, nil, l.topic)
	if err != nil {
		return err
	}
	if err := created[l.topic].Err; err != nil && !errors.Is(err, kerr.TopicAlreadyExists) {
		return fmt.Errorf("create topic %q: %w", l.topic, err)
	}
	return nil
}

// send produces the load; done is called for each acknowledged record with the time of its Produce call, from the client's
// goroutine. Values do not compress.
func (l *load) send(ctx context.Context, cl *cli.Cluster, done func(began time.Time)) error {
	var failed atomic.Pointer[error]
	value := make([]byte, l.size)
	if _, err := rand.Read(value); err != nil {
		return err
	}
	pace := newPacer(l.rate)
	for range l.records {
		if err := pace.wait(ctx); err != nil {
			return err
		}
		if failed.Load() != nil {
			break
		}
		began := time.Now()
		cl.Produce(ctx, &kgo.Record{Value: value, Timestamp: began}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.CompareAndSwap(nil, &err)
				return
			}
			done(began)
		})
	}
	err := cl.Flush(ctx)
	if p := failed.Load(); p != nil {
		err = errors.Join(err, *p)
	}
	return err
}

// pacer spreads calls over time: not more than rate a second since it was made. 0 does not wait.
type pacer struct {
	rate  float64
	start time.Time
	n     int64
	timer *time.Timer
}

func newPacer(rate float64) *pacer { return &pacer{rate: rate, start: time.Now()} }

func (p *pacer) wait(ctx context.Context) error {
	if p.rate == 0 {
		return ctx.Err()
	}
	due := p.start.Add(time.Duration(float64(p.n) / p.rate * float64(time.Second)))
	p.n++
	left := time.Until(due)
	if left < time.Millisecond { // timers are not finer
		return ctx.Err()
	}
	if p.timer == nil {
		p.timer = time.NewTimer(left)
	} else {
		p.timer.Reset(left)
	}
	select {
	case <-p.timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// latencies is a histogram, in microseconds up to a minute. Safe for concurrent use.
type latencies struct {
	mu struct {
		sync.Mutex
		h *hdrhistogram.Histogram
	}
}

func newLatencies() *latencies {
	l := new(latencies)
	l.mu.h = hdrhistogram.New(1, 60_000_000, 3)
	return l
}

func (l *latencies) add(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_ = l.mu.h.RecordValue(min(max(d.Microseconds(), 1), 60_000_000)) // within bounds
}

// report adds the percentiles to a result, in milliseconds.
func (l *latencies) report(res *cli.Result) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, q := range []struct {
		name string
		at   float64
	}{{"P50-MS", 50}, {"P95-MS", 95}, {"P99-MS", 99}, {"P999-MS", 99.9}, {"MAX-MS", 100}} {
		res.Field(q.name, float64(l.mu.h.ValueAtPercentile(q.at))/1000)
	}
}

// throughput adds how much went through in a time.
func throughput(res *cli.Result, topic string, records, bytes int64, took time.Duration) {
	res.Field("TOPIC", topic)
	res.Field("RECORDS", records)
	res.Field("SECONDS", took.Seconds())
	res.Field("RECORDS-PER-SECOND", float64(records)/took.Seconds())
	res.Field("MB-PER-SECOND", float64(bytes)/1e6/took.Seconds())
}

func newProduce(env *cli.Env) *cobra.Command {
	var l load
	cmd := &cobra.Command{
		Use:   "produce",
		Short: "Measure producing: throughput, and latency until the acknowledgement of all replicas",
		Example: `  leat bench produce -n 1000000 -s 100
  # Kafka: kafka-producer-perf-test.sh --bootstrap-server localhost:9092 --topic t --num-records 1000000 --record-size 100 --throughput -1`,
		Args: cobra.NoArgs,
		RunE: env.Action(func(cmd *cobra.Command, _ []string) (*cli.Result, error) {
			ctx := cmd.Context()
			cl, err := l.producer(ctx, env)
			if err != nil {
				return nil, err
			}
			defer cl.Close()
			lat := newLatencies()
			start := time.Now()
			if err := l.send(ctx, cl, func(began time.Time) { lat.add(time.Since(began)) }); err != nil {
				return nil, err
			}
			res := new(cli.Result)
			throughput(res, l.topic, l.records, l.records*int64(l.size), time.Since(start))
			lat.report(res)
			return res, nil
		}),
	}
	l.flags(cmd, 1_000_000)
	return cmd
}

// producer connects and prepares the topic.
func (l *load) producer(ctx context.Context, env *cli.Env, opts ...kgo.Opt) (*cli.Cluster, error) {
	if err := l.check(); err != nil {
		return nil, err
	}
	codec, err := cli.Codec(l.codec)
	if err != nil {
		return nil, err
	}
	opts = append(opts, kgo.DefaultProduceTopic(l.topic), kgo.ProducerBatchCompression(codec), kgo.MaxBufferedRecords(50_000))
	cl, err := env.Connect(ctx, opts...)
	if err != nil {
		return nil, err
	}
	if err := l.prepare(ctx, cl); err != nil {
		cl.Close()
		return nil, err
	}
	return cl, nil
}

func newConsume(env *cli.Env) *cobra.Command {
	var topic string
	var records int64
	cmd := &cobra.Command{
		Use:   "consume",
		Short: "Measure consuming a topic from its start",
		Example: `  leat bench consume --topic leat-bench -n 1000000
  # Kafka: kafka-consumer-perf-test.sh --bootstrap-server localhost:9092 --topic t --num-records 1000000`,
		Args: cobra.NoArgs,
		RunE: env.Action(func(cmd *cobra.Command, _ []string) (*cli.Result, error) {
			ctx := cmd.Context()
			cl, err := env.Connect(ctx, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
			if err != nil {
				return nil, err
			}
			defer cl.Close()
			there, err := recordsIn(ctx, cl, topic)
			if err != nil {
				return nil, err
			}
			want := records
			if want == 0 || want > there {
				want = there
			}
			var n, bytes int64
			start := time.Now()
			for n < want {
				fetches := cl.PollFetches(ctx)
				if err := errors.Join(fetches.Err(), ctx.Err()); err != nil {
					return nil, err
				}
				fetches.EachRecord(func(r *kgo.Record) {
					n++
					bytes += int64(len(r.Key) + len(r.Value))
				})
			}
			res := new(cli.Result)
			throughput(res, topic, n, bytes, time.Since(start))
			return res, nil
		}),
	}
	cmd.Flags().StringVar(&topic, "topic", "leat-bench", "topic")
	cmd.Flags().Int64VarP(&records, "records", "n", 0, "how many records; 0 means all that are there")
	_ = cmd.RegisterFlagCompletionFunc("topic", env.Topics())
	return cmd
}

// recordsIn is how many offsets a topic holds. Markers and compacted records make it more than there are records, so it is
// meant for topics that bench wrote.
func recordsIn(ctx context.Context, cl *cli.Cluster, topic string) (int64, error) {
	topics, err := cl.Admin.ListTopics(ctx)
	if err != nil {
		return 0, err
	}
	if !topics.Has(topic) {
		return 0, cli.NotFound("topic", topic, topics.Names(), nil)
	}
	bounds, err := cli.BoundsOf(ctx, cl, topic)
	if err != nil {
		return 0, err
	}
	n := int64(0)
	for _, b := range bounds[topic] {
		n += b.End - b.Start
	}
	if n == 0 {
		return 0, fmt.Errorf("topic %q is empty: 'leat bench produce --topic %s' fills it", topic, topic)
	}
	return n, nil
}

func newEndToEnd(env *cli.Env) *cobra.Command {
	var l load
	cmd := &cobra.Command{
		Use:     "e2e",
		Short:   "Measure how long records are on their way from producer to consumer",
		Example: `  leat bench e2e -n 100000 --rate 10000`,
		Args:    cobra.NoArgs,
		RunE: env.Action(func(cmd *cobra.Command, _ []string) (*cli.Result, error) {
			ctx, cancel := context.WithCancel(cmd.Context())
			defer cancel()
			cl, err := l.producer(ctx, env, kgo.ProducerLinger(0))
			if err != nil {
				return nil, err
			}
			defer cl.Close()
			reader, err := l.atEnd(ctx, env, cl)
			if err != nil {
				return nil, err
			}
			defer reader.Close()
			if err := l.warm(ctx, cl, reader); err != nil {
				return nil, err
			}
			lat := newLatencies()
			sent := make(chan error, 1)
			start := time.Now()
			go func() {
				err := l.send(ctx, cl, func(time.Time) {})
				if err != nil {
					cancel() // the reader would wait for ever
				}
				sent <- err
			}()
			n := int64(0)
			for n < l.records && ctx.Err() == nil {
				reader.PollFetches(ctx).EachRecord(func(r *kgo.Record) {
					n++
					lat.add(time.Since(r.Timestamp))
				})
			}
			if err := <-sent; err != nil {
				return nil, err
			}
			res := new(cli.Result)
			throughput(res, l.topic, n, n*int64(l.size), time.Since(start))
			lat.report(res)
			return res, cmd.Context().Err()
		}),
	}
	l.flags(cmd, 100_000)
	return cmd
}

// atEnd is a client that reads the topic from what is its end now. Timestamps are in milliseconds, so latencies are, too.
func (l *load) atEnd(ctx context.Context, env *cli.Env, cl *cli.Cluster) (*cli.Cluster, error) {
	ends, err := cl.Admin.ListEndOffsets(ctx, l.topic)
	if err != nil {
		return nil, err
	}
	from := map[int32]kgo.Offset{}
	ends.Each(func(o kadm.ListedOffset) { from[o.Partition] = kgo.NewOffset().At(o.Offset) })
	return env.Connect(ctx, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{l.topic: from}))
}

// warm sends one record the whole way, so that connections and buffers are there when it counts.
func (l *load) warm(ctx context.Context, cl, reader *cli.Cluster) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	if err := cl.ProduceSync(ctx, kgo.StringRecord("warm")).FirstErr(); err != nil {
		return err
	}
	for reader.PollFetches(ctx).NumRecords() == 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	return nil
}
