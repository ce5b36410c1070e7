// Package app holds the commands of leat app: applications, their instances, tasks and stores, and beginning anew.
//
// Which applications there are, their workers and lag are asked of the brokers. Tasks, stores and pictures are asked of the
// instances, which are found through the application's group and need streams.Config.Listen.
package app

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
	"github.com/leatstream/leat/streams"
)

// access is how instances are asked.
type access struct {
	env       *cli.Env
	token, ca string
}

// New makes leat app.
func New(env *cli.Env) *cobra.Command {
	a := &access{env: env}
	store := cli.Group("store", "Read a store", newGet(a), newScan(a))
	cmd := env.ClusterFlags(cli.Group("app", "Applications: instances, topology, tasks, lag, stores, pause, reset",
		newList(a), newDescribe(a), newTopology(a), newTasks(a), newLag(a), newStores(a), store,
		newPause(a, true), newPause(a, false), newReset(a)))
	f := cmd.PersistentFlags()
	f.StringVar(&a.token, "token", "", "the secret that the instances share, streams.QueryConfig.Token (default $LEAT_APP_TOKEN)")
	f.StringVar(&a.ca, "ca", "", "PEM file with the authorities of the instances' certificates (default: the system's)")
	return cmd
}

// remote asks the instances of an application. Whoever gets one closes it.
func (a *access) remote(cl *cli.Cluster, app string) (*streams.Remote, error) {
	cfg := streams.RemoteConfig{AppID: app, Client: cl.Opts(), Queries: streams.QueryConfig{Token: a.token, Timeout: a.env.Timeout()}}
	if cfg.Queries.Token == "" {
		cfg.Queries.Token = a.env.Getenv("LEAT_APP_TOKEN")
	}
	if a.ca != "" {
		pem, err := os.ReadFile(a.ca)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("--ca %s: no certificate in PEM is in it", a.ca)
		}
		cfg.Queries.ClientTLS = &tls.Config{RootCAs: pool}
	}
	return streams.NewRemote(cfg)
}

// on makes the RunE of a command whose first argument is an application.
func (a *access) on(f func(ctx context.Context, cl *cli.Cluster, r *streams.Remote, args []string) (*cli.Result, error)) func(*cobra.Command, []string) error {
	return a.env.Admin(func(ctx context.Context, cl *cli.Cluster, args []string) (*cli.Result, error) {
		r, err := a.remote(cl, args[0])
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return f(ctx, cl, r, args)
	})
}

// application is what the brokers know of one.
type application struct {
	name, state string
	members     []kadm.DescribedGroupMember
}

const manifestSuffix = "-manifest"

// applications are the groups of Leat's protocol, and those without members whose manifest is there.
func applications(ctx context.Context, cl *cli.Cluster) ([]application, error) {
	groups, err := cl.Admin.DescribeGroups(ctx)
	if err != nil {
		return nil, err
	}
	topics, err := cl.Admin.ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	found := map[string]application{}
	for _, g := range groups {
		if g.Protocol == streams.GroupProtocol || topics.Has(g.Group+manifestSuffix) {
			found[g.Group] = application{g.Group, g.State, g.Members}
		}
	}
	for _, name := range topics.Names() {
		if app, ok := strings.CutSuffix(name, manifestSuffix); ok && found[app].name == "" {
			found[app] = application{name: app, state: "Dead"}
		}
	}
	all := make([]application, 0, len(found))
	for _, app := range found {
		all = append(all, app)
	}
	slices.SortFunc(all, func(a, b application) int { return cmp.Compare(a.name, b.name) })
	return all, nil
}

// names completes with the names of applications.
func (a *access) names() cli.Completion { return cli.First(a.env.Groups()) }

// known is an error if there is no such application.
func known(ctx context.Context, cl *cli.Cluster, name string) (application, error) {
	all, err := applications(ctx, cl)
	if err != nil {
		return application{}, err
	}
	var names []string
	for _, app := range all {
		if app.name == name {
			return app, nil
		}
		names = append(names, app.name)
	}
	return application{}, cli.NotFound("application", name, names, kerr.GroupIDNotFound)
}

