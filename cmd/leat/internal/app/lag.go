package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
	"github.com/leatstream/leat/streams"
)

// lag is how far behind an application is in one input partition.
type lag struct {
	topic          string
	partition      int32
	committed, end int64
}

func (l lag) behind() int64 { return max(l.end-max(l.committed, 0), 0) }

// lagsOf asks the brokers how far an application is, in what it has committed. It is 0 when everything is processed:
// positions are after the markers of transactions.
func lagsOf(ctx context.Context, cl *cli.Cluster, app string) ([]lag, error) {
	committed, err := cl.Admin.FetchOffsets(ctx, app)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, err
	}
	topics := slices.Sorted(maps.Keys(committed))
	if len(topics) == 0 {
		return nil, nil
	}
	ends, err := cl.Admin.ListCommittedOffsets(ctx, topics...)
	if err != nil {
		return nil, err
	}
	var all []lag
	for _, o := range committed.Sorted() {
		end, ok := ends.Lookup(o.Topic, o.Partition)
		switch {
		case o.Err != nil:
			return nil, o.Err
		case !ok || errors.Is(end.Err, kerr.UnknownTopicOrPartition):
			continue // deleted since
		case end.Err != nil:
			return nil, fmt.Errorf("%s partition %d: %w", o.Topic, o.Partition, end.Err)
		}
		all = append(all, lag{o.Topic, o.Partition, o.At, end.Offset})
	}
	slices.SortFunc(all, func(a, b lag) int {
		return cmp.Or(cmp.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
	})
	return all, nil
}

func newLag(a *access) *cobra.Command {
	return &cobra.Command{
		Use:   "lag APP",
		Short: "Show how far an application is behind in its inputs, as the brokers know it",
		Example: `  leat app lag shop
  # Kafka: kafka-consumer-groups.sh --bootstrap-server localhost:9092 --describe --group shop`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.names(),
		RunE: a.env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
			if _, err := known(ctx, cl, args[0]); err != nil {
				return nil, err
			}
			lags, err := lagsOf(ctx, cl, args[0])
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			sum := int64(0)
			for _, l := range lags {
				sum += l.behind()
			}
			res.Field("TOTAL-LAG", sum)
			table := res.Table("partitions", "TOPIC", "PARTITION", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG")
			for _, l := range lags {
				table.Row(l.topic, l.partition, l.committed, l.end, l.behind())
			}
			return res, nil
		}),
	}
}

func newStores(a *access) *cobra.Command {
	return &cobra.Command{
		Use:               "stores APP",
		Short:             "Show the stores, their formats, changelogs and sizes",
		Example:           "  leat app stores shop",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.names(),
		RunE: a.on(func(ctx context.Context, cl *cli.Cluster, r *streams.Remote, args []string) (*cli.Result, error) {
			instances, err := answering(ctx, cl, r, args[0], true)
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			table := res.Table("stores", "STORE", "KIND", "KEY", "VALUE", "CHANGELOG", "PARTITIONS", "RUNNING", "ROWS")
			rows := map[string][]any{}
			for _, k := range instances {
				for _, st := range k.Stores {
					row := rows[st.Name]
					if row == nil {
						row = []any{st.Name, st.Kind, st.Key, st.Value, st.Changelog, st.Partitions, 0, int64(0)}
						rows[st.Name] = row
					}
					if st.Global { // each instance has all of it
						row[6], row[7] = max(row[6].(int), len(st.Here)), max(row[7].(int64), st.Rows)
					} else {
						row[6], row[7] = row[6].(int)+len(st.Here), row[7].(int64)+st.Rows
					}
				}
			}
			for _, name := range slices.Sorted(maps.Keys(rows)) {
				table.Row(rows[name]...)
			}
			return res, failed(res, instances)
		}),
	}
}

// internalTopic is an internal topic of an application.
type internalTopic struct {
	name, kind string
	partitions int
}

// internalTopics are those of the application's manifest that are there, and the manifest. Others whose names are as of its
// internal topics may be an earlier topology's: their kind is "left-over".
func internalTopics(ctx context.Context, cl *cli.Cluster, r *streams.Remote, app string) ([]internalTopic, error) {
	there, err := cl.Admin.ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	kinds := map[string]string{app + manifestSuffix: "manifest"}
	m, _, err := r.Manifest(ctx)
	if err != nil {
		return nil, err
	}
	for _, st := range m.Stores {
		if st.Changelog != "" && !st.FromSource {
			kinds[app+"-"+st.Changelog] = "changelog"
		}
	}
	for _, t := range m.Repartitions {
		kinds[app+"-"+t.Name] = "repartition"
	}
	var all []internalTopic
	for _, name := range there.Names() {
		kind := kinds[name]
		if kind == "" {
			if !internalName(app, name) || othersOwn(there.Names(), app, name) {
				continue
			}
			kind = "left-over"
		}
		all = append(all, internalTopic{name, kind, len(there[name].Partitions)})
	}
	return all, nil
}

// internalName reports whether a topic is named as an internal one of the application.
func internalName(app, name string) bool {
	return strings.HasPrefix(name, app+"-") && slices.ContainsFunc([]string{"-changelog", "-repartition", "-subscription-registration-topic", "-subscription-response-topic"},
		func(suffix string) bool { return strings.HasSuffix(name, suffix) })
}

// othersOwn reports whether a topic belongs to another application, whose name begins with this one's.
func othersOwn(topics []string, app, name string) bool {
	for _, t := range topics {
		other, ok := strings.CutSuffix(t, manifestSuffix)
		if ok && strings.HasPrefix(other, app+"-") && strings.HasPrefix(name, other+"-") {
			return true
		}
	}
	return false
}
