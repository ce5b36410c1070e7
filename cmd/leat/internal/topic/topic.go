// Package topic holds the commands of leat topic: what topics there are, what is in them, and changing both.
package topic

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

// New makes leat topic.
func New(env *cli.Env) *cobra.Command {
	return env.RegistryFlags(env.ClusterFlags(cli.Group("topic", "Topics: create, describe, change, produce, consume",
		newList(env), newCreate(env), newDescribe(env), newAlter(env), newAddPartitions(env), newDelete(env),
		newOffsets(env), newDeleteRecords(env), newProduce(env), newConsume(env), newLatest(env))))
}

func newList(env *cli.Env) *cobra.Command {
	var internal bool
	cmd := &cobra.Command{
		Use:     "list [PATTERN...]",
		Aliases: []string{"ls"},
		Short:   "List topics",
		Long:    "Lists topics, all or those that match a pattern with * and ?.",
		Example: `  leat topic list
  leat topic list 'orders*' --format json
  # Kafka: kafka-topics.sh --bootstrap-server localhost:9092 --list`,
		ValidArgsFunction: env.Topics(),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			list := cl.Admin.ListTopics
			if internal {
				list = cl.Admin.ListTopicsWithInternal
			}
			topics, err := list(ctx)
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			table := res.Table("topics", "TOPIC", "PARTITIONS", "REPLICAS")
			for _, t := range topics.Sorted() {
				if matches(args, t.Topic) {
					table.Row(t.Topic, len(t.Partitions), t.Partitions.NumReplicas())
				}
			}
			return res, nil
		}),
	}
	cmd.Flags().BoolVar(&internal, "internal", false, "internal topics too")
	return cmd
}

func matches(patterns []string, name string) bool {
	for _, p := range patterns {
		if ok, err := path.Match(p, name); ok || err != nil && p == name {
			return true
		}
	}
	return len(patterns) == 0
}

func newCreate(env *cli.Env) *cobra.Command {
	var (
		partitions  int32
		replicas    int16
		configs     []string
		ifNotExists bool
		dryRun      bool
	)
	cmd := &cobra.Command{
		Use:   "create TOPIC...",
		Short: "Create topics",
		Example: `  leat topic create orders -p 3
  leat topic create stock -p 3 -r 1 -c cleanup.policy=compact -c segment.ms=60000 --if-not-exists
  # Kafka: kafka-topics.sh --bootstrap-server localhost:9092 --create --topic orders --partitions 3 --replication-factor 1 --config cleanup.policy=compact`,
		Args: cobra.MinimumNArgs(1),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			set, err := cli.Pairs("--config", configs)
			if err != nil {
				return nil, err
			}
			create := cl.Admin.CreateTopics
			if dryRun {
				create = cl.Admin.ValidateCreateTopics
			}
			created, err := create(ctx, partitions, replicas, set, args...)
			if err != nil {
				return nil, err
			}
			return createdTopics(ctx, cl, args, created, ifNotExists, dryRun)
		}),
	}
	f := cmd.Flags()
	f.Int32VarP(&partitions, "partitions", "p", -1, "number of partitions (default the broker's)")
	f.Int16VarP(&replicas, "replication-factor", "r", -1, "copies of each partition (default the broker's)")
	f.StringArrayVarP(&configs, "config", "c", nil, "KEY=VALUE; may be given more than once")
	f.BoolVar(&ifNotExists, "if-not-exists", false, "a topic that exists is fine")
	f.BoolVar(&dryRun, "dry-run", false, "have the broker check the request, and create nothing")
	return cmd
}

// createdTopics shows what became of topics, in the order in which they were asked for.
func createdTopics(ctx context.Context, cl *cli.Cluster, names []string, created kadm.CreateTopicResponses, ifNotExists, dryRun bool) (*cli.Result, error) {
	res := new(cli.Result)
	if dryRun {
		res.DryRun()
	}
	table := res.Table("topics", "TOPIC", "STATUS", "PARTITIONS", "REPLICAS", "ERROR")
	// Brokers tell the numbers of the topic in the answer, since 2.4. Those of one that exists have to be asked for.
	var there []string
	for _, t := range created.Sorted() {
		if errors.Is(t.Err, kerr.TopicAlreadyExists) && ifNotExists {
			there = append(there, t.Topic)
		}
	}
	existing := kadm.TopicDetails{}
	if len(there) > 0 {
		var err error
		if existing, err = cl.Admin.ListTopicsWithInternal(ctx, there...); err != nil {
			return nil, err
		}
	}
	for _, name := range names {
		t := created[name]
		switch {
		case t.Err == nil && dryRun:
			table.Row(t.Topic, "would-be-created", t.NumPartitions, t.ReplicationFactor, nil)
		case t.Err == nil:
			table.Row(t.Topic, "created", t.NumPartitions, t.ReplicationFactor, nil)
		case slices.Contains(there, t.Topic):
			d := existing[t.Topic]
			table.Row(t.Topic, "exists", len(d.Partitions), d.Partitions.NumReplicas(), nil)
		case errors.Is(t.Err, kerr.TopicAlreadyExists):
			table.Row(t.Topic, "failed", nil, nil, fmt.Errorf("topic %q exists already (%w); --if-not-exists accepts that", t.Topic, cli.NameOnly(t.Err)))
		default:
			table.Row(t.Topic, "failed", nil, nil, fmt.Errorf("topic %q: %w", t.Topic, cli.WithMessage(t.Err, t.ErrMessage)))
		}
	}
	return res, nil
}

