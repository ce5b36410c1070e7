// Package txn holds the commands of leat txn: transactions and the producers behind them.
package txn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

// New makes leat txn.
func New(env *cli.Env) *cobra.Command {
	return env.ClusterFlags(cli.Group("txn", "Transactions: list, describe, abort, producers",
		newList(env), newDescribe(env), newProducers(env), newAbort(env)))
}

func newList(env *cli.Env) *cobra.Command {
	var states []string
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List transactional ids and the state of their transactions",
		Example: `  leat txn list
  leat txn list --state Ongoing
  # Kafka: kafka-transactions.sh --bootstrap-server localhost:9092 list`,
		Args: cobra.NoArgs,
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, _ []string) (*cli.Result, error) {
			txns, err := cl.Admin.ListTransactions(ctx, nil, states)
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			table := res.Table("transactions", "TRANSACTIONAL-ID", "COORDINATOR", "PRODUCER-ID", "STATE")
			for _, t := range txns.Sorted() {
				table.Row(t.TxnID, t.Coordinator, t.ProducerID, t.State)
			}
			return res, nil
		}),
	}
	cmd.Flags().StringSliceVar(&states, "state", nil, "only those in these states: Ongoing, PrepareCommit, PrepareAbort, CompleteCommit, CompleteAbort, Empty")
	return cmd
}

func newDescribe(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "describe TRANSACTIONAL-ID...",
		Short: "Show transactions and the partitions in them",
		Example: `  leat txn describe billing-1
  # Kafka: kafka-transactions.sh --bootstrap-server localhost:9092 describe --transactional-id billing-1`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: env.Transactions(),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			described, err := cl.Admin.DescribeTransactions(ctx, args...)
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			table := res.Table("transactions", "TRANSACTIONAL-ID", "COORDINATOR", "PRODUCER-ID", "PRODUCER-EPOCH", "STATE", "TIMEOUT-MS", "START-TIME", "PARTITIONS", "ERROR")
			for _, id := range args {
				t := described[id]
				if t.Err != nil {
					table.Row(id, nil, nil, nil, nil, nil, nil, nil, notFound(ctx, cl, id, t.Err))
					continue
				}
				var start any
				if t.StartTimestamp > 0 {
					start = time.UnixMilli(t.StartTimestamp)
				}
				table.Row(id, t.Coordinator, t.ProducerID, t.ProducerEpoch, t.State, t.TimeoutMillis, start, partitions(t.Topics), nil)
			}
			return res, nil
		}),
	}
}

// notFound is the error for a transactional id, with the one that may be meant.
func notFound(ctx context.Context, cl *cli.Cluster, id string, err error) error {
	if !errors.Is(err, kerr.TransactionalIDNotFound) {
		return fmt.Errorf("transactional id %q: %w", id, err)
	}
	known, lerr := cl.Admin.ListTransactions(ctx, nil, nil)
	if lerr != nil {
		return fmt.Errorf("transactional id %q: %w", id, err)
	}
	return cli.NotFound("transactional id", id, known.TransactionalIDs(), err)
}

func partitions(topics kadm.TopicsSet) []string {
	all := []string{}
	for _, topic := range slices.Sorted(maps.Keys(topics)) {
		for _, p := range slices.Sorted(maps.Keys(topics[topic])) {
			all = append(all, fmt.Sprintf("%s-%d", topic, p))
		}
	}
	return all
}

func newProducers(env *cli.Env) *cobra.Command {
	var only []int32
	cmd := &cobra.Command{
		Use:   "producers TOPIC",
		Short: "Show the producers that a topic's partitions know, and where their open transactions begin",
		Example: `  leat txn producers orders
  # Kafka: kafka-transactions.sh --bootstrap-server localhost:9092 describe-producers --topic orders --partition 0`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cli.First(env.Topics()),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			all, err := producers(ctx, cl, args[0])
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			table := res.Table("producers", "TOPIC", "PARTITION", "PRODUCER-ID", "PRODUCER-EPOCH", "COORDINATOR-EPOCH", "LAST-SEQUENCE", "LAST-TIMESTAMP", "TXN-START-OFFSET")
			for _, p := range all {
				if len(only) > 0 && !slices.Contains(only, p.Partition) {
					continue
				}
				var start any
				if p.CurrentTxnStartOffset >= 0 {
					start = p.CurrentTxnStartOffset
				}
				table.Row(p.Topic, p.Partition, p.ProducerID, p.ProducerEpoch, p.CoordinatorEpoch, p.LastSequence, time.UnixMilli(p.LastTimestamp), start)
			}
			return res, nil
		}),
	}
	cmd.Flags().Int32SliceVarP(&only, "partition", "p", nil, "only these partitions")
	return cmd
}

// producers are all that the partitions of a topic know, in order of partition and producer id.
func producers(ctx context.Context, cl *cli.Cluster, topic string) ([]kadm.DescribedProducer, error) {
	details, err := cl.Admin.ListTopicsWithInternal(ctx, topic)
	if err != nil {
		return nil, err
	}
	if err := details[topic].Err; err != nil {
		all, lerr := cl.Admin.ListTopicsWithInternal(ctx)
		if lerr != nil {
			return nil, lerr
		}
		return nil, cli.NotFound("topic", topic, all.Names(), err)
	}
	described, err := cl.Admin.DescribeProducers(ctx, details.TopicsSet())
	if err != nil {
		return nil, err
	}
	var all []kadm.DescribedProducer
	for _, p := range described.SortedPartitions() {
		if p.Err != nil {
			return nil, fmt.Errorf("%s partition %d: %w", topic, p.Partition, p.Err)
		}
		for _, one := range p.ActiveProducers {
			all = append(all, one)
		}
	}
	slices.SortFunc(all, func(a, b kadm.DescribedProducer) int {
		return cmp.Or(cmp.Compare(a.Partition, b.Partition), cmp.Compare(a.ProducerID, b.ProducerID))
	})
	return all, nil
}

