// Package config holds the commands of leat config: the configs of topics, brokers and groups.
package config

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

// kinds are what has configs, by the name on the command line.
var kinds = map[string]kmsg.ConfigResourceType{
	"topic": kmsg.ConfigResourceTypeTopic, "broker": kmsg.ConfigResourceTypeBroker, "group": kmsg.ConfigResourceTypeGroupConfig,
}

const kindsHelp = "What has configs: topic NAME, broker ID (or broker '' for the default of all brokers), group NAME."

// New makes leat config.
func New(env *cli.Env) *cobra.Command {
	return env.ClusterFlags(cli.Group("config", "Configs of topics, brokers and groups: get, set, unset",
		newGet(env), newSet(env), newUnset(env), newAlter(env)))
}

// kind is the first argument.
func kind(args []string) (kmsg.ConfigResourceType, error) {
	k, ok := kinds[strings.TrimSuffix(args[0], "s")]
	if !ok {
		return 0, cli.Usagef("%q has no configs: want topic, broker or group", args[0])
	}
	return k, nil
}

// complete completes what has configs, then its name.
func complete(env *cli.Env) cli.Completion {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		switch {
		case len(args) == 0:
			return []string{"topic", "broker", "group"}, cobra.ShellCompDirectiveNoFileComp
		case len(args) > 1:
			return nil, cobra.ShellCompDirectiveNoFileComp
		case args[0] == "topic":
			return env.Topics()(cmd, nil, begun)
		case args[0] == "group":
			return env.Groups()(cmd, nil, begun)
		}
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
}

func newGet(env *cli.Env) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "get (topic|broker|group) NAME [KEY...]",
		Aliases: []string{"describe"},
		Short:   "Show configs that were set, or with --all each with its default",
		Long:    kindsHelp + "\n\nSource says where a value comes from: DYNAMIC_TOPIC_CONFIG was set for the topic, DEFAULT_CONFIG is the default.",
		Example: `  leat config get topic orders
  leat config get topic orders retention.ms
  leat config get broker 1 --all --format json
  # Kafka: kafka-configs.sh --bootstrap-server localhost:9092 --describe --entity-type topics --entity-name orders`,
		Args:              cobra.MinimumNArgs(2),
		ValidArgsFunction: complete(env),
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			k, err := kind(args)
			if err != nil {
				return nil, err
			}
			configs, err := describe(ctx, cl, k, args[1])
			if err != nil {
				return nil, fmt.Errorf("%s %q: %w", args[0], args[1], err)
			}
			res := new(cli.Result)
			table := res.Table("configs", "NAME", "KEY", "VALUE", "SOURCE", "ERROR")
			keys := args[2:]
			var known []string
			for _, c := range configs {
				known = append(known, c.Key)
				set := c.Source != kmsg.ConfigSourceDefaultConfig && c.Source != kmsg.ConfigSourceStaticBrokerConfig
				if slices.Contains(keys, c.Key) || len(keys) == 0 && (all || set) {
					table.Row(args[1], c.Key, c.Value, c.Source.String(), nil)
				}
			}
			for _, key := range keys {
				if !slices.Contains(known, key) {
					table.Row(args[1], key, nil, nil, cli.NotFound("config", key, known, nil))
				}
			}
			return res, nil
		}),
	}
	cmd.Flags().BoolVarP(&all, "all", "a", false, "configs at their default, too")
	return cmd
}

// describe asks for all configs of a resource.
func describe(ctx context.Context, cl *cli.Cluster, k kmsg.ConfigResourceType, name string) ([]kadm.Config, error) {
	req := kmsg.NewPtrDescribeConfigsRequest()
	resource := kmsg.NewDescribeConfigsRequestResource()
	resource.ResourceType, resource.ResourceName = k, name
	req.Resources = append(req.Resources, resource)
	var configs []kadm.Config
	for _, shard := range cl.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return nil, shard.Err
		}
		for _, r := range shard.Resp.(*kmsg.DescribeConfigsResponse).Resources {
			if err := cli.ErrorOf(r.ErrorCode, r.ErrorMessage); err != nil {
				return nil, err
			}
			for _, c := range r.Configs {
				configs = append(configs, kadm.Config{Key: c.Name, Value: c.Value, Sensitive: c.IsSensitive, Source: c.Source})
			}
		}
	}
	return cli.SortedConfigs(configs), nil
}

// changing makes the RunE of a command that changes configs: take has what the arguments after kind and name say.
func changing(env *cli.Env, change *cli.ConfigChange, take func(args []string)) func(*cobra.Command, []string) error {
	return env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
		k, err := kind(args)
		if err != nil {
			return nil, err
		}
		take(args)
		return change.Apply(ctx, cl, k, args[1])
	})
}

func newSet(env *cli.Env) *cobra.Command {
	var change cli.ConfigChange
	cmd := &cobra.Command{
		Use:   "set (topic|broker|group) NAME KEY=VALUE...",
		Short: "Set configs",
		Long:  kindsHelp,
		Example: `  leat config set topic orders retention.ms=86400000 cleanup.policy=compact,delete
  # Kafka: kafka-configs.sh --bootstrap-server localhost:9092 --alter --entity-type topics --entity-name orders --add-config retention.ms=86400000`,
		Args:              cobra.MinimumNArgs(3),
		ValidArgsFunction: complete(env),
		RunE:              changing(env, &change, func(args []string) { change.Set(args[2:], nil) }),
	}
	change.DryRunFlag(cmd)
	return cmd
}

func newUnset(env *cli.Env) *cobra.Command {
	var change cli.ConfigChange
	cmd := &cobra.Command{
		Use:   "unset (topic|broker|group) NAME KEY...",
		Short: "Put configs back to their defaults",
		Long:  kindsHelp,
		Example: `  leat config unset topic orders retention.ms
  # Kafka: kafka-configs.sh --bootstrap-server localhost:9092 --alter --entity-type topics --entity-name orders --delete-config retention.ms`,
		Args:              cobra.MinimumNArgs(3),
		ValidArgsFunction: complete(env),
		RunE:              changing(env, &change, func(args []string) { change.Set(nil, args[2:]) }),
	}
	change.DryRunFlag(cmd)
	return cmd
}

func newAlter(env *cli.Env) *cobra.Command {
	var change cli.ConfigChange
	cmd := &cobra.Command{
		Use:     "alter (topic|broker|group) NAME [-c KEY=VALUE] [--delete-config KEY]",
		Short:   "Set some configs and put others back to their defaults, in one request",
		Long:    kindsHelp,
		Example: `  leat config alter topic orders -c retention.ms=86400000 --delete-config segment.bytes`,
		Args:    cobra.ExactArgs(2), ValidArgsFunction: complete(env),
		RunE: changing(env, &change, func([]string) {}),
	}
	change.Flags(cmd)
	return cmd
}
