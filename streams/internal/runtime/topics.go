package runtime

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
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
	cl     *kgo.Client
	admin  *kadm.Client
	create bool // asking for a topic's partitions makes it: the sessions' clients do not (session.Config.NoTopicCreation)

	mu struct {
		sync.Mutex
		known map[string]topicInfo
		at    map[string]time.Time // when it was asked
	}
}

type topicInfo struct {
	id             [16]byte
	partitions     int32
	tombstonesKept time.Duration // changelogs: how long the cleaner keeps deletes
	leaders        map[int32]leader
}

// leader is the broker that leads a partition, -1 if there is none now.
type leader struct{ broker, epoch int32 }

const (
	topicInfoAge       = time.Minute
	standardTombstones = 24 * time.Hour // Kafka's delete.retention.ms
)

func newTopics(cl *kgo.Client, create bool) *topics {
	t := &topics{cl: cl, admin: kadm.NewClient(cl), create: create}
	t.mu.known, t.mu.at = map[string]topicInfo{}, map[string]time.Time{}
	return t
}

// partitions returns the partition count of a topic; 0 if it is not known, which is asked again.
func (t *topics) partitions(topic string) int32 {
	t.mu.Lock()
	info, at := t.mu.known[topic], t.mu.at[topic]
	t.mu.Unlock()
	if info.partitions > 0 && time.Since(at) < topicInfoAge {
		return info.partitions
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	if err := t.load(ctx, topic); err != nil {
		return info.partitions
	}
	if info, _ = t.get(topic); info.partitions == 0 && t.create && t.wish(ctx, topic) == nil {
		info, _ = t.get(topic)
	}
	return info.partitions
}

// wish has the brokers make a topic that is not there, if they do so, as producers do.
func (t *topics) wish(ctx context.Context, topic string) error {
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

// load asks for the named topics; those that do not exist are forgotten. Without names it asks for all.
func (t *topics) load(ctx context.Context, names ...string) error {
	list, err := t.admin.ListTopics(ctx, names...)
	if err != nil {
		return err
	}
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
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
			return fmt.Errorf("metadata of topic %s: %w", name, d.Err)
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

// loadRetention learns how long the cleaner keeps the deletes of the changelogs. What cannot be learned is Kafka's default.
func (t *topics) loadRetention(ctx context.Context, changelogs []string) error {
	if len(changelogs) == 0 {
		return nil
	}
	kept := map[string]time.Duration{}
	configs, err := t.admin.DescribeTopicConfigs(ctx, changelogs...)
	if err != nil {
		return err
	}
	for _, r := range configs {
		for _, c := range r.Configs {
			if ms, err := strconv.ParseInt(c.MaybeValue(), 10, 64); c.Key == "delete.retention.ms" && err == nil {
				kept[r.Name] = time.Duration(min(ms, int64(1<<62/time.Millisecond))) * time.Millisecond
			}
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range changelogs {
		info := t.mu.known[name]
		if info.tombstonesKept = kept[name]; info.tombstonesKept == 0 {
			info.tombstonesKept = standardTombstones
		}
		t.mu.known[name] = info
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
		if existing, err = t.existing(ctx); err != nil {
			return nil, err
		}
	}
	count := func(topic string) (int32, bool) {
		info, ok := t.get(topic)
		return info.partitions, ok
	}
	found, err := cfg.Plan.Matching(cfg.AppID, slices.Collect(maps.Keys(existing)))
	if err != nil {
		return nil, &session.Error{Op: "find the topics that match a pattern", Err: err, Fatal: true}
	}
	l, err := cfg.Plan.Layout(cfg.AppID, count, found)
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
	return &layout{l, found, marks(found, existing)}, t.loadRetention(ctx, changelogs)
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
