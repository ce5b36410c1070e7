package runtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams/internal/session"
)

// tp names a partition of a topic.
type tp struct {
	topic string
	p     int32
}

func (t tp) String() string { return fmt.Sprintf("%s/%d", t.topic, t.p) }

// bounds is what the log says of the topics of some tasks at one moment.
type bounds struct {
	start, end map[tp]int64 // end of a changelog counts open transactions in; that of an input does not
	committed  map[tp]session.Position
}

// askBounds asks for the group's stable offsets of the inputs first: an open transaction that holds some is waited for.
// Then it asks where the topics begin and end.
func askBounds(ctx context.Context, cfg *Config, admin *kadm.Client, inputs, changelogs []string) (*bounds, error) {
	b := &bounds{start: map[tp]int64{}, end: map[tp]int64{}, committed: map[tp]session.Position{}}
	err := session.Retry(ctx, cfg.Logger, "the offsets of group "+cfg.AppID, func() error {
		if len(inputs) == 0 {
			return nil
		}
		resps, err := admin.FetchOffsetsForTopics(kadm.RequireStable(ctx), cfg.AppID, inputs...)
		if err != nil {
			return err
		}
		for topic, ps := range resps {
			if !slices.Contains(inputs, topic) {
				continue
			}
			for p, r := range ps {
				if r.Err != nil {
					return fmt.Errorf("committed offset of %s/%d: %w", topic, p, r.Err)
				}
				if r.At >= 0 {
					b.committed[tp{topic, p}] = session.Position{Offset: r.At, Epoch: r.LeaderEpoch, Metadata: r.Metadata}
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := listOffsets(ctx, cfg, b.start, admin.ListStartOffsets, append(slices.Clone(inputs), changelogs...)...); err != nil {
		return nil, err
	}
	if err := listOffsets(ctx, cfg, b.end, admin.ListCommittedOffsets, inputs...); err != nil {
		return nil, err
	}
	if err := listOffsets(ctx, cfg, b.end, admin.ListEndOffsets, changelogs...); err != nil {
		return nil, err
	}
	return b, nil
}

// listOffsets asks for offsets of all partitions of topics.
func listOffsets(ctx context.Context, cfg *Config, into map[tp]int64, f func(context.Context, ...string) (kadm.ListedOffsets, error), names ...string) error {
	if len(names) == 0 {
		return nil
	}
	return session.Retry(ctx, cfg.Logger, "the log's bounds", func() error {
		l, err := f(ctx, names...)
		if err == nil {
			err = l.Error()
		}
		if err != nil {
			return err
		}
		l.Each(func(o kadm.ListedOffset) { into[tp{o.Topic, o.Partition}] = o.Offset })
		return nil
	})
}

// adjust says where a partition begins of which the group has no offset; the client's default is the start. It runs in the
// client's goroutine, before or after the task of the partition was started.
func (w *worker) adjust(ctx context.Context, at map[string]map[int32]kgo.Offset) (map[string]map[int32]kgo.Offset, error) {
	for topic, ps := range at {
		for p, o := range ps {
			if o.EpochOffset().Offset >= 0 {
				continue
			}
			switch {
			case w.rt.none[topic]:
				return nil, &session.Error{Op: "begin to read " + tp{topic, p}.String(), Fatal: true,
					Err: errors.New("the group has no offset for it, and the source says that it must have one")}
			case w.rt.latest[topic]:
				ends, err := w.rt.topics.admin.ListCommittedOffsets(ctx, topic)
				if err != nil {
					return nil, fmt.Errorf("the end of %s: %w", topic, err)
				}
				end, ok := ends.Lookup(topic, p)
				if !ok || end.Err != nil {
					return nil, fmt.Errorf("the end of %s/%d: %w", topic, p, cmp.Or[error](end.Err, kerr.UnknownTopicOrPartition))
				}
				begin, _ := w.begin(tp{topic, p}, end.Offset)
				ps[p] = kgo.NewOffset().At(begin)
			}
		}
	}
	return at, nil
}

// begin returns where a partition that begins at the log's end does so: whoever asks first decides, with the end that it
// has seen. It returns false for a partition that begins at the start.
func (w *worker) begin(p tp, end int64) (int64, bool) {
	if !w.rt.latest[p.topic] {
		return 0, false
	}
	w.ends.Lock()
	defer w.ends.Unlock()
	if at, ok := w.ends.at[p]; ok {
		return at, true
	}
	w.ends.at[p] = end
	return end, true
}
