package cli

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Pairs reads KEY=VALUE arguments of a flag.
func Pairs(flag string, pairs []string) (map[string]*string, error) {
	set := map[string]*string{}
	for _, p := range pairs {
		key, value, ok := strings.Cut(p, "=")
		if !ok || key == "" {
			return nil, Usagef("%s %q: want KEY=VALUE", flag, p)
		}
		set[key] = &value
	}
	return set, nil
}

// ConfigChange are the flags of commands that change configs, and the change.
type ConfigChange struct {
	set, unset []string
	dryRun     bool
}

// Flags adds --config, --delete-config and --dry-run.
func (c *ConfigChange) Flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVarP(&c.set, "config", "c", nil, "KEY=VALUE to set; may be given more than once")
	f.StringArrayVar(&c.unset, "delete-config", nil, "KEY to put back to its default; may be given more than once")
	f.BoolVar(&c.dryRun, "dry-run", false, "have the broker check the request, and change nothing")
	cmd.MarkFlagsOneRequired("config", "delete-config")
}

// Set is the change that sets pairs, KEY=VALUE, and puts the keys of unset back to their defaults.
func (c *ConfigChange) Set(pairs, unset []string) { c.set, c.unset = pairs, unset }

// DryRunFlag adds --dry-run alone, for commands that take the change as arguments.
func (c *ConfigChange) DryRunFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.dryRun, "dry-run", false, "have the broker check the request, and change nothing")
}

// Apply changes the configs of resources and shows what was asked for. The broker takes all changes of a resource or none.
func (c *ConfigChange) Apply(ctx context.Context, cl *Cluster, kind kmsg.ConfigResourceType, names ...string) (*Result, error) {
	set, err := Pairs("--config", c.set)
	if err != nil {
		return nil, err
	}
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	req.ValidateOnly = c.dryRun
	keys := slices.Sorted(maps.Keys(set))
	for _, name := range names {
		resource := kmsg.NewIncrementalAlterConfigsRequestResource()
		resource.ResourceType, resource.ResourceName = kind, name
		change := func(key string, op kmsg.IncrementalAlterConfigOp, value *string) {
			cfg := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			cfg.Name, cfg.Op, cfg.Value = key, op, value
			resource.Configs = append(resource.Configs, cfg)
		}
		for _, key := range keys {
			change(key, kmsg.IncrementalAlterConfigOpSet, set[key])
		}
		for _, key := range c.unset {
			change(key, kmsg.IncrementalAlterConfigOpDelete, nil)
		}
		req.Resources = append(req.Resources, resource)
	}
	res := new(Result)
	if c.dryRun {
		res.DryRun()
	}
	table := res.Table("configs", "NAME", "KEY", "VALUE", "STATUS", "ERROR")
	for _, shard := range cl.RequestSharded(ctx, req) {
		if shard.Err != nil {
			return nil, shard.Err
		}
		for _, r := range shard.Resp.(*kmsg.IncrementalAlterConfigsResponse).Resources {
			if err := ErrorOf(r.ErrorCode, r.ErrorMessage); err != nil {
				table.Row(r.ResourceName, nil, nil, "failed", fmt.Errorf("%s %q: %w", strings.TrimSuffix(strings.ToLower(kind.String()), "_config"), r.ResourceName, err))
				continue
			}
			for _, key := range keys {
				table.Row(r.ResourceName, key, set[key], "set", nil)
			}
			for _, key := range c.unset {
				table.Row(r.ResourceName, key, nil, "deleted", nil)
			}
		}
	}
	return res, nil
}

// SortedConfigs sorts by key.
func SortedConfigs(configs []kadm.Config) []kadm.Config {
	return slices.SortedFunc(slices.Values(configs), func(a, b kadm.Config) int { return cmp.Compare(a.Key, b.Key) })
}
