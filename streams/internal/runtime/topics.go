package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/session"
)

// ErrInternalTopic is wrapped when an internal topic exists and is not what the topology needs.
var ErrInternalTopic = errors.New("internal topic does not fit the topology")

// topics is what is known of the cluster's topics. It is safe for concurrent use.
type topics struct {
	cl    *kgo.Client
	admin *kadm.Client
	own   *Config // asking for the partitions of a topic to write to makes it, as sessions' clients do not; nil: it does not

	mu struct {
		sync.Mutex
		known  map[string]topicInfo
		at     map[string]time.Time // when it was asked
		absent map[string]time.Time // when partitions found that it is not there, or could not ask
		broken map[string]error     // what the last load of all topics was told instead of what they are
		laid   map[string][16]byte  // internal topics as the last layout found or made them
	}
}

type topicInfo struct {
	id             [16]byte
	partitions     int32
	tombstonesKept time.Duration // changelogs: how long the cleaner keeps deletes
	policy         string        // changelogs: cleanup.policy; empty: not known
	leaders        map[int32]leader
}

// leader is the broker that leads a partition, -1 if there is none now.
type leader struct{ broker, epoch int32 }

const (
	topicInfoAge       = time.Minute
	absentAge          = time.Second
	absentMost         = 10_000         // topics, whose names may come out of records
	standardTombstones = 24 * time.Hour // Kafka's delete.retention.ms
)

func newTopics(cl *kgo.Client, own *Config) *topics {
	t := &topics{cl: cl, admin: kadm.NewClient(cl), own: own}
	t.mu.known, t.mu.at, t.mu.absent = map[string]topicInfo{}, map[string]time.Time{}, map[string]time.Time{}
	return t
}

// partitions returns the partition count of a topic; 0 if it is not known, which is asked again a second later: whoever sends
// to the topic asks with every record until it is there, and waits for the answer.
func (t *topics) partitions(topic string) int32 {
	t.mu.Lock()
	info, at, absent := t.mu.known[topic], t.mu.at[topic], t.mu.absent[topic]
	t.mu.Unlock()
	if info.partitions > 0 && time.Since(at) < topicInfoAge || time.Since(absent) < absentAge {
		return info.partitions
	}
	info.partitions = t.askPartitions(topic, info.partitions)
	t.mu.Lock()
	defer t.mu.Unlock()
	if delete(t.mu.absent, topic); info.partitions == 0 {
		if len(t.mu.absent) >= absentMost {
			clear(t.mu.absent)
		}
		t.mu.absent[topic] = time.Now()
	}
	return info.partitions
}

// askPartitions asks for the partition count of a topic that was known to be so; it stays so if nobody answers.
func (t *topics) askPartitions(topic string, known int32) int32 {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := t.load(ctx, topic); err != nil {
		return known
	}
	info, _ := t.get(topic)
	if info.partitions == 0 && t.own != nil && t.wish(ctx, topic) == nil {
		info, _ = t.get(topic)
	}
	return info.partitions
}

// askAgain forgets when topics were asked for: one may be gone, or another one.
func (t *topics) askAgain() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.mu.at)
}

// wish has a topic made that is not there: with the partition count that it is declared with, else as the brokers do for
// producers, if they do. What is read is not made by it: nobody but its owner knows what it has to be.
func (t *topics) wish(ctx context.Context, topic string) error {
	if slices.ContainsFunc(t.own.Plan.Create, func(n engine.NewTopic) bool { return n.Name == topic }) {
		return t.declare(ctx, t.own)
	}
	if t.own.Plan.Taken(t.own.AppID)[topic] {
		return kerr.UnknownTopicOrPartition
	}
	req := kmsg.NewPtrMetadataRequest()
	req.AllowAutoTopicCreation = true
	asked := kmsg.NewMetadataRequestTopic()
	asked.Topic = &topic
	req.Topics = append(req.Topics, asked)
	if _, err := req.RequestWith(ctx, t.cl); err != nil {
		return err
	}
	return t.load(ctx, topic)
}

func (t *topics) get(topic string) (topicInfo, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	info, ok := t.mu.known[topic]
	return info, ok
}

// brokenBy is what the brokers said of a topic when all were asked for, if that was an error.
func (t *topics) brokenBy(topic string) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mu.broken[topic]
}