func newList(a *access) *cobra.Command {
	return &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List applications, as the brokers know them",
		Example: `  leat app list
  # Kafka: kafka-streams-groups.sh --bootstrap-server localhost:9092 --list`,
		Args: cobra.NoArgs,
		RunE: a.env.Admin(func(ctx context.Context, cl *cli.Cluster, _ []string) (*cli.Result, error) {
			all, err := applications(ctx, cl)
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			table := res.Table("applications", "APP", "STATE", "WORKERS", "LAG")
			for _, app := range all {
				lags, err := lagsOf(ctx, cl, app.name)
				if err != nil {
					return nil, err
				}
				sum := int64(0)
				for _, l := range lags {
					sum += l.behind()
				}
				table.Row(app.name, app.state, len(app.members), sum)
			}
			return res, nil
		}),
	}
}

func newDescribe(a *access) *cobra.Command {
	return &cobra.Command{
		Use:   "describe APP",
		Short: "Show an application's instances, workers and internal topics",
		Example: `  leat app describe shop
  # Kafka: kafka-streams-groups.sh --bootstrap-server localhost:9092 --describe --group shop --members`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.names(),
		RunE: a.on(func(ctx context.Context, cl *cli.Cluster, r *streams.Remote, args []string) (*cli.Result, error) {
			app, err := known(ctx, cl, args[0])
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			res.Field("APP", app.name)
			res.Field("STATE", app.state)
			members, _, err := r.Members(ctx)
			if err != nil {
				return nil, err
			}
			instances, err := r.Instances(ctx, false)
			if err != nil {
				return nil, err
			}
			table := res.Table("instances", "INSTANCE", "URL", "STATE", "PAUSED", "RESTORED-PERCENT", "RUNNING", "RESTORING", "COPIES", "ERROR")
			for _, k := range instances {
				if k.Err != nil {
					table.Row(k.ID, k.URL, nil, nil, nil, nil, nil, nil, k.Err)
					continue
				}
				n := map[string]int{}
				for _, t := range k.Tasks {
					n[t.Role]++
				}
				table.Row(k.ID, k.URL, k.State, k.Paused, k.Restored, n["running"], n["restoring"], n["standby"]+n["warm-up"], nil)
			}
			table = res.Table("workers", "WORKER", "INSTANCE", "HOST", "CLIENT-ID", "RACK", "PARTITIONS", "ASSIGNMENT")
			for _, m := range members {
				table.Row(m.ID, m.Instance, m.Host, m.Client, m.Rack, len(m.Partitions), m.Partitions)
			}
			table = res.Table("topics", "TOPIC", "KIND", "PARTITIONS")
			topics, err := internalTopics(ctx, cl, r, app.name)
			if err != nil {
				return nil, err
			}
			for _, t := range topics {
				table.Row(t.name, t.kind, t.partitions)
			}
			return res, nil
		}),
	}
}

func newTopology(a *access) *cobra.Command {
	var as string
	cmd := &cobra.Command{
		Use:   "topology APP",
		Short: "Print the topology that runs",
		Long: `Prints the topology as Kafka Streams' Topology#describe does, which its viewers read. --as draws it otherwise. With --format json the
text is the member "topology" of an object.`,
		Example: `  leat app topology shop
  leat app topology shop --as mermaid`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.names(),
	}
	cmd.RunE = a.on(func(ctx context.Context, cl *cli.Cluster, r *streams.Remote, args []string) (*cli.Result, error) {
		if !slices.Contains(pictures, as) {
			return nil, cli.Usagef("--as %q: want %s", as, strings.Join(pictures, ", "))
		}
		if _, err := known(ctx, cl, args[0]); err != nil {
			return nil, err
		}
		text, err := r.Topology(ctx, as)
		if err != nil {
			return nil, err
		}
		res := new(cli.Result)
		if a.env.Format() == "text" {
			_, err := fmt.Fprint(a.env.Out, text)
			return res, err
		}
		res.Field("TOPOLOGY", text)
		return res, nil
	})
	cmd.Flags().StringVar(&as, "as", "text", "text, dot, mermaid or json")
	_ = cmd.RegisterFlagCompletionFunc("as", cobra.FixedCompletions(pictures, cobra.ShellCompDirectiveNoFileComp))
	return cmd
}

