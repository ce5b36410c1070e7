package group

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

// seeking are the flags of seek.
type seeking struct {
	d               cli.Destruction
	to, group, file string
	topics          []string
}

func newSeek(env *cli.Env) *cobra.Command {
	var s seeking
	cmd := &cobra.Command{
		Use:     "seek GROUP (--to POSITION | --to-group GROUP | --to-file FILE)",
		Aliases: []string{"reset-offsets"},
		Short:   "Reset a group's offsets",
		Long: `Sets a group's committed offsets, after showing the plan; the group must have no members. Positions:
  start, end        the earliest record, after the latest (also earliest, latest)
  N                 an offset
  +N, -N            N further on, N back, from where the group is
  @TIME             the first record not before a time: @2026-11-30, @2026-11-30T08:00:00Z
  @-DURATION        the same, so long ago: @-1h30m, @-7d
  current           what is committed (with --format tsv: an export for --to-file)
Offsets beyond a partition's records are moved to its first or its end. --topic chooses topics, TOPIC or TOPIC:PARTITION,PARTITION; without
it all topics that the group has committed are meant. A file has lines of topic,partition,offset, as Kafka's tool writes and reads them.`,
		Example: `  leat group seek audit --to start --dry-run
  leat group seek audit --to @-1h --topic orders --yes
  leat group seek audit --to -100 --yes
  leat group seek audit --to-file offsets.csv --yes
  # Kafka: kafka-consumer-groups.sh --bootstrap-server localhost:9092 --reset-offsets --group audit --topic orders --to-earliest --execute`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cli.First(env.Groups()),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			return s.run(ctx, env, cl, args[0])
		}),
	}
	f := cmd.Flags()
	f.StringVar(&s.to, "to", "", "position")
	f.StringVar(&s.group, "to-group", "", "where this other group is")
	f.StringVar(&s.file, "to-file", "", "file with lines of topic,partition,offset")
	f.StringArrayVarP(&s.topics, "topic", "t", nil, "TOPIC or TOPIC:0,1; may be given more than once")
	cmd.MarkFlagsMutuallyExclusive("to", "to-group", "to-file")
	cmd.MarkFlagsOneRequired("to", "to-group", "to-file")
	_ = cmd.RegisterFlagCompletionFunc("to-group", env.Groups())
	_ = cmd.RegisterFlagCompletionFunc("topic", env.Topics())
	s.d.Flags(cmd)
	return cmd
}

// offsets are by topic and partition.
type offsets = map[string]map[int32]int64

func (s *seeking) run(ctx context.Context, env *cli.Env, cl *cli.Cluster, name string) (*cli.Result, error) {
	// A group that does not exist yet may be given offsets: then it begins there.
	g, err := describe(ctx, cl, name)
	if err != nil {
		if !errors.Is(err, kerr.GroupIDNotFound) || len(s.topics) == 0 && s.group == "" && s.file == "" {
			return nil, err
		}
		g = &group{name: name}
	}
	chosen, err := s.chosen(ctx, cl, g)
	if err != nil {
		return nil, err
	}
	bounds, err := cli.BoundsOf(ctx, cl, slices.Sorted(maps.Keys(chosen))...)
	if err != nil {
		return nil, err
	}
	target, err := s.target(ctx, cl, g, chosen, bounds)
	if err != nil {
		return nil, err
	}
	plan := new(cli.Result)
	table := plan.Table("partitions", "TOPIC", "PARTITION", "NEW-OFFSET", "CURRENT-OFFSET", "LOG-END-OFFSET", "ERROR")
	commit := kadm.Offsets{}
	for _, topic := range slices.Sorted(maps.Keys(target)) {
		for _, p := range slices.Sorted(maps.Keys(target[topic])) {
			at := target[topic][p]
			var current any
			if o, ok := g.committed.Lookup(topic, p); ok {
				current = o.At
			}
			table.Row(topic, p, at, current, bounds[topic][p].End, nil)
			commit.Add(kadm.Offset{Topic: topic, Partition: p, At: at, LeaderEpoch: -1})
		}
	}
	if table.Len() == 0 {
		return nil, fmt.Errorf("nothing to seek: group %q has committed nothing of what was chosen", name)
	}
	if err := g.idle(); err != nil {
		return plan, err
	}
	if ok, res, err := s.d.Agreed(env, plan, fmt.Sprintf("Set the offsets of group %q in %s?", name, cli.Count(table.Len(), "partition"))); !ok {
		return res, err
	}
	committed, err := cl.Admin.CommitOffsets(ctx, name, commit)
	if err != nil {
		return nil, err
	}
	return plan.Replace("partitions", func(row []any) {
		if o, ok := committed.Lookup(row[0].(string), row[1].(int32)); ok && o.Err != nil {
			row[5] = fmt.Errorf("%s partition %d: %w", row[0], row[1], o.Err)
		}
	}), nil
}

