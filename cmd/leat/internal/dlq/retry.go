package dlq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
	"github.com/leatstream/leat/cmd/leat/internal/topic"
	"github.com/leatstream/leat/internal/txnclient"
)

// retrying are the flags of retry.
type retrying struct {
	env   *cli.Env
	d     cli.Destruction
	only  []int32
	to    string
	limit int
}

// inOne is the number of letters that are written back in one transaction.
const inOne = 500

func newRetry(env *cli.Env) *cobra.Command {
	s := &retrying{env: env}
	cmd := &cobra.Command{
		Use:   "retry TOPIC",
		Short: "Write letters back to the topics that they came from",
		Long: `Writes the records of the letters that were not retried yet back to the topics that they came from, to the partitions in which they lay,
with key, value, timestamp and headers as they were. The records and the offsets of what is retried (of the group leat-dlq-TOPIC) are
committed together, in transactions of at most 500 letters: none is retried twice, whatever fails in between.

Mind the cause first: what fails again comes back as another letter. Letters stay in the topic; leat dlq drop deletes them.`,
		Example: `  leat dlq retry orders-dlq --dry-run
  leat dlq retry orders-dlq -n 1 --yes`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cli.First(env.Topics()),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			return s.run(ctx, cl, args[0])
		}),
	}
	f := cmd.Flags()
	f.Int32SliceVarP(&s.only, "partition", "p", nil, "only the letters in these partitions")
	f.StringVar(&s.to, "to", "", "write all of them to this topic instead, by key")
	f.IntVarP(&s.limit, "limit", "n", 10_000, "letters at most")
	s.d.Flags(cmd)
	_ = cmd.RegisterFlagCompletionFunc("to", env.Topics())
	return cmd
}