// find returns the topics with these names, and an error for those that are not there.
func find(ctx context.Context, cl *cli.Cluster, names []string) (kadm.TopicDetails, map[string]error, error) {
	topics, err := cl.Admin.ListTopicsWithInternal(ctx, names...)
	if err != nil {
		return nil, nil, err
	}
	missing := map[string]error{}
	var known []string
	for _, name := range names {
		err := topics[name].Err
		if err == nil {
			continue
		}
		if errors.Is(err, kerr.UnknownTopicOrPartition) {
			if known == nil {
				all, err := cl.Admin.ListTopicsWithInternal(ctx)
				if err != nil {
					return nil, nil, err
				}
				known = all.Names()
			}
			err = cli.NotFound("topic", name, known, err)
		} else {
			err = fmt.Errorf("topic %q: %w", name, err)
		}
		missing[name] = err
	}
	return topics, missing, nil
}

// need is find for commands that do nothing unless all topics are there.
func need(ctx context.Context, cl *cli.Cluster, names ...string) (kadm.TopicDetails, error) {
	topics, missing, err := find(ctx, cl, names)
	if err != nil {
		return nil, err
	}
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		err = errors.Join(err, missing[name])
	}
	return topics, err
}

func newDelete(env *cli.Env) *cobra.Command {
	var d cli.Destruction
	cmd := &cobra.Command{
		Use:   "delete TOPIC...",
		Short: "Delete topics",
		Example: `  leat topic delete orders --dry-run
  leat topic delete orders --yes
  # Kafka: kafka-topics.sh --bootstrap-server localhost:9092 --delete --topic orders`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: env.Topics(),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			topics, missing, err := find(ctx, cl, args)
			if err != nil {
				return nil, err
			}
			plan := new(cli.Result)
			table := plan.Table("topics", "TOPIC", "PARTITIONS", "STATUS", "ERROR")
			var doomed []string
			for _, name := range args {
				if err := missing[name]; err != nil {
					table.Row(name, nil, "failed", err)
					continue
				}
				table.Row(name, len(topics[name].Partitions), "would-be-deleted", nil)
				doomed = append(doomed, name)
			}
			if len(doomed) == 0 {
				return plan, nil
			}
			if ok, res, err := d.Agreed(env, plan, fmt.Sprintf("Delete %s, with all records?", cli.Count(len(doomed), "topic"))); !ok {
				return res, err
			}
			deleted, err := cl.Admin.DeleteTopics(ctx, doomed...)
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			table = res.Table("topics", "TOPIC", "PARTITIONS", "STATUS", "ERROR")
			for _, name := range args {
				err := missing[name]
				if err == nil {
					err = cli.WithMessage(deleted[name].Err, deleted[name].ErrMessage)
				}
				if err != nil {
					table.Row(name, nil, "failed", err)
				} else {
					table.Row(name, len(topics[name].Partitions), "deleted", nil)
				}
			}
			return res, nil
		}),
	}
	d.Flags(cmd)
	return cmd
}

func newAddPartitions(env *cli.Env) *cobra.Command {
	var total, add int
	var dryRun bool
	cmd := &cobra.Command{
		Use:   "add-partitions TOPIC... (--total N | --add N)",
		Short: "Add partitions to topics",
		Long: `Adds partitions. There is no way back, and records of a key that were written before stay where they are: producers then send the
key to another partition.`,
		Example: `  leat topic add-partitions orders --total 6
  leat topic add-partitions orders --add 3
  # Kafka: kafka-topics.sh --bootstrap-server localhost:9092 --alter --topic orders --partitions 6`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: env.Topics(),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			topics, err := need(ctx, cl, args...)
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			table := res.Table("topics", "TOPIC", "BEFORE", "AFTER", "ERROR")
			for _, name := range args {
				before := len(topics[name].Partitions)
				after := before + add
				if total > 0 {
					after = total
				}
				change := cl.Admin.UpdatePartitions
				if dryRun {
					res.DryRun()
					change = cl.Admin.ValidateUpdatePartitions
				}
				changed, err := change(ctx, after, name)
				if err != nil {
					return nil, err
				}
				if c := changed[name]; c.Err != nil {
					table.Row(name, before, nil, fmt.Errorf("topic %q: %w", name, cli.WithMessage(c.Err, c.ErrMessage)))
				} else {
					table.Row(name, before, after, nil)
				}
			}
			return res, nil
		}),
	}
	f := cmd.Flags()
	f.IntVarP(&total, "total", "p", 0, "how many partitions the topic is to have")
	f.IntVar(&add, "add", 0, "how many partitions to add")
	f.BoolVar(&dryRun, "dry-run", false, "have the broker check the request, and add nothing")
	cmd.MarkFlagsMutuallyExclusive("total", "add")
	cmd.MarkFlagsOneRequired("total", "add")
	return cmd
}

