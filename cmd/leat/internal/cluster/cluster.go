// Package cluster holds the commands of leat cluster, and leat broker status: what a cluster is and what it can do.
package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

// New makes leat cluster.
func New(env *cli.Env) *cobra.Command {
	return env.ClusterFlags(cli.Group("cluster", "The cluster: brokers, features, API versions",
		newInfo(env), newBrokers(env), newFeatures(env), newAPIVersions(env)))
}

func newInfo(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "info",
		Short: "Show the cluster's id, its brokers, and how much is in it",
		Example: `  leat cluster info
  # Kafka: kafka-cluster.sh cluster-id --bootstrap-server localhost:9092`,
		Args: cobra.NoArgs,
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, _ []string) (*cli.Result, error) {
			meta, err := cl.Admin.Metadata(ctx)
			if err != nil {
				return nil, err
			}
			partitions := 0
			for _, t := range meta.Topics {
				partitions += len(t.Partitions)
			}
			res := new(cli.Result)
			res.Field("CLUSTER-ID", meta.Cluster)
			res.Field("CONTROLLER", meta.Controller)
			res.Field("TOPICS", len(meta.Topics))
			res.Field("PARTITIONS", partitions)
			brokersTable(res, meta)
			return res, nil
		}),
	}
}

func brokersTable(res *cli.Result, meta kadm.Metadata) {
	table := res.Table("brokers", "ID", "HOST", "PORT", "RACK", "CONTROLLER")
	for _, b := range meta.Brokers {
		table.Row(b.NodeID, b.Host, b.Port, b.Rack, b.NodeID == meta.Controller)
	}
}

func newBrokers(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "brokers",
		Short: "List the brokers, at the addresses that they advertise",
		Example: `  leat cluster brokers
  # Kafka: kafka-cluster.sh list-endpoints --bootstrap-server localhost:9092`,
		Args: cobra.NoArgs,
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, _ []string) (*cli.Result, error) {
			meta, err := cl.Admin.BrokerMetadata(ctx)
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			brokersTable(res, meta)
			return res, nil
		}),
	}
}

// versions are the API versions of each broker, by node id.
func versions(ctx context.Context, cl *cli.Cluster) ([]kadm.BrokerApiVersions, error) {
	all, err := cl.Admin.ApiVersions(ctx)
	if err != nil {
		return nil, err
	}
	var list []kadm.BrokerApiVersions
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if err := all[id].Err; err != nil {
			return nil, fmt.Errorf("broker %d: %w", id, err)
		}
		list = append(list, all[id])
	}
	return list, nil
}

func newFeatures(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "features",
		Short: "Show the features that brokers support, and those that are final",
		Example: `  leat cluster features
  # Kafka: kafka-features.sh --bootstrap-server localhost:9092 describe`,
		Args: cobra.NoArgs,
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, _ []string) (*cli.Result, error) {
			all, err := versions(ctx, cl)
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			table := res.Table("features", "BROKER", "FEATURE", "MIN-VERSION", "MAX-VERSION", "FINALIZED-VERSION")
			for _, v := range all {
				raw := v.Raw()
				final := map[string]int16{}
				for _, f := range raw.FinalizedFeatures {
					final[f.Name] = f.MaxVersionLevel
				}
				for _, f := range raw.SupportedFeatures {
					var level any
					if l, ok := final[f.Name]; ok {
						level = l
					}
					table.Row(v.NodeID, f.Name, f.MinVersion, f.MaxVersion, level)
				}
			}
			return res, nil
		}),
	}
}

func newAPIVersions(env *cli.Env) *cobra.Command {
	return &cobra.Command{
		Use:   "api-versions",
		Short: "Show which requests brokers understand, in which versions",
		Example: `  leat cluster api-versions
  # Kafka: kafka-broker-api-versions.sh --bootstrap-server localhost:9092`,
		Args: cobra.NoArgs,
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, _ []string) (*cli.Result, error) {
			all, err := versions(ctx, cl)
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			table := res.Table("api_versions", "BROKER", "KEY", "API", "MIN-VERSION", "MAX-VERSION")
			for _, v := range all {
				v.EachKeySorted(func(key, low, high int16) {
					table.Row(v.NodeID, key, kmsg.NameForKey(key), low, high)
				})
			}
			return res, nil
		}),
	}
}

// NewStatus makes leat broker status.
func NewStatus(env *cli.Env) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Ask a running broker how it is",
		Long:    "Asks the brokers at --bootstrap-server: exit code 0 if one answers, 1 if none does. Works with any broker that speaks the Kafka protocol.",
		Example: `  leat broker status --bootstrap-server localhost:9092`,
		Args:    cobra.NoArgs,
		RunE: env.Admin(func(ctx context.Context, cl *cli.Cluster, _ []string) (*cli.Result, error) {
			start := time.Now()
			meta, err := cl.Admin.Metadata(ctx)
			if err != nil {
				return nil, err
			}
			took := time.Since(start)
			res := new(cli.Result)
			var ids []string
			for _, b := range meta.Brokers {
				ids = append(ids, fmt.Sprintf("%s:%d", b.Host, b.Port))
			}
			partitions, leaderless := 0, 0
			for _, t := range meta.Topics {
				for _, p := range t.Partitions {
					partitions++
					if p.Leader < 0 {
						leaderless++
					}
				}
			}
			res.Field("STATUS", "running")
			res.Field("CLUSTER-ID", meta.Cluster)
			res.Field("ADVERTISED", strings.Join(ids, ","))
			res.Field("TOPICS", len(meta.Topics))
			res.Field("PARTITIONS", partitions)
			res.Field("PARTITIONS-WITHOUT-LEADER", leaderless)
			res.Field("ANSWER-MS", float64(took.Microseconds())/1000)
			return res, nil
		}),
	}
	return env.ClusterFlags(cmd)
}