func (s *retrying) run(ctx context.Context, cl *cli.Cluster, name string) (*cli.Result, error) {
	if s.limit <= 0 {
		return nil, cli.Usagef("--limit %d: want 1 or more", s.limit)
	}
	from, err := retried(ctx, cl, name)
	if err != nil {
		return nil, err
	}
	var letters []letter
	homeless, rows := 0, 0
	_, err = topic.Read(ctx, s.env, name, s.only, from, func(r *kgo.Record) error {
		l := letterOf(r)
		if s.to == "" && l.topic == "" {
			homeless++
		}
		if l.store != "" { // without a value: written to its changelog it would delete the row
			rows++
		}
		letters = append(letters, l)
		if len(letters) == s.limit {
			return topic.ErrEnough
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if rows > 0 {
		return nil, fmt.Errorf("%s in %q came of rows of stores and not of records: there is nothing to write back; choose others with --limit or --partition, or drop them",
			cli.Count(rows, "letter"), name)
	}
	if homeless > 0 {
		return nil, fmt.Errorf("%s in %q do not say where they came from (of a punctuator, or no dead letters): name a topic with --to, or choose others with --limit, or drop them",
			cli.Count(homeless, "record"), name)
	}
	plan := new(cli.Result)
	table := plan.Table("letters", "PARTITION", "OFFSET", "TARGET-TOPIC", "TARGET-PARTITION", "STATUS", "ERROR")
	for i := range letters {
		l := &letters[i]
		target, p := l.topic, any(l.partition)
		if s.to != "" {
			target, p = s.to, nil
		}
		if l.partition < 0 {
			p = nil
		}
		table.Row(l.Partition, l.Offset, target, p, "would-be-retried", nil)
	}
	if len(letters) == 0 {
		return plan, nil
	}
	if err := s.targets(ctx, cl, letters); err != nil {
		return plan, err
	}
	if ok, res, err := s.d.Agreed(s.env, plan, fmt.Sprintf("Write %s back?", cli.Count(len(letters), "letter"))); !ok {
		return res, err
	}
	done, err := s.write(ctx, name, letters)
	n := 0
	plan.Replace("letters", func(row []any) {
		row[4] = "not-retried"
		if n++; n <= done {
			row[4] = "retried"
		}
	})
	return plan, err
}

// targets checks that the topics to write to are there.
func (s *retrying) targets(ctx context.Context, cl *cli.Cluster, letters []letter) error {
	names := map[string]bool{}
	for _, l := range letters {
		names[cmp.Or(s.to, l.topic)] = true
	}
	there, err := cl.Admin.ListTopics(ctx)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		if !there.Has(name) {
			return cli.NotFound("topic", name, there.Names(), kerr.UnknownTopicOrPartition)
		}
	}
	return nil
}

// write writes letters back, and returns how many of them are committed.
func (s *retrying) write(ctx context.Context, name string, letters []letter) (done int, err error) {
	byKey, versions := kgo.StickyKeyPartitioner(nil), kversion.Stable()
	versions.SetMaxKeyVersion(int16(kmsg.TxnOffsetCommit), 4) // with topics by name, and AddOffsetsToTxn before it
	cl, err := s.env.Connect(ctx, kgo.TransactionalID(groupOf(name)), kgo.MaxVersions(versions), kgo.RecordPartitioner(kgo.BasicConsistentPartitioner(func(target string) func(*kgo.Record, int) int {
		other := byKey.ForTopic(target)
		return func(r *kgo.Record, n int) int {
			if p := int(r.Partition); p >= 0 && p < n {
				return p
			}
			return other.Partition(r, n)
		}
	})))
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	for part := range slices.Chunk(letters, inOne) {
		if err := s.transaction(ctx, cl, name, part); err != nil {
			return done, fmt.Errorf("after %s: %w", cli.Count(done, "letter"), err)
		}
		done += len(part)
	}
	return done, nil
}

// transaction writes some letters and the offsets after them, all or nothing.
func (s *retrying) transaction(ctx context.Context, cl *cli.Cluster, name string, letters []letter) error {
	if err := cl.BeginTransaction(); err != nil {
		return err
	}
	records, next := make([]*kgo.Record, len(letters)), map[int32]int64{}
	for i, l := range letters {
		records[i] = &kgo.Record{Topic: l.topic, Partition: l.partition, Key: l.Key, Value: l.Value, Timestamp: l.Timestamp, Headers: l.own}
		if s.to != "" {
			records[i].Topic, records[i].Partition = s.to, -1
		}
		next[l.Record.Partition] = l.Record.Offset + 1
	}
	err := cl.ProduceSync(ctx, records...).FirstErr()
	if err == nil {
		err = commitOffsets(ctx, cl, name, next)
	}
	if err != nil {
		return errors.Join(err, txnclient.End(context.WithoutCancel(ctx), cl.Client, kgo.TryAbort))
	}
	return txnclient.End(ctx, cl.Client, kgo.TryCommit)
}

// commitOffsets adds offsets of nobody's group to the transaction.
func commitOffsets(ctx context.Context, cl *cli.Cluster, name string, next map[int32]int64) error {
	id, epoch, err := cl.ProducerID(ctx)
	if err != nil {
		return err
	}
	group := groupOf(name)
	add := kmsg.NewPtrAddOffsetsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch, add.Group = group, id, epoch, group
	added, err := add.RequestWith(ctx, cl)
	if err == nil {
		err = kerr.ErrorForCode(added.ErrorCode)
	}
	if err != nil {
		return fmt.Errorf("add group %s to the transaction: %w", group, err)
	}
	req := kmsg.NewPtrTxnOffsetCommitRequest()
	req.TransactionalID, req.ProducerID, req.ProducerEpoch, req.Group, req.Generation = group, id, epoch, group, -1
	t := kmsg.NewTxnOffsetCommitRequestTopic()
	t.Topic = name
	for _, p := range sorted(next) {
		o := kmsg.NewTxnOffsetCommitRequestTopicPartition()
		o.Partition, o.Offset, o.LeaderEpoch = p, next[p], -1
		t.Partitions = append(t.Partitions, o)
	}
	req.Topics = append(req.Topics, t)
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return fmt.Errorf("commit what is retried: %w", err)
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("commit what is retried of %s partition %d: %w", t.Topic, p.Partition, err)
			}
		}
	}
	return nil
}
