// Package dlq holds the commands of leat dlq: topics of dead letters, the records that an application could not process, with
// the headers that Leat and Kafka Streams give them.
//
// How far the letters of a topic have been retried is kept as the offsets of a group, leat-dlq-TOPIC, which are committed in the
// transactions that write the records back.
package dlq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
	"github.com/leatstream/leat/cmd/leat/internal/topic"
	"github.com/leatstream/leat/internal/txnclient"
)

// New makes leat dlq.
func New(env *cli.Env) *cobra.Command {
	return env.ClusterFlags(cli.Group("dlq", "Dead letters: list, show, write back to where they came from, drop",
		newList(env), newShow(env), newRetry(env), newDrop(env)))
}

// headers of a dead letter begin with it.
const prefix = "__streams.errors."

// letter is a dead letter with what its headers say.
type letter struct {
	*kgo.Record
	topic          string // where the record came from; empty: nowhere
	partition      int32
	offset         int64
	store          string // whose row it was, where it came of no record; topic is the changelog then
	exception, why string
	stack          string
	own            []kgo.RecordHeader // the record's, without those of the letter
}

func letterOf(r *kgo.Record) letter {
	l := letter{Record: r, partition: -1, offset: -1}
	for _, h := range r.Headers {
		name, is := strings.CutPrefix(h.Key, prefix)
		if !is {
			l.own = append(l.own, h)
			continue
		}
		text := string(h.Value)
		switch name {
		case "topic":
			l.topic = text
		case "partition":
			if n, err := strconv.ParseInt(text, 10, 32); err == nil {
				l.partition = int32(n)
			}
		case "offset":
			if n, err := strconv.ParseInt(text, 10, 64); err == nil {
				l.offset = n
			}
		case "store":
			l.store = text
		case "exception":
			l.exception = text
		case "message":
			l.why = text
		case "stacktrace":
			l.stack = text
		}
	}
	return l
}

// dead reports whether a record is a dead letter.
func (l letter) dead() bool { return l.exception != "" || l.why != "" || l.topic != "" }

// groupOf is the group whose offsets say what was retried.
func groupOf(name string) string { return "leat-dlq-" + name }

// unstablePause is how long the end of a retry that is being committed is waited for before it is looked for again.
const unstablePause = 20 * time.Millisecond

// retried are the offsets up to which letters were written back. What another retry has committed a moment ago is waited for:
// it would be written back twice.
func retried(ctx context.Context, cl *cli.Cluster, name string) (map[int32]int64, error) {
	for {
		offsets, err := txnclient.StableOffsets(ctx, cl.Client, groupOf(name), name)
		if !errors.Is(err, kerr.UnstableOffsetCommit) {
			at := map[int32]int64{}
			for p, o := range offsets[name] {
				at[p] = max(o.At, 0)
			}
			return at, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(unstablePause):
		}
	}
}

// likely are the names of topics that hold dead letters, as people name them.
var likely = regexp.MustCompile(`(?i)(^|[^a-z])(dlq|dlt|dead)([^a-z]|$)|dead[-_.]?letter`)