// chosen are the partitions of --topic, or all that are committed, with the offset where the group is, -1 if it is nowhere.
func (s *seeking) chosen(ctx context.Context, cl *cli.Cluster, g *group) (offsets, error) {
	chosen := offsets{}
	add := func(topic string, p int32) {
		if chosen[topic] == nil {
			chosen[topic] = map[int32]int64{}
		}
		chosen[topic][p] = -1
		if o, ok := g.committed.Lookup(topic, p); ok {
			chosen[topic][p] = o.At
		}
	}
	if len(s.topics) == 0 {
		for _, o := range g.committed.Sorted() {
			add(o.Topic, o.Partition)
		}
		return chosen, nil
	}
	for _, arg := range s.topics {
		topic, list, some := strings.Cut(arg, ":")
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
		if !some {
			for p := range details[topic].Partitions {
				add(topic, p)
			}
			continue
		}
		for _, text := range strings.Split(list, ",") {
			p, err := strconv.ParseInt(text, 10, 32)
			if err != nil {
				return nil, cli.Usagef("--topic %q: want TOPIC or TOPIC:0,1", arg)
			}
			if _, there := details[topic].Partitions[int32(p)]; !there {
				return nil, fmt.Errorf("topic %q has no partition %d: it has %d", topic, p, len(details[topic].Partitions))
			}
			add(topic, int32(p))
		}
	}
	return chosen, nil
}

// target says where the chosen partitions are to be.
func (s *seeking) target(ctx context.Context, cl *cli.Cluster, g *group, chosen offsets, bounds cli.Range) (offsets, error) {
	switch {
	case s.group != "":
		other, err := describe(ctx, cl, s.group)
		if err != nil {
			return nil, err
		}
		wanted := offsets{}
		for _, o := range other.committed.Sorted() {
			put(wanted, o.Topic, o.Partition, o.At)
		}
		return s.within(ctx, cl, wanted, chosen, bounds)
	case s.file != "":
		wanted, err := readOffsets(s.file)
		if err != nil {
			return nil, err
		}
		return s.within(ctx, cl, wanted, chosen, bounds)
	}
	pos, err := cli.ParsePosition(s.to, time.Now())
	if err != nil {
		return nil, err
	}
	resolved, err := cli.Resolve(ctx, cl, pos, bounds, slices.Sorted(maps.Keys(chosen))...)
	if err != nil {
		return nil, err
	}
	target := offsets{}
	for _, topic := range slices.Sorted(maps.Keys(chosen)) {
		for _, p := range slices.Sorted(maps.Keys(chosen[topic])) {
			current := chosen[topic][p]
			at := resolved[topic][p]
			switch pos.Kind {
			case cli.AtCurrent, cli.Forward, cli.Backward:
				if current < 0 {
					return nil, fmt.Errorf("group %q has committed nothing in %s partition %d: --to %s needs a place to begin; use --to start, end, an offset or a time",
						g.name, topic, p, s.to)
				}
				at = current
				if pos.Kind == cli.Forward {
					at = bounds[topic][p].Clamp(current + pos.N)
				} else if pos.Kind == cli.Backward {
					at = bounds[topic][p].Clamp(current - pos.N)
				}
			}
			put(target, topic, p, at)
		}
	}
	return target, nil
}

// within takes what is wanted of a file or another group: all of it, or the topics that were chosen. Bounds are completed.
func (s *seeking) within(ctx context.Context, cl *cli.Cluster, wanted, chosen offsets, bounds cli.Range) (offsets, error) {
	more, err := cli.BoundsOf(ctx, cl, slices.Sorted(maps.Keys(wanted))...)
	if err != nil {
		return nil, err
	}
	maps.Copy(bounds, more)
	target := offsets{}
	for topic, partitions := range wanted {
		for p, at := range partitions {
			if _, ok := chosen[topic][p]; !ok && len(s.topics) > 0 {
				continue
			}
			b, there := bounds[topic][p]
			if !there {
				return nil, fmt.Errorf("there is no partition %d of topic %q", p, topic)
			}
			put(target, topic, p, b.Clamp(at))
		}
	}
	return target, nil
}

func put(o offsets, topic string, p int32, at int64) {
	if o[topic] == nil {
		o[topic] = map[int32]int64{}
	}
	o[topic][p] = at
}

// readOffsets reads lines of topic,partition,offset; tabs separate, too, and fields after the third are not looked at.
func readOffsets(path string) (offsets, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	all := offsets{}
	lines := bufio.NewScanner(f)
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		fields := strings.FieldsFunc(line, func(r rune) bool { return r == ',' || r == '\t' })
		bad := len(fields) < 3
		var p, at int64
		if !bad {
			var perr, aerr error
			p, perr = strconv.ParseInt(strings.Trim(fields[1], `" `), 10, 32)
			at, aerr = strconv.ParseInt(strings.Trim(fields[2], `" `), 10, 64)
			bad = perr != nil || aerr != nil
		}
		if bad {
			return nil, fmt.Errorf("%s line %d: want topic,partition,offset: %q", path, n, line)
		}
		put(all, strings.Trim(fields[0], `" `), int32(p), at)
	}
	return all, lines.Err()
}
