package runtime

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/session"
)

// What the brokers say of internal topics that are there already: that they are configured as what lies in them needs it, and
// that they are still the ones that the application began with.

// loadConfigs learns how long the cleaner keeps the deletes of the changelogs, and checks the configs of internal topics. What
// cannot be learned is taken to be Kafka's default.
func (t *topics) loadConfigs(ctx context.Context, cfg *Config, internal []engine.InternalTopic, changelogs []string) error {
	var own []string
	for _, in := range internal {
		own = append(own, in.Name)
	}
	sources := slices.DeleteFunc(slices.Clone(changelogs), func(name string) bool { return slices.Contains(own, name) })
	has := map[string]map[string]string{}
	for _, names := range [][]string{own, sources} { // apart: the right to read configs may be missing for some
		if err := t.describe(ctx, cfg, names, has); err != nil {
			return err
		}
	}
	var bad []error
	for _, in := range internal {
		loses, risk := misfit(in, has[in.Name])
		if loses != "" {
			bad = append(bad, fmt.Errorf("%w: %s has %s", ErrInternalTopic, in.Name, loses))
		} else if risk != "" {
			cfg.Logger.Warn("an internal topic is not configured as the topology needs it", "topic", in.Name, "has", risk)
		}
	}
	if len(bad) > 0 {
		return &session.Error{Op: "check the configs of internal topics", Err: errors.Join(bad...), Fatal: true}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, name := range changelogs {
		info := t.mu.known[name]
		info.tombstonesKept = standardTombstones
		if ms, err := strconv.ParseInt(has[name]["delete.retention.ms"], 10, 64); err == nil && ms != 0 {
			info.tombstonesKept = time.Duration(min(ms, int64(1<<62/time.Millisecond))) * time.Millisecond
		}
		info.policy = has[name]["cleanup.policy"]
		t.mu.known[name] = info
	}
	return nil
}

// describe adds the configs of topics to has.
func (t *topics) describe(ctx context.Context, cfg *Config, names []string, has map[string]map[string]string) error {
	if len(names) == 0 {
		return nil
	}
	configs, err := t.admin.DescribeTopicConfigs(ctx, names...)
	if errors.Is(err, kerr.TopicAuthorizationFailed) {
		cfg.Logger.Warn("the configs of topics are not known, for want of the right DescribeConfigs: they are taken to be what Kafka's default is", "topics", names)
		err = nil
	}
	for _, r := range configs {
		has[r.Name] = map[string]string{}
		for _, c := range r.Configs {
			has[r.Name][c.Key] = c.MaybeValue()
		}
	}
	return err
}

// misfit compares an internal topic's configs with those that it is made with. loses: records that are needed would go by
// and by, as from a topic that brokers made by themselves. risk: those that are old.
func misfit(in engine.InternalTopic, has map[string]string) (loses, risk string) {
	policy, retention := has["cleanup.policy"], has["retention.ms"]
	set := func(name, value string) string {
		return fmt.Sprintf("; it was not made by the application, or was changed since: leat config set topic %s %s=%s", in.Name, name, value)
	}
	if want := in.Config["cleanup.policy"]; policy != "" {
		for _, p := range []string{"compact", "delete"} {
			if strings.Contains(policy, p) && !strings.Contains(want, p) {
				return fmt.Sprintf("cleanup.policy=%s, and needs %s: records that are needed would be deleted", policy, want) + set("cleanup.policy", want), ""
			}
		}
	}
	want, ok := in.Config["retention.ms"]
	if !ok || retention == "" || !strings.Contains(policy, "delete") || retention == want || retention == "-1" {
		return "", ""
	}
	most, err := strconv.ParseInt(want, 10, 64)
	if is, isErr := strconv.ParseInt(retention, 10, 64); err == nil && isErr == nil && (most < 0 || is < most) {
		return "", fmt.Sprintf("retention.ms=%s, and needs %s: older records are deleted although they are needed", retention, want) + set("retention.ms", want)
	}
	return "", ""
}

// keepIDs notes which topics the internal ones are.
func (t *topics) keepIDs(names []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mu.laid = map[string][16]byte{}
	for _, n := range names {
		t.mu.laid[n] = t.mu.known[n].id
	}
}

// whole reports what has become of internal topics since the layout: an error that may pass if one is not there, since a
// broker may not have heard of it yet, and a final one after a while, or if there is another one under its name.
func (t *topics) whole(names []string, since time.Time) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, n := range names {
		was, ours := t.mu.laid[n]
		info, ok := t.mu.known[n]
		what := ""
		switch {
		case !ours || ok && info.id == was:
			continue
		case ok:
			what = "was deleted and created again"
		case time.Since(since) < newTopicGrace:
			return fmt.Errorf("internal topic %s is not there: %w", n, kerr.UnknownTopicOrPartition)
		default:
			what = "is gone"
		}
		return &session.Error{Op: "find the internal topics", Fatal: true, Err: fmt.Errorf("%w: %s %s while the application ran: what was in it is lost; "+
			"if the topic cannot be brought back, reset the application (leat app reset) to compute it again", ErrInternalTopic, n, what)}
	}
	return nil
}
