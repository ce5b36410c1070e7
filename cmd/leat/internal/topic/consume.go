package topic

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

// consuming are the flags of consume.
type consuming struct {
	offset, group string
	count         int
	exit          bool
	uncommitted   bool
	partitions    []int32
	printing
}

func newConsume(env *cli.Env) *cobra.Command {
	var c consuming
	cmd := &cobra.Command{
		Use:   "consume TOPIC",
		Short: "Print a topic's records, from its start unless told otherwise",
		Long: `Prints records from the start of the topic (or from --offset), and waits for more until Ctrl-C, -n, or -e. Records of transactions that
are open or were aborted are left out unless --uncommitted is given. With a group, reading goes on where the group was, and what was
printed is committed.

Text prints key, tab, value; -v prints all of a record; --format json prints one object a line. -f formats by hand:
%k key  %v value  %h headers  %t topic  %p partition  %o offset  %T timestamp in ms  %d timestamp  %K %S bytes of key, value  \n \t %%
Values that begin with the registry's magic byte are decoded as Avro if --registry is given, or with --value-decode avro.`,
		Example: `  leat topic consume orders -n 3
  leat topic consume orders -o -100 -e -v
  leat topic consume orders -o @-1h:@now --format json
  leat topic consume orders -g audit --registry http://localhost:8081
  # Kafka: kafka-console-consumer.sh --bootstrap-server localhost:9092 --topic orders --from-beginning --formatter-property print.key=true --isolation-level read_committed`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cli.First(env.Topics()),
		RunE: env.Action(func(cmd *cobra.Command, args []string) (*cli.Result, error) {
			return nil, c.run(cmd.Context(), env, args[0])
		}),
	}
	f := cmd.Flags()
	f.StringVarP(&c.offset, "offset", "o", "start", "where to begin: start, end, an offset N, +N after the start, -N before the end, @TIME; FROM:TO stops before TO")
	f.IntVarP(&c.count, "count", "n", 0, "stop after so many records; 0 means no limit")
	f.BoolVarP(&c.exit, "exit-at-end", "e", false, "stop at what is the end now")
	f.StringVarP(&c.group, "group", "g", "", "read as a member of this group, and commit what was printed")
	f.BoolVar(&c.uncommitted, "uncommitted", false, "records of open and aborted transactions, too (read_uncommitted)")
	f.Int32SliceVarP(&c.partitions, "partition", "p", nil, "only these partitions")
	c.printing.flags(cmd)
	cmd.MarkFlagsMutuallyExclusive("group", "partition")
	_ = cmd.RegisterFlagCompletionFunc("group", env.Groups())
	return cmd
}

func (c *consuming) run(ctx context.Context, env *cli.Env, topic string) error {
	from, to, bounded, err := parseRange(c.offset, time.Now())
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(env.Out, 64<<10)
	print, err := c.printer(env, out)
	if err != nil {
		return err
	}
	admin, err := env.Connect(ctx)
	if err != nil {
		return err
	}
	defer admin.Close()
	rd, starts, err := c.plan(ctx, admin, topic, from, to)
	if err != nil {
		return err
	}
	rd.stop = c.exit || bounded
	if !env.Quiet() {
		rd.reached = func(n int) {
			out.Flush()
			fmt.Fprintf(env.Err, "%s, end reached, waiting for new records\n", cli.Count(n, "partition"))
		}
	}
	opts := readerOpts(c.uncommitted)
	if c.group != "" {
		reset, err := groupReset(from)
		if err != nil {
			return err
		}
		opts = append(opts, kgo.ConsumerGroup(c.group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(reset), kgo.AutoCommitMarks())
		opts = append(opts, c.membership(rd, admin, topic, starts)...)
	} else {
		opts = append(opts, rd.direct(topic, starts))
	}
	cl, err := env.Connect(ctx, opts...)
	if err != nil {
		return err
	}
	rd.cl = cl
	defer cl.CloseAllowingRebalance()
	err = c.drain(ctx, rd, out, print)
	if c.group != "" {
		err = errors.Join(err, c.leave(ctx, cl))
	}
	return err
}

// drain prints records until it has enough, and marks for the group's commit what got out.
func (c *consuming) drain(ctx context.Context, rd *reader, out *bufio.Writer, print func(context.Context, *kgo.Record) error) error {
	n := 0
	var written []*kgo.Record // but maybe not flushed: what did not get out must not be committed
	flush := func() error {
		err := out.Flush()
		if err == nil && c.group != "" {
			rd.cl.MarkCommitRecords(written...)
		}
		written = written[:0]
		return err
	}
	err := rd.each(ctx, func(r *kgo.Record) error {
		if err := print(ctx, r); err != nil {
			return err
		}
		if c.group != "" {
			written = append(written, r)
		}
		if n++; n == c.count {
			return errEnough
		}
		if rd.cl.BufferedFetchRecords() == 0 || len(written) >= 1000 {
			return flush()
		}
		return nil
	})
	return errors.Join(err, flush())
}

// leave commits what was printed and leaves the group, also after Ctrl-C.
func (c *consuming) leave(ctx context.Context, cl *cli.Cluster) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	return errors.Join(cl.CommitMarkedOffsets(ctx), cl.LeaveGroupContext(ctx))
}

