package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/session"
)

// maxManifestBytes bounds a manifest, below the brokers' standard limit of a record.
const maxManifestBytes = 900 << 10

// manifestTopic is the compacted topic of one partition that holds the manifest of the topology which runs, under one key.
func manifestTopic(appID string) string { return appID + "-manifest" }

var manifestKey = []byte("manifest")

// checkManifest compares the topology with the one that ran before, and reports whether to keep its own manifest.
func (rt *Runtime) checkManifest(ctx context.Context, cl *kgo.Client) (changed bool, err error) {
	if rt.cfg.CheckManifest == nil {
		return false, nil
	}
	for began := time.Now(); ; {
		var running []byte
		var missing []string
		err = session.Retry(ctx, rt.cfg.Logger, "the manifest of application "+rt.cfg.AppID, func() (err error) {
			if running, err = ReadManifest(ctx, cl, rt.cfg.Client, rt.cfg.AppID); err == nil && running != nil {
				missing, err = MissingTopics(ctx, cl, rt.cfg.Plan, rt.cfg.AppID)
			}
			return err
		})
		if err != nil {
			return false, err
		}
		changed, err = rt.cfg.CheckManifest(running, missing)
		if err == nil || len(missing) == 0 || time.Since(began) > newTopicGrace || sleep(ctx, newTopicGrace/10) != nil {
			return changed, err // else a broker may not have heard yet of a topic that another instance has just made
		}
	}
}

// MissingTopics lists the internal topics of a plan that are not there. Those of an application that has run are missing if
// somebody has deleted them, or if they are new. It knows nothing of a plan with patterns, which needs topics as it finds some.
func MissingTopics(ctx context.Context, cl *kgo.Client, plan *engine.Plan, appID string) ([]string, error) {
	names := plan.InternalNames(appID)
	if len(names) == 0 || plan.HasPatterns() {
		return nil, nil
	}
	list, err := kadm.NewClient(cl).ListTopics(ctx, names...)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(names, func(n string) bool {
		d, ok := list[n]
		return ok && !errors.Is(d.Err, kerr.UnknownTopicOrPartition)
	}), nil
}

// keepManifest notes which topology runs now. Instances that start at once with one topology do the same thing twice.
func (rt *Runtime) keepManifest(ctx context.Context, cl *kgo.Client) error {
	if len(rt.cfg.Manifest) > maxManifestBytes {
		return fmt.Errorf("the topology's manifest takes %d bytes, at most %d are kept: split the application", len(rt.cfg.Manifest), maxManifestBytes)
	}
	return session.Retry(ctx, rt.cfg.Logger, "the manifest of application "+rt.cfg.AppID, func() error { return rt.writeManifest(ctx, cl) })
}

func (rt *Runtime) writeManifest(ctx context.Context, cl *kgo.Client) error {
	topic := manifestTopic(rt.cfg.AppID)
	if err := rt.topics.load(ctx, topic); err != nil {
		return err
	}
	if _, ok := rt.topics.get(topic); !ok {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.TimeoutMillis = 15_000
		t := kmsg.NewCreateTopicsRequestTopic()
		t.Topic, t.NumPartitions, t.ReplicationFactor = topic, 1, rt.cfg.ReplicationFactor
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = "cleanup.policy", kmsg.StringPtr("compact")
		t.Configs = append(t.Configs, c)
		req.Topics = append(req.Topics, t)
		if err := rt.topics.make(ctx, &rt.cfg, req); err != nil {
			return err
		}
	}
	r := &kgo.Record{Topic: topic, Key: manifestKey, Value: rt.cfg.Manifest}
	if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
		return fmt.Errorf("write the manifest to %s: %w", topic, err)
	}
	return nil
}

// ReadManifest returns the manifest of the topology that an application ran last, nil if there is none.
func ReadManifest(ctx context.Context, cl *kgo.Client, opts []kgo.Opt, appID string) ([]byte, error) {
	topic := manifestTopic(appID)
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("where %s ends: %w", topic, err)
	}
	at, ok := ends.Lookup(topic, 0)
	if !ok || errors.Is(at.Err, kerr.UnknownTopicOrPartition) {
		return nil, nil
	}
	if at.Err != nil {
		return nil, fmt.Errorf("where %s ends: %w", topic, at.Err)
	}
	if at.Offset == 0 {
		return nil, nil
	}
	reader, err := kgo.NewClient(append(append([]kgo.Opt{}, opts...),
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}), kgo.KeepControlRecords())...)
	if err != nil {
		return nil, fmt.Errorf("configure the client: %w", err)
	}
	defer reader.Close()
	var found []byte
	for {
		fs := reader.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			return nil, err
		}
		if errs := fs.Errors(); len(errs) > 0 {
			return nil, fmt.Errorf("read %s: %w", topic, errs[0].Err)
		}
		next := int64(0)
		fs.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			if string(r.Key) == string(manifestKey) {
				found = r.Value
			}
		})
		if next >= at.Offset {
			return found, nil
		}
	}
}
