// Package group holds the commands of leat group: consumer groups, how far they are, and moving them.
package group

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

// New makes leat group.
func New(env *cli.Env) *cobra.Command {
	return env.ClusterFlags(cli.Group("group", "Consumer groups: list, describe, lag, reset offsets, delete",
		newList(env), newDescribe(env), newMembers(env), newSeek(env), newDelete(env), newDeleteOffsets(env)))
}

func newList(env *cli.Env) *cobra.Command {
	var states []string
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List groups",
		Example: `  leat group list
  leat group list --state Stable
  # Kafka: kafka-consumer-groups.sh --bootstrap-server localhost:9092 --list --state`,
		Args: cobra.NoArgs,
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, _ []string) (*cli.Result, error) {
			groups, err := list(ctx, cl, states)
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			table := res.Table("groups", "GROUP", "STATE", "TYPE", "PROTOCOL-TYPE")
			for _, g := range groups {
				table.Row(g.Group, g.GroupState, orClassic(g.GroupType), g.ProtocolType)
			}
			return res, nil
		}),
	}
	cmd.Flags().StringSliceVar(&states, "state", nil, "only groups in these states: Stable, Empty, Dead, PreparingRebalance, CompletingRebalance, …")
	return cmd
}

// list asks every broker for its groups, sorted by name.
func list(ctx context.Context, cl *cli.Cluster, states []string) ([]kmsg.ListGroupsResponseGroup, error) {
	req := kmsg.NewPtrListGroupsRequest()
	req.StatesFilter = states
	var groups []kmsg.ListGroupsResponseGroup
	for _, shard := range cl.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return nil, shard.Err
		}
		resp := shard.Resp.(*kmsg.ListGroupsResponse)
		if err := cli.ErrorOf(resp.ErrorCode, nil); err != nil {
			return nil, err
		}
		groups = append(groups, resp.Groups...)
	}
	slices.SortFunc(groups, func(a, b kmsg.ListGroupsResponseGroup) int { return cmp.Compare(a.Group, b.Group) })
	return groups, nil
}

// orClassic is the type of groups of brokers that know only one.
func orClassic(kind string) string {
	if kind == "" {
		return "classic"
	}
	return kind
}

// sections are the parts of a description that the user may choose.
var sections = []string{"state", "lag", "members"}

func newDescribe(env *cli.Env) *cobra.Command {
	var only []string
	cmd := &cobra.Command{
		Use:     "describe GROUP...",
		Aliases: []string{"lag"},
		Short:   "Show how far groups are: state, lag by partition and in total, members",
		Example: `  leat group describe audit
  leat group describe audit --section lag --format json
  # Kafka: kafka-consumer-groups.sh --bootstrap-server localhost:9092 --describe --group audit`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: env.Groups(),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			for _, s := range only {
				if !slices.Contains(sections, s) {
					return nil, cli.Usagef("--section %q: want %s", s, strings.Join(sections, ", "))
				}
			}
			return describeAll(ctx, cl, args, only)
		}),
	}
	cmd.Flags().StringSliceVar(&only, "section", []string{"state", "lag"}, "what to show: state, lag, members")
	_ = cmd.RegisterFlagCompletionFunc("section", cobra.FixedCompletions(sections, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

func newMembers(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "members GROUP...",
		Short: "Show the members of groups and what they are assigned",
		Example: `  leat group members audit
  # Kafka: kafka-consumer-groups.sh --bootstrap-server localhost:9092 --describe --group audit --members --verbose`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: env.Groups(),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			return describeAll(ctx, cl, args, []string{"members"})
		}),
	}
}