// parseRange reads FROM or FROM:TO. Times have colons, too: the separator is one after which a position follows.
func parseRange(s string, now time.Time) (from, to cli.Position, bounded bool, err error) {
	for i := range len(s) {
		if s[i] != ':' || i == 0 {
			continue
		}
		f, ferr := cli.ParsePosition(s[:i], now)
		t, terr := cli.ParsePosition(s[i+1:], now)
		if ferr == nil && terr == nil && (f.Kind != cli.AtTime || strings.HasPrefix(s[i+1:], "@") || t.Kind == cli.AtEnd) {
			return f, t, true, nil
		}
	}
	from, err = cli.ParsePosition(s, now)
	if err == nil && from.Kind == cli.AtCurrent {
		err = cli.Usagef("--offset current: a group begins where it was anyway")
	}
	return from, cli.Position{}, false, err
}

// readerOpts are the options that a reader's client needs.
func readerOpts(uncommitted bool) []kgo.Opt {
	opts := []kgo.Opt{kgo.KeepControlRecords(), kgo.FetchMaxWait(500 * time.Millisecond)}
	if !uncommitted {
		opts = append(opts, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	return opts
}

// groupReset is where a group begins that has not been there yet.
func groupReset(from cli.Position) (kgo.Offset, error) {
	switch from.Kind {
	case cli.AtStart:
		return kgo.NewOffset().AtStart(), nil
	case cli.AtEnd:
		return kgo.NewOffset().AtEnd(), nil
	case cli.AtTime:
		return kgo.NewOffset().AfterMilli(from.Time.UnixMilli()), nil
	}
	return kgo.Offset{}, cli.Usagef("--offset with --group says where the group begins that was not there yet: want start, end or @TIME ('leat group seek' moves one that was)")
}

// membership keeps the reader informed of what the group gives to it. starts are where partitions begin that the group has not read.
func (c *consuming) membership(rd *reader, admin *cli.Cluster, topic string, starts map[int32]int64) []kgo.Opt {
	lost := func(_ context.Context, _ *kgo.Client, lost map[string][]int32) { rd.revoked(lost[topic]) }
	return []kgo.Opt{kgo.OnPartitionsRevoked(lost), kgo.OnPartitionsLost(lost),
		kgo.OnPartitionsAssigned(func(ctx context.Context, _ *kgo.Client, got map[string][]int32) {
			committed, err := admin.Admin.FetchOffsetsForTopics(ctx, c.group, topic)
			at := map[int32]int64{}
			for _, p := range got[topic] {
				at[p] = starts[p]
				if o, ok := committed.Lookup(topic, p); err == nil && ok && o.Err == nil && o.At >= 0 {
					at[p] = o.At
				}
			}
			rd.assigned(at)
		})}
}

// plan finds out where the partitions end, and where reading begins.
func (c *consuming) plan(ctx context.Context, cl *cli.Cluster, topic string, from, to cli.Position) (*reader, map[int32]int64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	bounds, err := readable(ctx, cl, topic, c.uncommitted)
	if err != nil {
		return nil, nil, err
	}
	starts, err := cli.Resolve(ctx, cl, from, bounds, topic)
	if err != nil {
		return nil, nil, err
	}
	if to == (cli.Position{}) {
		to.Kind = cli.AtEnd
	}
	ends, err := cli.Resolve(ctx, cl, to, bounds, topic)
	if err != nil {
		return nil, nil, err
	}
	for _, p := range c.partitions {
		if _, there := bounds[topic][p]; !there {
			return nil, nil, fmt.Errorf("topic %q has no partition %d: it has %d", topic, p, len(bounds[topic]))
		}
	}
	at := map[int32]int64{}
	for p, offset := range starts[topic] {
		if len(c.partitions) == 0 || slices.Contains(c.partitions, p) {
			at[p] = offset
		}
	}
	return &reader{ends: ends[topic]}, at, nil
}

// readable are the bounds of what can be read of a topic: without uncommitted, up to the first open transaction.
func readable(ctx context.Context, cl *cli.Cluster, topic string, uncommitted bool) (cli.Range, error) {
	if _, err := need(ctx, cl, topic); err != nil {
		return nil, err
	}
	bounds, err := cli.BoundsOf(ctx, cl, topic)
	if err != nil || uncommitted {
		return bounds, err
	}
	stable, err := cl.Admin.ListCommittedOffsets(ctx, topic)
	if err != nil {
		return nil, err
	}
	for p, b := range bounds[topic] {
		if o, ok := stable.Lookup(topic, p); ok && o.Err == nil {
			bounds[topic][p] = cli.Bounds{Start: b.Start, End: o.Offset}
		}
	}
	return bounds, nil
}

// direct makes a client read partitions from offsets, without a group.
func (rd *reader) direct(topic string, from map[int32]int64) kgo.Opt {
	offsets := map[int32]kgo.Offset{}
	for p, offset := range from {
		offsets[p] = kgo.NewOffset().At(offset)
	}
	rd.assigned(from)
	return kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets})
}