var pictures = []string{"text", "dot", "mermaid", "json"}

func newTasks(a *access) *cobra.Command {
	return &cobra.Command{
		Use:               "tasks APP",
		Short:             "Show the tasks of the instances that answer: where they are, lag, restore",
		Example:           "  leat app tasks shop\n  leat app tasks shop --format tsv",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.names(),
		RunE: a.on(func(ctx context.Context, cl *cli.Cluster, r *streams.Remote, args []string) (*cli.Result, error) {
			instances, err := answering(ctx, cl, r, args[0], false)
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			table := res.Table("tasks", "TASK", "ROLE", "INSTANCE", "WORKER", "LAG", "REMAINING", "RESTORED-RECORDS", "RESTORED-BYTES", "TIME-LEFT")
			type row struct {
				sub       int
				partition int32
				cells     []any
			}
			var rows []row
			for _, k := range instances {
				for _, t := range k.Tasks {
					cells := []any{t.ID, t.Role, k.ID, t.Worker, nil, nil, t.Restored, t.Bytes, nil}
					if t.Role == "running" {
						cells[4] = t.Lag
					} else if t.Remaining >= 0 {
						cells[5] = t.Remaining
					}
					if t.Role == "restoring" && t.Left > 0 {
						cells[8] = t.Left
					}
					rows = append(rows, row{t.Sub, t.Partition, cells})
				}
			}
			slices.SortStableFunc(rows, func(a, b row) int {
				return cmp.Or(cmp.Compare(a.sub, b.sub), cmp.Compare(a.partition, b.partition))
			})
			for _, r := range rows {
				table.Row(r.cells...)
			}
			return res, failed(res, instances)
		}),
	}
}

// answering are the instances of an application, of which one at least has to answer.
func answering(ctx context.Context, cl *cli.Cluster, r *streams.Remote, app string, counts bool) ([]streams.Instance, error) {
	if _, err := known(ctx, cl, app); err != nil {
		return nil, err
	}
	all, err := r.Instances(ctx, counts)
	if err != nil {
		return nil, err
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("no instance of application %q is known that answers: they do with streams.Config.Listen, while they run", app)
	}
	for _, k := range all {
		if k.Err == nil {
			return all, nil
		}
	}
	return nil, all[0].Err
}

// failed adds a table of the instances that did not answer.
func failed(res *cli.Result, all []streams.Instance) error {
	var errs []any
	for _, k := range all {
		if k.Err != nil {
			errs = append(errs, k)
		}
	}
	if len(errs) == 0 {
		return nil
	}
	table := res.Table("unreachable", "INSTANCE", "URL", "ERROR")
	for _, k := range all {
		if k.Err != nil {
			table.Row(k.ID, k.URL, k.Err)
		}
	}
	return nil
}

func newPause(a *access, pause bool) *cobra.Command {
	use, short, done := "resume", "Go on with processing on all instances", "running"
	if pause {
		use, short, done = "pause", "Stop processing on all instances, until resume or a restart", "paused"
	}
	return &cobra.Command{
		Use:               use + " APP",
		Short:             short,
		Example:           "  leat app " + use + " shop",
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.names(),
		RunE: a.on(func(ctx context.Context, cl *cli.Cluster, r *streams.Remote, args []string) (*cli.Result, error) {
			if _, err := answering(ctx, cl, r, args[0], false); err != nil {
				return nil, err
			}
			all, err := r.SetPaused(ctx, pause)
			if err != nil {
				return nil, err
			}
			res := new(cli.Result)
			table := res.Table("instances", "INSTANCE", "URL", "STATUS", "ERROR")
			for _, k := range all {
				status := any(done)
				if k.Err != nil {
					status = "failed"
				}
				table.Row(k.ID, k.URL, status, cli.OrNil(k.Err))
			}
			return res, nil
		}),
	}
}