func newAlter(env *cli.Env) *cobra.Command {
	var change cli.ConfigChange
	cmd := &cobra.Command{
		Use:   "alter TOPIC... [-c KEY=VALUE] [--delete-config KEY]",
		Short: "Change the configs of topics",
		Example: `  leat topic alter orders -c retention.ms=604800000 -c max.message.bytes=2000000
  leat topic alter orders --delete-config retention.ms
  # Kafka: kafka-configs.sh --bootstrap-server localhost:9092 --alter --entity-type topics --entity-name orders --add-config retention.ms=604800000`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: env.Topics(),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			if _, err := need(ctx, cl, args...); err != nil {
				return nil, err
			}
			return change.Apply(ctx, cl, kmsg.ConfigResourceTypeTopic, args...)
		}),
	}
	change.Flags(cmd)
	return cmd
}

// sections are the parts of a description that the user may choose.
var sections = []string{"summary", "configs", "partitions"}

func newDescribe(env *cli.Env) *cobra.Command {
	var only []string
	var all bool
	cmd := &cobra.Command{
		Use:   "describe TOPIC...",
		Short: "Show a topic's partitions, leaders, replicas, offsets and configs",
		Example: `  leat topic describe orders
  leat topic describe orders --section configs --all-configs
  # Kafka: kafka-topics.sh --bootstrap-server localhost:9092 --describe --topic orders`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: env.Topics(),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			for _, s := range only {
				if !slices.Contains(sections, s) {
					return nil, cli.Usagef("--section %q: want %s", s, strings.Join(sections, ", "))
				}
			}
			topics, err := need(ctx, cl, args...)
			if err != nil {
				return nil, err
			}
			d := description{cl: cl, topics: topics, names: args, res: new(cli.Result), allConfigs: all}
			for _, part := range []struct {
				name string
				show func(context.Context) error
			}{{"summary", d.summary}, {"configs", d.configs}, {"partitions", d.partitions}} {
				if len(only) > 0 && !slices.Contains(only, part.name) {
					continue
				}
				if err := part.show(ctx); err != nil {
					return nil, err
				}
			}
			return d.res, nil
		}),
	}
	cmd.Flags().StringSliceVar(&only, "section", nil, "what to show: summary, configs, partitions (default all)")
	cmd.Flags().BoolVar(&all, "all-configs", false, "configs at their default, too")
	_ = cmd.RegisterFlagCompletionFunc("section", cobra.FixedCompletions(sections, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

// description collects what describe shows.
type description struct {
	cl         *cli.Cluster
	topics     kadm.TopicDetails
	names      []string
	res        *cli.Result
	allConfigs bool
}

func (d *description) summary(context.Context) error {
	table := d.res.Table("summary", "TOPIC", "ID", "PARTITIONS", "REPLICAS", "INTERNAL")
	for _, name := range d.names {
		t := d.topics[name]
		table.Row(name, base64.RawURLEncoding.EncodeToString(t.ID[:]), len(t.Partitions), t.Partitions.NumReplicas(), t.IsInternal)
	}
	return nil
}

func (d *description) configs(ctx context.Context) error {
	table := d.res.Table("configs", "TOPIC", "KEY", "VALUE", "SOURCE")
	described, err := d.cl.Admin.DescribeTopicConfigs(ctx, d.names...)
	if err != nil {
		return err
	}
	for _, name := range d.names {
		rc, err := described.On(name, nil)
		if err = errors.Join(err, rc.Err); err != nil {
			return fmt.Errorf("configs of %q: %w", name, err)
		}
		for _, c := range cli.SortedConfigs(rc.Configs) {
			if d.allConfigs || c.Source == kmsg.ConfigSourceDynamicTopicConfig {
				table.Row(name, c.Key, c.Value, c.Source.String())
			}
		}
	}
	return nil
}

func (d *description) partitions(ctx context.Context) error {
	table := d.res.Table("partitions", "TOPIC", "PARTITION", "LEADER", "EPOCH", "REPLICAS", "ISR", "LOG-START-OFFSET", "LOG-END-OFFSET", "ERROR")
	starts, err := d.cl.Admin.ListStartOffsets(ctx, d.names...)
	if err != nil {
		return err
	}
	ends, err := d.cl.Admin.ListEndOffsets(ctx, d.names...)
	if err != nil {
		return err
	}
	for _, name := range d.names {
		for _, p := range d.topics[name].Partitions.Sorted() {
			var start, end any
			if o, ok := starts.Lookup(name, p.Partition); ok && o.Err == nil {
				start = o.Offset
			}
			if o, ok := ends.Lookup(name, p.Partition); ok && o.Err == nil {
				end = o.Offset
			}
			table.Row(name, p.Partition, p.Leader, p.LeaderEpoch, p.Replicas, p.ISR, start, end, cli.OrNil(p.Err))
		}
	}
	return nil
}