// load asks for the named topics; those that do not exist are forgotten. Without names it asks for all, and those of which
// the brokers have only an error to tell are in broken: most of them are somebody else's.
func (t *topics) load(ctx context.Context, names ...string) error {
	list, err := t.admin.ListTopics(ctx, names...)
	if err != nil {
		return err
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(names) == 0 {
		t.mu.broken = map[string]error{}
	}
	for _, n := range names {
		if d, ok := list[n]; !ok || d.Err != nil {
			delete(t.mu.known, n)
		}
	}
	for name, d := range list {
		if d.Err != nil {
			if errors.Is(d.Err, kerr.UnknownTopicOrPartition) {
				continue
			}
			err := fmt.Errorf("metadata of topic %s: %w", name, d.Err)
			if len(names) > 0 {
				return err
			}
			t.mu.broken[name] = err
			delete(t.mu.known, name)
			continue
		}
		info := t.mu.known[name]
		if info.id != d.ID {
			info = topicInfo{tombstonesKept: standardTombstones} // until loadRetention knows better
		}
		info.id, info.partitions, info.leaders = d.ID, int32(len(d.Partitions)), make(map[int32]leader, len(d.Partitions))
		for _, p := range d.Partitions {
			info.leaders[p.Partition] = leader{p.Leader, p.LeaderEpoch}
			if p.Err != nil {
				info.leaders[p.Partition] = leader{-1, -1}
			}
		}
		t.mu.known[name], t.mu.at[name] = info, now
	}
	return nil
}

// layout finds the source topics and makes the internal ones. Errors that may pass are for the caller to retry.
func (t *topics) layout(ctx context.Context, cfg *Config) (*layout, error) {
	if err := t.load(ctx); err != nil {
		return nil, err
	}
	if err := t.declare(ctx, cfg); err != nil {
		return nil, err
	}
	var existing map[string]mark
	if cfg.Plan.HasPatterns() {
		var err error
		if existing, err = t.existing(ctx, cfg); err != nil {
			return nil, err
		}
	}
	var broken error
	count := func(topic string) (int32, bool) {
		info, ok := t.get(topic)
		if !ok {
			broken = cmp.Or(broken, t.brokenBy(topic))
		}
		return info.partitions, ok
	}
	found, err := cfg.Plan.Matching(cfg.AppID, slices.Collect(maps.Keys(existing)))
	if err != nil {
		return nil, &session.Error{Op: "find the topics that match a pattern", Err: err, Fatal: true}
	}
	l, err := cfg.Plan.Layout(cfg.AppID, count, found)
	if broken != nil {
		return nil, broken // which may pass
	}
	if err != nil {
		return nil, &session.Error{Op: "lay out the topology on the cluster", Err: err, Fatal: true}
	}
	if err := t.ensure(ctx, cfg, l.Internal); err != nil {
		return nil, err
	}
	var names, changelogs []string
	for _, in := range l.Internal {
		names = append(names, in.Name)
		if !in.Repartition {
			changelogs = append(changelogs, in.Name)
		}
	}
	for _, sub := range cfg.Plan.Subs {
		for _, st := range sub.Stores {
			if st.FromSource {
				changelogs = append(changelogs, st.Changelog.In(cfg.AppID))
			}
		}
	}
	if len(names) > 0 {
		if err := t.load(ctx, names...); err != nil {
			return nil, err
		}
	}
	for _, n := range names {
		if info, ok := t.get(n); !ok || info.partitions == 0 {
			return nil, fmt.Errorf("internal topic %s is not visible yet: %w", n, kerr.UnknownTopicOrPartition)
		}
	}
	t.keepIDs(names)
	return &layout{l, found, marks(found, existing)}, t.loadConfigs(ctx, cfg, l.Internal, changelogs)
}

// ensure creates the internal topics that are missing and checks the others.
func (t *topics) ensure(ctx context.Context, cfg *Config, internal []engine.InternalTopic) error {
	var bad []error
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 15_000
	for _, in := range internal {
		if info, ok := t.get(in.Name); ok {
			if info.partitions != in.Partitions && !(in.AtLeast && info.partitions > in.Partitions) {
				bad = append(bad, fmt.Errorf("%w: %s has %d partitions, the topology needs %d: the input's partition count changed; reset the application (leat app reset) or give it a new AppID",
					ErrInternalTopic, in.Name, info.partitions, in.Partitions))
			}
			continue
		}
		ct := kmsg.NewCreateTopicsRequestTopic()
		ct.Topic, ct.NumPartitions, ct.ReplicationFactor = in.Name, in.Partitions, cfg.ReplicationFactor
		for k, v := range in.Config {
			c := kmsg.NewCreateTopicsRequestTopicConfig()
			c.Name, c.Value = k, kmsg.StringPtr(v)
			ct.Configs = append(ct.Configs, c)
		}
		req.Topics = append(req.Topics, ct)
	}
	if len(bad) > 0 {
		return &session.Error{Op: "check internal topics", Err: errors.Join(bad...), Fatal: true}
	}
	if len(req.Topics) == 0 {
		return nil
	}
	return t.make(ctx, cfg, req)
}

// declare creates the user's topics whose descriptors give a partition count, where they are missing.
func (t *topics) declare(ctx context.Context, cfg *Config) error {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 15_000
	var names []string
	for _, n := range cfg.Plan.Create {
		if _, ok := t.get(n.Name); ok {
			continue
		}
		ct := kmsg.NewCreateTopicsRequestTopic()
		ct.Topic, ct.NumPartitions, ct.ReplicationFactor = n.Name, n.Partitions, cfg.ReplicationFactor
		req.Topics = append(req.Topics, ct)
		names = append(names, n.Name)
	}
	if len(names) == 0 {
		return nil
	}
	if err := t.make(ctx, cfg, req); err != nil {
		return err
	}
	return t.load(ctx, names...)
}

func (t *topics) make(ctx context.Context, cfg *Config, req *kmsg.CreateTopicsRequest) error {
	resp, err := req.RequestWith(ctx, t.cl)
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	for _, r := range resp.Topics {
		err := kerr.ErrorForCode(r.ErrorCode)
		switch {
		case err == nil:
			cfg.Logger.Info("topic created", "topic", r.Topic)
		case errors.Is(err, kerr.TopicAlreadyExists): // another instance was faster
		default:
			text := ""
			if r.ErrorMessage != nil {
				text = " (" + *r.ErrorMessage + ")"
			}
			return fmt.Errorf("create topic %s%s: %w", r.Topic, text, err)
		}
	}
	return nil
}