func newList(env *cli.Env) *cobra.Command {
	var (
		all   bool
		limit int
	)
	cmd := &cobra.Command{
		Use:     "list [TOPIC]",
		Aliases: []string{"ls"},
		Short:   "List the letters of a topic, or the topics whose names say that they hold letters",
		Long: `With a topic, its letters that were not retried: where each record came from, and what was wrong. Without one, the topics with dlq,
dlt, dead or dead-letter in their names; others are looked into when they are named.`,
		Example: `  leat dlq list
  leat dlq list orders-dlq -n 20
  leat dlq list orders-dlq --all --format json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cli.First(env.Topics()),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			if len(args) == 0 {
				return topics(ctx, cl)
			}
			from := map[int32]int64{}
			if !all {
				var err error
				if from, err = retried(ctx, cl, args[0]); err != nil {
					return nil, err
				}
			}
			res := new(cli.Result)
			table := res.Table("letters", "PARTITION", "OFFSET", "TIMESTAMP", "SOURCE-TOPIC", "SOURCE-PARTITION", "SOURCE-OFFSET", "EXCEPTION", "MESSAGE")
			_, err := topic.Read(ctx, env, args[0], nil, from, func(r *kgo.Record) error {
				if l := letterOf(r); l.dead() {
					table.Row(append([]any{r.Partition, r.Offset, r.Timestamp}, l.source()...)...)
				}
				if table.Len() == limit {
					return topic.ErrEnough
				}
				return nil
			})
			return res, err
		}),
	}
	cmd.Flags().BoolVar(&all, "all", false, "also those that were retried")
	cmd.Flags().IntVarP(&limit, "limit", "n", 100, "letters, 0 for all")
	return cmd
}

// source are the cells that say where a letter came from, and why.
func (l letter) source() []any {
	cells := []any{nil, nil, nil, l.exception, l.why}
	if l.topic != "" {
		cells[0], cells[1], cells[2] = l.topic, l.partition, l.offset
	}
	return cells
}

// topics lists the topics that are likely to hold letters.
func topics(ctx context.Context, cl *cli.Cluster) (*cli.Result, error) {
	there, err := cl.Admin.ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	names := slices.DeleteFunc(there.Names(), func(n string) bool { return !likely.MatchString(n) })
	bounds, err := cli.BoundsOf(ctx, cl, names...)
	if err != nil {
		return nil, err
	}
	res := new(cli.Result)
	table := res.Table("topics", "TOPIC", "PARTITIONS", "OFFSETS", "NOT-RETRIED")
	for _, name := range names {
		done, err := retried(ctx, cl, name)
		if err != nil {
			return nil, err
		}
		var kept, open int64
		for p, b := range bounds[name] {
			kept += b.End - b.Start
			open += b.End - b.Clamp(done[p])
		}
		table.Row(name, len(bounds[name]), kept, open)
	}
	return res, nil
}

func newShow(env *cli.Env) *cobra.Command {
	var keyAs, valueAs string
	cmd := &cobra.Command{
		Use:               "show TOPIC PARTITION OFFSET",
		Short:             "Show one letter: its record, where it came from, the error and the stack",
		Example:           "  leat dlq show orders-dlq 0 17\n  leat dlq show orders-dlq 0 17 --value-as avro --registry http://localhost:8081",
		Args:              cobra.ExactArgs(3),
		ValidArgsFunction: cli.First(env.Topics()),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			p, perr := strconv.ParseInt(args[1], 10, 32)
			at, aerr := strconv.ParseInt(args[2], 10, 64)
			if perr != nil || aerr != nil || p < 0 || at < 0 {
				return nil, cli.Usagef("want a partition and an offset, as 0 17: %s %s", args[1], args[2])
			}
			var found *kgo.Record
			_, err := topic.Read(ctx, env, args[0], []int32{int32(p)}, map[int32]int64{int32(p): at}, func(r *kgo.Record) error {
				if r.Offset == at {
					found = r
				}
				return topic.ErrEnough
			})
			if err != nil {
				return nil, err
			}
			if found == nil {
				return nil, fmt.Errorf("topic %q has no record at offset %d of partition %d", args[0], at, p)
			}
			return show(ctx, env, letterOf(found), keyAs, valueAs)
		}),
	}
	cmd.Flags().StringVar(&keyAs, "key-as", "auto", "auto, string, int, long, double, hex, base64 or avro")
	cmd.Flags().StringVar(&valueAs, "value-as", "auto", "the same for the value")
	return env.RegistryFlags(cmd)
}

func show(ctx context.Context, env *cli.Env, l letter, keyAs, valueAs string) (*cli.Result, error) {
	if !l.dead() {
		return nil, fmt.Errorf("the record at offset %d of %s partition %d is no dead letter: it has no headers %s*", l.Offset, l.Topic, l.Partition, prefix)
	}
	res := new(cli.Result)
	for _, part := range []struct {
		name, as string
		bytes    []byte
	}{{"KEY", keyAs, l.Key}, {"VALUE", valueAs, l.Value}} {
		decode, err := topic.Decode(env, part.as)
		if err != nil {
			return nil, err
		}
		v, err := decode(ctx, part.bytes)
		if err != nil { // a letter may well be one because it does not decode
			if decode, err = topic.Decode(env, "base64"); err == nil {
				v, err = decode(ctx, part.bytes)
			}
			if err != nil {
				return nil, err
			}
		}
		res.Field(part.name, v)
	}
	res.Field("TIMESTAMP", l.Timestamp)
	for i, name := range []string{"SOURCE-TOPIC", "SOURCE-PARTITION", "SOURCE-OFFSET", "EXCEPTION", "MESSAGE"} {
		res.Field(name, l.source()[i])
	}
	res.Field("STACKTRACE", l.stack)
	headers := res.Table("headers", "NAME", "VALUE")
	for _, h := range l.own {
		headers.Row(h.Key, string(h.Value))
	}
	return res, nil
}

func newDrop(env *cli.Env) *cobra.Command {
	var (
		d    cli.Destruction
		to   string
		only []int32
	)
	cmd := &cobra.Command{
		Use:   "drop TOPIC --to POSITION",
		Short: "Delete letters up to an offset",
		Example: `  leat dlq drop orders-dlq --to end --dry-run
  leat dlq drop orders-dlq --to 18 -p 0 --yes`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cli.First(env.Topics()),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			if err := onlyLetters(ctx, env, args[0], only); err != nil {
				return nil, err
			}
			return topic.Cut(ctx, env, cl, &d, args[0], to, only)
		}),
	}
	cmd.Flags().StringVar(&to, "to", "", "position before which all is deleted: an offset, end, @TIME, …")
	cmd.Flags().Int32SliceVarP(&only, "partition", "p", nil, "only these partitions")
	d.Flags(cmd)
	return cmd
}

// onlyLetters is an error if a topic begins with something else than a dead letter: somebody has mistaken its name.
func onlyLetters(ctx context.Context, env *cli.Env, name string, only []int32) error {
	var odd *kgo.Record
	_, err := topic.Read(ctx, env, name, only, nil, func(r *kgo.Record) error {
		if !letterOf(r).dead() {
			odd = r
		}
		return topic.ErrEnough
	})
	if err == nil && odd != nil {
		err = fmt.Errorf("the record at offset %d of %s partition %d is no dead letter: it has no headers %s*. 'leat topic delete-records' deletes records of any topic",
			odd.Offset, name, odd.Partition, prefix)
	}
	return err
}

// sorted are the keys of a map in order.
func sorted[V any](m map[int32]V) []int32 { return slices.Sorted(maps.Keys(m)) }
