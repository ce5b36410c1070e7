package topic

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
	"github.com/leatstream/leat/internal/txnclient"
)

// maxLine bounds one line of input, in bytes.
const maxLine = 64 << 20

// producing are the flags of produce.
type producing struct {
	key, separator, nullMarker, value string
	emptyIsNull, tombstone            bool
	headers                           []string
	partition                         int32
	codec, acks, txnID                string
	keySchema, valueSchema            string
}

func newProduce(env *cli.Env) *cobra.Command {
	var p producing
	cmd := &cobra.Command{
		Use:   "produce TOPIC",
		Short: "Produce records from lines of standard input",
		Long: `Produces one record for each line of standard input, or one record with --value or --tombstone. With -K the text before the separator
is the key. A null value, which deletes the key from a compacted topic, is an empty value with -Z, the --null-marker, or --tombstone.
When all is written it says how many records went where.`,
		Example: `  echo 'o1:{"cents":500}' | leat topic produce orders -K :
  printf 'o1:\n' | leat topic produce orders -K : -Z            # deletes o1
  leat topic produce orders -k o1 --tombstone                   # so does this
  leat topic produce orders -k o1 --value hello -H source=shell
  # Kafka: kafka-console-producer.sh --bootstrap-server localhost:9092 --topic orders --reader-property parse.key=true --reader-property key.separator=: --reader-property null.marker=NULL`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cli.First(env.Topics()),
		RunE: env.Action(func(cmd *cobra.Command, args []string) (*cli.Result, error) {
			return p.run(cmd.Context(), env, args[0], cmd.Flags().Changed)
		}),
	}
	f := cmd.Flags()
	f.StringVarP(&p.key, "key", "k", "", "key of all records")
	f.StringVarP(&p.separator, "key-separator", "K", "", `what stands between key and value in a line, for example ":" or "\t"`)
	f.StringVar(&p.value, "value", "", "value of one record; standard input is not read")
	f.BoolVar(&p.tombstone, "tombstone", false, "one record whose value is null; standard input is not read")
	f.BoolVarP(&p.emptyIsNull, "empty-is-null", "Z", false, "an empty value is null, and an empty key, too")
	f.StringVar(&p.nullMarker, "null-marker", "", "a value, or a key, that is this text is null")
	f.StringArrayVarP(&p.headers, "header", "H", nil, "KEY=VALUE, a header of all records; may be given more than once")
	f.Int32VarP(&p.partition, "partition", "p", -1, "partition of all records (default by key, as Kafka does)")
	f.StringVarP(&p.codec, "compression", "z", "none", "none, gzip, snappy, lz4 or zstd")
	f.StringVar(&p.acks, "acks", "all", "all, 1 or 0")
	f.StringVar(&p.txnID, "transactional-id", "", "write all records in one transaction: all or none are read by read_committed")
	f.StringVar(&p.keySchema, "key-schema", "", "SUBJECT or SUBJECT:VERSION: keys are JSON, and encoded as Avro with this schema of the registry")
	f.StringVar(&p.valueSchema, "value-schema", "", "the same for values")
	cmd.MarkFlagsMutuallyExclusive("key", "key-separator")
	cmd.MarkFlagsMutuallyExclusive("value", "tombstone")
	_ = cmd.RegisterFlagCompletionFunc("compression", cobra.FixedCompletions(codecNames, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

var codecNames = []string{"none", "gzip", "snappy", "lz4", "zstd"}

// opts are the client's options for the flags.
func (p *producing) opts(topic string, timeout time.Duration) ([]kgo.Opt, error) {
	codec, err := cli.Codec(p.codec)
	if err != nil {
		return nil, err
	}
	opts := []kgo.Opt{kgo.DefaultProduceTopic(topic), kgo.ProducerBatchCompression(codec), kgo.AllowAutoTopicCreation(),
		kgo.UnknownTopicRetries(2), kgo.RecordDeliveryTimeout(max(timeout, time.Second))} // the client takes no less
	switch p.acks {
	case "all", "-1":
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	default:
		return nil, cli.Usagef("--acks %q: want all, 1 or 0", p.acks)
	}
	if p.partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	if p.txnID != "" {
		if p.acks != "all" && p.acks != "-1" {
			return nil, cli.Usagef("--transactional-id needs --acks all")
		}
		opts = append(opts, kgo.TransactionalID(p.txnID))
	} else if p.acks == "all" || p.acks == "-1" {
		opts = append(opts, kgo.AllowIdempotentProduceCancellation()) // or nothing would be given up that was sent once
	}
	return opts, nil
}

func (p *producing) run(ctx context.Context, env *cli.Env, topic string, changed func(string) bool) (*cli.Result, error) {
	opts, err := p.opts(topic, env.Timeout())
	if err != nil {
		return nil, err
	}
	headers, err := p.recordHeaders()
	if err != nil {
		return nil, err
	}
	p.separator = strings.NewReplacer(`\t`, "\t", `\n`, "\n", `\0`, "\x00").Replace(p.separator)
	limit, err := largestBatch(ctx, env, topic)
	if err != nil {
		return nil, err
	}
	cl, err := env.Connect(ctx, append(opts, kgo.ProducerBatchMaxBytes(limit))...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	enc, err := newEncoders(ctx, env, p.keySchema, p.valueSchema)
	if err != nil {
		return nil, err
	}
	lines := io.Reader(nil)
	if !p.tombstone && !changed("value") {
		lines = env.In
	}
	w := &writer{cl: cl, tally: newTally()}
	if p.txnID != "" {
		if err := cl.BeginTransaction(); err != nil {
			return nil, err
		}
	}
	err = p.each(lines, changed("key"), func(line int, key, value []byte) error {
		at := ""
		if line > 0 {
			at = fmt.Sprintf("line %d: ", line)
		}
		r := &kgo.Record{Headers: headers, Partition: max(p.partition, 0)}
		var err error
		if r.Key, err = enc.key(key); err != nil {
			return fmt.Errorf("%skey %.60q: %w", at, key, err)
		}
		if r.Value, err = enc.value(value); err != nil {
			return fmt.Errorf("%svalue %.60q: %w", at, value, err)
		}
		return w.write(ctx, r)
	})
	return w.finish(ctx, topic, p.txnID, err)
}

// largestBatch is what the topic takes at once, in bytes: where nobody says, as for a topic that is not there yet, Kafka's default.
func largestBatch(ctx context.Context, env *cli.Env, topic string) (int32, error) {
	limit := int64(1_000_000)
	cl, err := env.Connect(ctx)
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(ctx, env.Timeout())
	defer cancel()
	described, err := cl.Admin.DescribeTopicConfigs(ctx, topic)
	if err != nil {
		return int32(limit), nil //nolint:nilerr // not everybody who may write may ask
	}
	configs, _ := described.On(topic, nil)
	smallest := int64(maxLine)
	for _, c := range configs.Configs {
		if c.Key != "max.message.bytes" && c.Key != "segment.bytes" && c.Key != "internal.segment.bytes" {
			continue
		}
		if n, err := strconv.ParseInt(c.MaybeValue(), 10, 64); err == nil {
			limit, smallest = min(smallest, n), min(smallest, n)
		}
	}
	return int32(max(limit, 1)), nil
}

func (p *producing) recordHeaders() ([]kgo.RecordHeader, error) {
	var headers []kgo.RecordHeader
	for _, h := range p.headers {
		key, value, ok := strings.Cut(h, "=")
		if !ok {
			return nil, cli.Usagef("--header %q: want KEY=VALUE", h)
		}
		headers = append(headers, kgo.RecordHeader{Key: key, Value: []byte(value)})
	}
	return headers, nil
}

// each calls f with the key and the value of every record, and the number of its line. Nil lines: the one record of the flags,
// which has number 0.
func (p *producing) each(lines io.Reader, keyed bool, f func(line int, key, value []byte) error) error {
	var key []byte
	if keyed {
		key = p.null([]byte(p.key))
	}
	if lines == nil {
		if p.tombstone {
			return f(0, key, nil)
		}
		return f(0, key, p.null([]byte(p.value)))
	}
	in := bufio.NewScanner(lines)
	in.Buffer(make([]byte, 64<<10), maxLine)
	for n := 1; in.Scan(); n++ {
		line := bytes.Clone(in.Bytes())
		value := line
		if p.separator != "" {
			k, v, ok := bytes.Cut(line, []byte(p.separator))
			if !ok {
				return fmt.Errorf("line %d has no key separator %q: %.60q", n, p.separator, line)
			}
			key, value = p.null(k), v
		}
		if err := f(n, key, p.null(value)); err != nil {
			return err
		}
	}
	return in.Err()
}

// null makes text that stands for null nil.
func (p *producing) null(text []byte) []byte {
	if p.emptyIsNull && len(text) == 0 || p.nullMarker != "" && string(text) == p.nullMarker {
		return nil
	}
	return slices.Clip(text)
}

// writer produces and keeps the first error.
type writer struct {
	cl    *cli.Cluster
	tally *tally
}

func (w *writer) write(ctx context.Context, r *kgo.Record) error {
	if err := w.tally.failed(); err != nil {
		return err
	}
	w.cl.Produce(ctx, r, w.tally.written)
	return nil
}

// finish waits for all records and says what became of them.
func (w *writer) finish(ctx context.Context, topic, txnID string, err error) (*cli.Result, error) {
	transaction := txnID != ""
	err = errors.Join(err, w.cl.Flush(ctx))
	err = errors.Join(err, w.tally.failed())
	if transaction {
		end := kgo.TryCommit
		if err != nil {
			end = kgo.TryAbort
		}
		err = errors.Join(err, txnclient.End(context.WithoutCancel(ctx), w.cl.Client, end))
		w.settled(ctx, txnID)
	}
	res := w.tally.result(topic)
	if err != nil && transaction {
		res = nil // aborted: none of it was written
	}
	switch {
	case errors.Is(err, kgo.ErrRecordTimeout):
		err = fmt.Errorf("produce to %q: not acknowledged in time (--timeout): 'leat doctor' checks the way to the brokers, their logs say what is wrong with them: %w", topic, err)
	case errors.Is(err, kerr.InvalidRecord):
		err = fmt.Errorf("produce to %q: %w (a compacted topic takes no record without a key)", topic, err)
	case err != nil:
		err = fmt.Errorf("produce to %q: %w", topic, err)
	}
	return res, err
}

// settled waits until the transaction's markers are written, so that whoever reads when produce is done sees the records: brokers
// answer when the outcome is decided. A broker that does not tell is not waited for, and none for long.
func (w *writer) settled(ctx context.Context, txnID string) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		described, err := w.cl.Admin.DescribeTransactions(ctx, txnID)
		if t := described[txnID]; err != nil || t.Err != nil || !strings.HasPrefix(t.State, "Prepare") {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return
		}
	}
}
