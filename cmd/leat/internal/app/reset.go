package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/leatstream/leat/cmd/leat/internal/cli"
	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams"
)

// resetting are the flags of reset.
type resetting struct {
	a        *access
	d        cli.Destruction
	to, dir  string
	force    bool
	leftOver bool
}

func newReset(a *access) *cobra.Command {
	s := &resetting{a: a}
	cmd := &cobra.Command{
		Use:   "reset APP",
		Short: "Make an application begin anew: offsets, internal topics and local state, in one plan",
		Long: `Deletes what an application remembers, after showing the plan: its changelogs, repartition topics and manifest, the offsets that it has
committed, and with --state-dir the state on this machine. Its inputs and outputs stay as they are: what it writes again, their readers see
twice. State directories on other machines may stay: an instance sees that its changelogs are new, and drops its copy.

With --to the application begins at a position of its inputs; without it, where its sources say: at the start, unless they say otherwise.
Positions are start, end, N, +N, -N, @TIME and @-DURATION as for leat group seek.

The application must not run. An instance that was stopped stays a member until its session ends (45 s), unless it was told to leave:
--force takes such members out of the group. Never use it while one runs.`,
		Example: `  leat app reset shop --dry-run
  leat app reset shop --to @-1h --state-dir .leat/state --yes
  # Kafka: kafka-streams-application-reset.sh --bootstrap-server localhost:9092 --application-id shop --input-topics orders`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.names(),
		RunE: a.on(func(ctx context.Context, cl *cli.Cluster, r *streams.Remote, args []string) (*cli.Result, error) {
			return s.run(ctx, cl, r, args[0])
		}),
	}
	f := cmd.Flags()
	f.StringVar(&s.to, "to", "", "where to begin in the inputs (default: where the sources say)")
	f.StringVar(&s.dir, "state-dir", "", "the instances' streams.Config.StateDir on this machine: the application's part of it goes, too")
	f.BoolVar(&s.force, "force", false, "take members out of the group, which are known not to run any more")
	f.BoolVar(&s.leftOver, "left-over", false, "also delete internal topics that the manifest does not know, as of an earlier topology")
	s.d.Flags(cmd)
	return cmd
}

// errRuns is wrapped by the refusal to reset an application that has members.
var errRuns = errors.New("the application has members")

func (s *resetting) run(ctx context.Context, cl *cli.Cluster, r *streams.Remote, name string) (*cli.Result, error) {
	if _, err := known(ctx, cl, name); err != nil {
		return nil, err
	}
	members, _, err := r.Members(ctx)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, err
	}
	if len(members) > 0 && !s.force {
		m := members[0]
		return nil, fmt.Errorf("application %q cannot be reset while %w: %s, one of them %s at %s. Stop them; one that was stopped stays a member for up to 45 s, or until --force: %w",
			name, errRuns, cli.Count(len(members), "worker"), m.ID, strings.TrimPrefix(m.Host, "/"), cli.NameOnly(kerr.NonEmptyGroup))
	}
	plan := new(cli.Result)
	begin, err := s.planOffsets(ctx, cl, r, name, plan)
	if err != nil {
		return nil, err
	}
	doomed, err := s.planTopics(ctx, cl, r, name, plan)
	if err != nil {
		return nil, err
	}
	dirs, err := s.planState(name, plan)
	if err != nil {
		return nil, err
	}
	question := fmt.Sprintf("Reset application %q: delete %s", name, cli.Count(len(doomed), "internal topic"))
	if len(dirs) > 0 {
		question += ", the local state"
	}
	if ok, res, err := s.d.Agreed(s.a.env, plan, question+" and the offsets?"); !ok {
		return res, err
	}
	return s.reset(ctx, cl, name, plan, members, begin, doomed, dirs)
}

// planOffsets plans what becomes of the committed offsets: new ones for the inputs with --to, else none.
func (s *resetting) planOffsets(ctx context.Context, cl *cli.Cluster, r *streams.Remote, name string, plan *cli.Result) (kadm.Offsets, error) {
	table := plan.Table("offsets", "TOPIC", "PARTITION", "CURRENT-OFFSET", "NEW-OFFSET", "STATUS", "ERROR")
	committed, err := cl.Admin.FetchOffsets(ctx, name)
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, err
	}
	m, _, err := r.Manifest(ctx)
	if err != nil {
		return nil, err
	}
	var inputs []string
	for _, t := range m.Sources {
		if !strings.HasPrefix(t.Name, "/") {
			inputs = append(inputs, t.Name)
		}
	}
	for _, o := range committed.Sorted() {
		if !slices.Contains(inputs, o.Topic) && !internalName(name, o.Topic) {
			inputs = append(inputs, o.Topic)
		}
	}
	slices.Sort(inputs)
	begin := kadm.Offsets{}
	if s.to != "" {
		if begin, err = s.positions(ctx, cl, inputs); err != nil {
			return nil, err
		}
	}
	for _, o := range begin.Sorted() {
		var current any
		if was, ok := committed.Lookup(o.Topic, o.Partition); ok && was.At >= 0 {
			current = was.At
		}
		table.Row(o.Topic, o.Partition, current, o.At, "would-be-set", nil)
	}
	for _, o := range committed.Sorted() {
		if _, ok := begin.Lookup(o.Topic, o.Partition); !ok {
			table.Row(o.Topic, o.Partition, o.At, nil, "would-be-deleted", nil)
		}
	}
	return begin, nil
}

