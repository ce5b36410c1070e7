package topic

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
)

func newLatest(env *cli.Env) *cobra.Command {
	var (
		show    printing
		maxKeys int
	)
	cmd := &cobra.Command{
		Use:     "latest TOPIC [KEY...]",
		Aliases: []string{"snapshot"},
		Short:   "Show the latest value of each key, as a compacted topic's table",
		Long: `Reads the topic from its start to what is its end now and shows the latest value of each key, or of the given keys. Keys whose latest
value is null are deleted and not shown.`,
		Example: `  leat topic latest stock
  leat topic latest stock sku-1 --format json
  # Kafka has no such tool.`,
		Args:              cobra.MinimumNArgs(1),
		ValidArgsFunction: cli.First(env.Topics()),
		RunE: env.Action(func(cmd *cobra.Command, args []string) (*cli.Result, error) {
			decode, err := show.decoder(env)
			if err != nil {
				return nil, err
			}
			latest, err := readLatest(cmd.Context(), env, args[0], args[1:], maxKeys)
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			table := res.Table("records", "KEY", "VALUE", "PARTITION", "OFFSET", "TIMESTAMP", "ERROR")
			keys := slices.Sorted(maps.Keys(latest))
			for _, key := range keys {
				r := latest[key]
				k, err := decode.key.decode(cmd.Context(), r.Key)
				if err != nil {
					return nil, err
				}
				v, err := decode.value.decode(cmd.Context(), r.Value)
				if err != nil {
					return nil, err
				}
				table.Row(k.Cell(), v.Cell(), r.Partition, r.Offset, r.Timestamp, nil)
			}
			for _, key := range args[1:] {
				if latest[key] == nil {
					table.Row(key, nil, nil, nil, nil, fmt.Errorf("topic %q has no value for the key %q", args[0], key))
				}
			}
			return res, nil
		}),
	}
	cmd.Flags().IntVar(&maxKeys, "max-keys", 1_000_000, "give up when there are more keys: they are kept in memory")
	show.decodeFlags(cmd)
	return cmd
}

// readLatest reads the whole topic and keeps the latest record of each key, or of those wanted.
func readLatest(ctx context.Context, env *cli.Env, topic string, wanted []string, maxKeys int) (map[string]*kgo.Record, error) {
	c := consuming{}
	admin, err := env.Connect(ctx)
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	rd, starts, err := c.plan(ctx, admin, topic, cli.Position{Kind: cli.AtStart}, cli.Position{})
	if err != nil {
		return nil, err
	}
	rd.stop = true
	cl, err := env.Connect(ctx, append(readerOpts(false), rd.direct(topic, starts))...)
	if err != nil {
		return nil, err
	}
	defer cl.Close()
	rd.cl = cl
	latest := map[string]*kgo.Record{}
	err = rd.each(ctx, func(r *kgo.Record) error {
		key := string(r.Key)
		switch {
		case r.Key == nil, len(wanted) > 0 && !slices.Contains(wanted, key):
		case r.Value == nil:
			delete(latest, key)
		default:
			latest[key] = r
			if len(latest) > maxKeys {
				return fmt.Errorf("topic %q has more than %d keys: name those you want, or raise --max-keys", topic, maxKeys)
			}
		}
		return nil
	})
	return latest, err
}
