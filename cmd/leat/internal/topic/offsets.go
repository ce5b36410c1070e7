package topic

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

func newOffsets(env *cli.Env) *cobra.Command {
	var at string
	cmd := &cobra.Command{
		Use:   "offsets TOPIC...",
		Short: "Show where partitions begin and end, or the offset at a time",
		Example: `  leat topic offsets orders
  leat topic offsets orders --at @-1h
  # Kafka: kafka-get-offsets.sh --bootstrap-server localhost:9092 --topic orders --time -1`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: env.Topics(),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			pos, err := cli.ParsePosition(at, time.Now())
			if err != nil {
				return nil, err
			}
			if _, err := need(ctx, cl, args...); err != nil {
				return nil, err
			}
			bounds, err := cli.BoundsOf(ctx, cl, args...)
			if err != nil {
				return nil, err
			}
			offsets, err := cli.Resolve(ctx, cl, pos, bounds, args...)
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			table := res.Table("partitions", "TOPIC", "PARTITION", "OFFSET", "LOG-START-OFFSET", "LOG-END-OFFSET")
			for _, topic := range args {
				for _, p := range slices.Sorted(maps.Keys(offsets[topic])) {
					b := bounds[topic][p]
					table.Row(topic, p, offsets[topic][p], b.Start, b.End)
				}
			}
			return res, nil
		}),
	}
	cmd.Flags().StringVar(&at, "at", "end", "which offset: start, end, +N, -N, or @TIME for the first record not before it")
	return cmd
}

func newDeleteRecords(env *cli.Env) *cobra.Command {
	var (
		d          cli.Destruction
		to, file   string
		partitions []int32
	)
	cmd := &cobra.Command{
		Use:     "delete-records TOPIC --to POSITION | delete-records --file FILE",
		Aliases: []string{"trim"},
		Short:   "Delete the records before an offset",
		Long: `Deletes the records of a topic before a position, in all partitions or those given. --file takes the JSON of Kafka's tool:
{"partitions":[{"topic":"orders","partition":0,"offset":100}],"version":1}; offset -1 is the end.`,
		Example: `  leat topic delete-records orders --to @-7d --dry-run
  leat topic delete-records orders --to 100 --partition 0 --yes
  # Kafka: kafka-delete-records.sh --bootstrap-server localhost:9092 --offset-json-file before.json`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: cli.First(env.Topics()),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			if (len(args) == 1) == (file != "") {
				return nil, cli.Usagef("give either a topic and --to, or --file")
			}
			before, err := cutFromFile(file)
			if file == "" {
				before, err = cutAt(ctx, cl, args[0], to, partitions)
			}
			if err != nil {
				return nil, err
			}
			return cut(ctx, env, cl, &d, before)
		}),
	}
	f := cmd.Flags()
	f.StringVar(&to, "to", "", "position before which all is deleted: end, an offset N, -N, @TIME")
	f.Int32SliceVarP(&partitions, "partition", "p", nil, "only these partitions")
	f.StringVar(&file, "file", "", "file with offsets, in the JSON of Kafka's tool")
	cmd.MarkFlagsMutuallyExclusive("to", "file")
	cmd.MarkFlagsMutuallyExclusive("partition", "file")
	d.Flags(cmd)
	return cmd
}

// cutAt says where to cut each partition of a topic.
func cutAt(ctx context.Context, cl *cli.Cluster, topic, to string, partitions []int32) (kadm.Offsets, error) {
	if to == "" {
		return nil, cli.Usagef("--to is missing: the position before which all is deleted")
	}
	pos, err := cli.ParsePosition(to, time.Now())
	if err != nil {
		return nil, err
	}
	if _, err := need(ctx, cl, topic); err != nil {
		return nil, err
	}
	bounds, err := cli.BoundsOf(ctx, cl, topic)
	if err != nil {
		return nil, err
	}
	offsets, err := cli.Resolve(ctx, cl, pos, bounds, topic)
	if err != nil {
		return nil, err
	}
	before := kadm.Offsets{}
	for p, at := range offsets[topic] {
		if len(partitions) == 0 || slices.Contains(partitions, p) {
			before.Add(kadm.Offset{Topic: topic, Partition: p, At: at})
		}
	}
	for _, p := range partitions {
		if _, there := offsets[topic][p]; !there {
			return nil, fmt.Errorf("topic %q has no partition %d: it has %d", topic, p, len(bounds[topic]))
		}
	}
	return before, nil
}

// cutFromFile reads the JSON of Kafka's tool.
func cutFromFile(path string) (kadm.Offsets, error) {
	if path == "" {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var content struct {
		Partitions []struct {
			Topic     string
			Partition int32
			Offset    int64
		}
	}
	if err := json.Unmarshal(data, &content); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	before := kadm.Offsets{}
	for _, p := range content.Partitions {
		before.Add(kadm.Offset{Topic: p.Topic, Partition: p.Partition, At: p.Offset})
	}
	return before, nil
}

// cut shows what would go, and deletes it if the user agrees.
func cut(ctx context.Context, env *cli.Env, cl *cli.Cluster, d *cli.Destruction, before kadm.Offsets) (*cli.Result, error) {
	topics := slices.Sorted(maps.Keys(before))
	if _, err := need(ctx, cl, topics...); err != nil {
		return nil, err
	}
	bounds, err := cli.BoundsOf(ctx, cl, topics...)
	if err != nil {
		return nil, err
	}
	columns := []string{"TOPIC", "PARTITION", "LOG-START-OFFSET", "NEW-START-OFFSET", "OFFSETS", "ERROR"}
	all := before.Sorted()
	plan := new(cli.Result)
	table := plan.Table("partitions", columns...)
	total := int64(0)
	for _, o := range all {
		b := bounds[o.Topic][o.Partition]
		at := o.At
		if at < 0 {
			at = b.End
		}
		gone := max(at-b.Start, 0)
		total += gone
		table.Row(o.Topic, o.Partition, b.Start, max(at, b.Start), gone, nil)
	}
	question := fmt.Sprintf("Delete the records of %s in %s?", cli.Count(int(total), "offset"), cli.Count(len(all), "partition"))
	if ok, res, err := d.Agreed(env, plan, question); !ok {
		return res, err
	}
	deleted, err := cl.Admin.DeleteRecords(ctx, before)
	if err != nil {
		return nil, err
	}
	res := new(cli.Result)
	table = res.Table("partitions", columns...)
	answers := deleted.Sorted()
	slices.SortFunc(answers, func(a, b kadm.DeleteRecordsResponse) int {
		return cmp.Or(cmp.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	for _, r := range answers {
		start := bounds[r.Topic][r.Partition].Start
		if r.Err != nil {
			table.Row(r.Topic, r.Partition, start, nil, nil, fmt.Errorf("%s partition %d: %w", r.Topic, r.Partition, r.Err))
		} else {
			table.Row(r.Topic, r.Partition, start, r.LowWatermark, r.LowWatermark-start, nil)
		}
	}
	return res, nil
}