// positions are where --to is in the inputs.
func (s *resetting) positions(ctx context.Context, cl *cli.Cluster, inputs []string) (kadm.Offsets, error) {
	pos, err := cli.ParsePosition(s.to, time.Now())
	if err != nil {
		return nil, err
	}
	if pos.Kind == cli.AtCurrent {
		return nil, cli.Usagef("--to current resets nothing")
	}
	there, err := cl.Admin.ListTopics(ctx)
	if err != nil {
		return nil, err
	}
	inputs = slices.DeleteFunc(inputs, func(t string) bool { return !there.Has(t) })
	bounds, err := cli.BoundsOf(ctx, cl, inputs...)
	if err != nil {
		return nil, err
	}
	at, err := cli.Resolve(ctx, cl, pos, bounds, inputs...)
	if err != nil {
		return nil, err
	}
	begin := kadm.Offsets{}
	for topic, ps := range at {
		for p, offset := range ps {
			begin.Add(kadm.Offset{Topic: topic, Partition: p, At: offset, LeaderEpoch: -1})
		}
	}
	return begin, nil
}

func (s *resetting) planTopics(ctx context.Context, cl *cli.Cluster, r *streams.Remote, name string, plan *cli.Result) (doomed []string, err error) {
	all, err := internalTopics(ctx, cl, r, name)
	if err != nil {
		return nil, err
	}
	table := plan.Table("topics", "TOPIC", "KIND", "PARTITIONS", "STATUS", "ERROR")
	for _, t := range all {
		status := "would-be-deleted"
		if t.kind == "left-over" && !s.leftOver {
			status = "stays (--left-over deletes it)"
		} else {
			doomed = append(doomed, t.name)
		}
		table.Row(t.name, t.kind, t.partitions, status, nil)
	}
	return doomed, nil
}

// planState finds the state of the application in the directory of --state-dir. One that is in use is an error.
func (s *resetting) planState(name string, plan *cli.Result) (dirs []string, err error) {
	table := plan.Table("state", "DIRECTORY", "STATUS", "ERROR")
	if s.dir == "" {
		return nil, nil
	}
	dir := filepath.Join(s.dir, name)
	format, err := os.ReadFile(filepath.Join(dir, "FORMAT"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		table.Row(dir, "not-there", nil)
		return nil, nil
	case err != nil:
		return nil, err
	case !strings.HasPrefix(string(format), "leat-state "):
		return nil, fmt.Errorf("%s holds no state of Leat's: it is left alone", dir)
	}
	if err := unused(dir); err != nil {
		return nil, err
	}
	table.Row(dir, "would-be-deleted", nil)
	return []string{dir}, nil
}

// unused is an error if a process uses a state directory.
func unused(dir string) error {
	db, err := state.Open(state.Options{Dir: dir, MemoryBytes: 16 << 20})
	if err != nil {
		return err
	}
	return db.Close()
}

// reset does what the plan says: members, topics, offsets, state. Whatever fails, running it again goes on.
func (s *resetting) reset(ctx context.Context, cl *cli.Cluster, name string, plan *cli.Result, members []streams.Member, begin kadm.Offsets, doomed, dirs []string) (*cli.Result, error) {
	if len(members) > 0 {
		var ids []string
		for _, m := range members {
			ids = append(ids, m.ID)
		}
		left, err := cl.Admin.LeaveGroup(ctx, kadm.LeaveGroup(name).InstanceIDs(ids...).Reason("leat app reset --force"))
		if err == nil {
			err = left.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("take the members out of group %q: %w", name, err)
		}
	}
	if len(doomed) > 0 {
		deleted, err := cl.Admin.DeleteTopics(ctx, doomed...)
		if err != nil {
			return nil, err
		}
		plan.Replace("topics", func(row []any) {
			if row[3] == "would-be-deleted" {
				row[3] = "deleted"
				if err := deleted[row[0].(string)].Err; err != nil && !errors.Is(err, kerr.UnknownTopicOrPartition) {
					row[3], row[4] = "failed", fmt.Errorf("topic %q: %w", row[0], err)
				}
			}
		})
	}
	gone, err := cl.Admin.DeleteGroup(ctx, name)
	if err == nil {
		err = gone.Err
	}
	if err != nil && !errors.Is(err, kerr.GroupIDNotFound) {
		return nil, fmt.Errorf("delete the offsets of group %q: %w", name, err)
	}
	if len(begin) > 0 {
		set, err := cl.Admin.CommitOffsets(ctx, name, begin)
		if err == nil {
			err = set.Error()
		}
		if err != nil {
			return nil, fmt.Errorf("set the offsets of group %q: %w", name, err)
		}
	}
	plan.Replace("offsets", func(row []any) {
		row[4] = strings.TrimPrefix(row[4].(string), "would-be-")
	})
	for _, dir := range dirs {
		err := unused(dir)
		if err == nil {
			err = os.RemoveAll(dir)
		}
		plan.Replace("state", func(row []any) {
			if row[1] = "deleted"; err != nil {
				row[1], row[2] = "failed", err
			}
		})
	}
	return plan, nil
}
