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

	"github.com/leatstream/leat/internal/txnclient"
	"github.com/leatstream/leat/streams/internal/engine"
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
	ids        map[string][16]byte // of the inputs
	gaps       map[tp]gap          // positions of the group that the log does not have
}

// askBounds asks for the group's stable offsets of the inputs first: an open transaction that holds some is waited for.
// Then it asks where the topics begin and end.
func askBounds(ctx context.Context, cfg *Config, topics *topics, inputs, changelogs []string) (*bounds, error) {
	admin := topics.admin
	b := &bounds{start: map[tp]int64{}, end: map[tp]int64{}, committed: map[tp]session.Position{}, ids: map[string][16]byte{}, gaps: map[tp]gap{}}
	err := session.Retry(ctx, cfg.Logger, "the offsets of group "+cfg.AppID, func() error {
		committed, err := txnclient.StableOffsets(ctx, topics.cl, cfg.AppID, inputs...)
		committed.Each(func(o kadm.Offset) {
			if o.At >= 0 {
				b.committed[tp{o.Topic, o.Partition}] = session.Position{Offset: o.At, Epoch: o.LeaderEpoch, Metadata: o.Metadata}
			}
		})
		return err
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
	for _, topic := range inputs {
		info, _ := topics.get(topic)
		b.ids[topic] = info.id
	}
	for at, c := range b.committed {
		if g, ok := gapAt(c, b.ids[at.topic], b.start[at], b.end[at]); ok {
			b.gaps[at] = g
		}
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
	if err := w.bridge(ctx, at); err != nil {
		return nil, err
	}
	for topic, ps := range at {
		for p, o := range ps {
			if o.EpochOffset().Offset >= 0 {
				continue
			}
			how := w.sub.resets[topic].of(p)
			if how.reset == engine.ResetNone {
				return nil, &session.Error{Op: "begin to read " + tp{topic, p}.String(), Fatal: true,
					Err: errors.New("the group has no offset for it, and the source says that it must have one")}
			}
			if !how.moves() {
				continue
			}
			begin, err := w.settle(ctx, tp{topic, p}, how)
			if err != nil {
				return nil, err
			}
			ps[p] = kgo.NewOffset().At(begin)
		}
	}
	return at, nil
}

// begin returns where a partition begins that does not begin at the log's start, nor where the group says; end is its end
// as the caller has seen it.
func (w *worker) begin(p tp, end int64) (int64, bool, error) {
	how := w.sub.resets[p.topic].of(p.p)
	if !how.moves() {
		return 0, false, nil
	}
	if how.by == 0 {
		return w.settled(p, end), true, nil
	}
	at, err := w.settle(w.ctx, p, how)
	return at, true, err
}

// settle asks the log where a partition is to begin, unless that is settled.
func (w *worker) settle(ctx context.Context, p tp, how reset) (int64, error) {
	w.ends.Lock()
	at, ok := w.ends.at[p]
	w.ends.Unlock()
	if ok {
		return at, nil
	}
	err := session.Retry(ctx, w.log, "where to begin to read "+p.String(), func() error {
		list := w.rt.topics.admin.ListCommittedOffsets
		if how.by > 0 {
			since := time.Now().Add(-how.by).UnixMilli()
			list = func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
				return w.rt.topics.admin.ListOffsetsAfterMilli(ctx, since, topics...)
			}
		}
		offsets, err := list(ctx, p.topic)
		if err != nil {
			return err
		}
		o, ok := offsets.Lookup(p.topic, p.p)
		if !ok {
			return kerr.UnknownTopicOrPartition
		}
		at = o.Offset
		return o.Err
	})
	if err != nil {
		return 0, err
	}
	return w.settled(p, at), nil
}

// settled notes where a partition begins: whoever asks first decides, with what it has seen.
func (w *worker) settled(p tp, at int64) int64 {
	w.ends.Lock()
	defer w.ends.Unlock()
	if first, ok := w.ends.at[p]; ok {
		return first
	}
	w.ends.at[p] = at
	return at
}