func newAbort(env *cli.Env) *cobra.Command {
	var (
		d         cli.Destruction
		topic     string
		partition int32
		start     int64
	)
	cmd := &cobra.Command{
		Use:   "abort (TRANSACTIONAL-ID | --topic T --partition P --start-offset O)",
		Short: "Abort an open transaction",
		Long: `With a transactional id, fences its producer: the open transaction is aborted by its coordinator, in all its partitions, and the
producer learns that another has taken its place.

With --topic, --partition and --start-offset, writes an abort marker into one partition, for a transaction that its coordinator no
longer knows (a hanging one, which 'leat txn producers' shows while 'leat txn list' does not). For one that the coordinator knows,
abort by its id.`,
		Example: `  leat txn abort billing-1 --dry-run
  leat txn abort billing-1 --yes
  leat txn abort --topic orders --partition 0 --start-offset 1200 --yes
  # Kafka: kafka-transactions.sh --bootstrap-server localhost:9092 force-terminate --transactional-id billing-1
  # Kafka: kafka-transactions.sh --bootstrap-server localhost:9092 abort --topic orders --partition 0 --start-offset 1200`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cli.First(env.Transactions()),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			if (len(args) == 1) == (topic != "") {
				return nil, cli.Usagef("give either a transactional id, or --topic, --partition and --start-offset")
			}
			if len(args) == 1 {
				return abortByID(ctx, env, cl, &d, args[0])
			}
			return abortHanging(ctx, env, cl, &d, topic, partition, start)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&topic, "topic", "", "topic of a hanging transaction")
	f.Int32Var(&partition, "partition", 0, "its partition")
	f.Int64Var(&start, "start-offset", 0, "the offset of its first record")
	cmd.MarkFlagsRequiredTogether("topic", "partition", "start-offset")
	d.Flags(cmd)
	return cmd
}

// abortByID has the coordinator abort what is open: InitProducerId bumps the epoch, as a new producer with the id would.
func abortByID(ctx context.Context, env *cli.Env, cl *cli.Cluster, d *cli.Destruction, id string) (*cli.Result, error) {
	described, err := cl.Admin.DescribeTransactions(ctx, id)
	if err != nil {
		return nil, err
	}
	t := described[id]
	if t.Err != nil {
		return nil, notFound(ctx, cl, id, t.Err)
	}
	if t.State != "Ongoing" {
		return nil, fmt.Errorf("transactional id %q has no open transaction: it is in state %s", id, t.State)
	}
	plan := new(cli.Result)
	table := plan.Table("transactions", "TRANSACTIONAL-ID", "PRODUCER-ID", "PARTITIONS", "STATUS", "ERROR")
	table.Row(id, t.ProducerID, partitions(t.Topics), "would-be-aborted", nil)
	if ok, res, err := d.Agreed(env, plan, fmt.Sprintf("Abort the transaction of %q and fence its producer?", id)); !ok {
		return res, err
	}
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionalID = &id
	req.TransactionTimeoutMillis = t.TimeoutMillis
	// CONCURRENT_TRANSACTIONS: the abort is under way. The second request waits for it.
	for {
		resp, err := req.RequestWith(ctx, cl)
		if err != nil {
			return nil, err
		}
		err = kerr.ErrorForCode(resp.ErrorCode)
		if errors.Is(err, kerr.ConcurrentTransactions) {
			if err := pause(ctx); err != nil {
				return nil, err
			}
			continue
		}
		return plan.Replace("transactions", func(row []any) {
			row[3] = "aborted"
			if err != nil {
				row[3], row[4] = "failed", err
			}
		}), nil
	}
}

// pause waits before the coordinator is asked again.
func pause(ctx context.Context) error {
	wait := time.NewTimer(50 * time.Millisecond)
	defer wait.Stop()
	select {
	case <-wait.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// abortHanging writes an abort marker for the transaction that begins at an offset.
func abortHanging(ctx context.Context, env *cli.Env, cl *cli.Cluster, d *cli.Destruction, topic string, partition int32, start int64) (*cli.Result, error) {
	all, err := producers(ctx, cl, topic)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(all, func(p kadm.DescribedProducer) bool {
		return p.Partition == partition && p.CurrentTxnStartOffset == start
	})
	if i < 0 {
		return nil, fmt.Errorf("no open transaction begins at offset %d of %s partition %d: 'leat txn producers %s' shows where they begin", start, topic, partition, topic)
	}
	p := all[i]
	plan := new(cli.Result)
	table := plan.Table("transactions", "TOPIC", "PARTITION", "TXN-START-OFFSET", "PRODUCER-ID", "PRODUCER-EPOCH", "STATUS", "ERROR")
	table.Row(topic, partition, start, p.ProducerID, p.ProducerEpoch, "would-be-aborted", nil)
	if ok, res, err := d.Agreed(env, plan, fmt.Sprintf("Write an abort marker into %s partition %d?", topic, partition)); !ok {
		return res, err
	}
	topics := kadm.TopicsSet{}
	topics.Add(topic, partition)
	written, err := cl.Admin.WriteTxnMarkers(ctx, kadm.TxnMarkers{ProducerID: p.ProducerID, ProducerEpoch: p.ProducerEpoch,
		CoordinatorEpoch: max(p.CoordinatorEpoch, 0), Topics: topics})
	if err != nil {
		return nil, err
	}
	return plan.Replace("transactions", func(row []any) {
		row[5] = "aborted"
		for _, r := range written.SortedPartitions() {
			if r.Err != nil {
				row[5], row[6] = "failed", r.Err
			}
		}
	}), nil
}