// describeAll shows sections of groups.
func describeAll(ctx context.Context, cl *cli.Cluster, names, only []string) (*cli.Result, error) {
	var groups []*group
	for _, name := range names {
		g, err := describe(ctx, cl, name)
		if err != nil {
			return nil, err
		}
		groups = append(groups, g)
	}
	res := new(cli.Result)
	var lags [][]lag
	if slices.Contains(only, "lag") || slices.Contains(only, "state") {
		for _, g := range groups {
			l, err := g.lags(ctx, cl)
			if err != nil {
				return nil, err
			}
			lags = append(lags, l)
		}
	}
	if slices.Contains(only, "state") {
		table := res.Table("groups", "GROUP", "STATE", "TYPE", "ASSIGNOR", "MEMBERS", "COORDINATOR", "TOTAL-LAG")
		for i, g := range groups {
			table.Row(g.name, g.state, g.kind, g.assignor, len(g.members), g.coordinator, total(lags[i]))
		}
	}
	if slices.Contains(only, "lag") {
		table := res.Table("partitions", "GROUP", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG", "CONSUMER-ID", "HOST", "CLIENT-ID", "ERROR")
		for i, g := range groups {
			for _, l := range lags[i] {
				table.Row(l.row(g.name)...)
			}
		}
	}
	if slices.Contains(only, "members") {
		table := res.Table("members", "GROUP", "CONSUMER-ID", "INSTANCE-ID", "HOST", "CLIENT-ID", "PARTITIONS", "ASSIGNMENT")
		for _, g := range groups {
			for _, m := range g.members {
				table.Row(g.name, m.id, m.instance, m.host, m.client, len(m.partitions()), m.partitions())
			}
		}
	}
	return res, nil
}

func newDelete(env *cli.Env) *cobra.Command {
	var d cli.Destruction
	cmd := &cobra.Command{
		Use:   "delete GROUP...",
		Short: "Delete groups without members, with their offsets",
		Example: `  leat group delete audit --yes
  # Kafka: kafka-consumer-groups.sh --bootstrap-server localhost:9092 --delete --group audit`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: env.Groups(),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			plan := new(cli.Result)
			table := plan.Table("groups", "GROUP", "STATE", "PARTITIONS", "STATUS", "ERROR")
			var doomed []string
			for _, name := range args {
				g, err := describe(ctx, cl, name)
				if err != nil {
					table.Row(name, nil, nil, "failed", err)
					continue
				}
				if err := g.idle(); err != nil {
					table.Row(name, g.state, nil, "failed", err)
					continue
				}
				offsets, err := cl.Admin.FetchOffsets(ctx, name)
				if err != nil {
					return nil, err
				}
				table.Row(name, g.state, len(offsets.Sorted()), "would-be-deleted", nil)
				doomed = append(doomed, name)
			}
			if len(doomed) == 0 {
				return plan, nil
			}
			if ok, res, err := d.Agreed(env, plan, fmt.Sprintf("Delete %s, with the offsets?", cli.Count(len(doomed), "group"))); !ok {
				return res, err
			}
			deleted, err := cl.Admin.DeleteGroups(ctx, doomed...)
			if err != nil {
				return nil, err
			}
			return plan.Replace("groups", func(row []any) {
				if row[3] == "would-be-deleted" {
					row[3] = "deleted"
					if err := deleted[row[0].(string)].Err; err != nil {
						row[3], row[4] = "failed", fmt.Errorf("group %q: %w", row[0], err)
					}
				}
			}), nil
		}),
	}
	d.Flags(cmd)
	return cmd
}

func newDeleteOffsets(env *cli.Env) *cobra.Command {
	var (
		d      cli.Destruction
		topics []string
	)
	cmd := &cobra.Command{
		Use:   "delete-offsets GROUP --topic TOPIC",
		Short: "Forget a group's offsets of topics that it no longer reads",
		Example: `  leat group delete-offsets audit --topic orders --yes
  # Kafka: kafka-consumer-groups.sh --bootstrap-server localhost:9092 --delete-offsets --group audit --topic orders`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: cli.First(env.Groups()),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			if _, err := describe(ctx, cl, args[0]); err != nil {
				return nil, err
			}
			committed, err := cl.Admin.FetchOffsets(ctx, args[0])
			if err != nil {
				return nil, err
			}
			plan := new(cli.Result)
			table := plan.Table("partitions", "TOPIC", "PARTITION", "CURRENT-OFFSET", "STATUS", "ERROR")
			doomed := map[string]map[int32]struct{}{}
			for _, o := range committed.Sorted() {
				if slices.Contains(topics, o.Topic) {
					table.Row(o.Topic, o.Partition, o.At, "would-be-deleted", nil)
					if doomed[o.Topic] == nil {
						doomed[o.Topic] = map[int32]struct{}{}
					}
					doomed[o.Topic][o.Partition] = struct{}{}
				}
			}
			if table.Len() == 0 {
				return nil, fmt.Errorf("group %q has no offsets of %s", args[0], strings.Join(topics, ", "))
			}
			if ok, res, err := d.Agreed(env, plan, fmt.Sprintf("Delete the offsets of %s?", cli.Count(table.Len(), "partition"))); !ok {
				return res, err
			}
			deleted, err := cl.Admin.DeleteOffsets(ctx, args[0], doomed)
			if err != nil {
				return nil, err
			}
			return plan.Replace("partitions", func(row []any) {
				row[3] = "deleted"
				if err, _ := deleted.Lookup(row[0].(string), row[1].(int32)); err != nil {
					row[3], row[4] = "failed", fmt.Errorf("%s partition %d: %w", row[0], row[1], err)
				}
			}), nil
		}),
	}
	cmd.Flags().StringSliceVarP(&topics, "topic", "t", nil, "topics whose offsets to forget")
	_ = cmd.MarkFlagRequired("topic")
	_ = cmd.RegisterFlagCompletionFunc("topic", env.Topics())
	d.Flags(cmd)
	return cmd
}

var errHasMembers = errors.New("the group has members")
