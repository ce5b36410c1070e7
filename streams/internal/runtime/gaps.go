package runtime

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/session"
)

// What becomes of a position of the group that its log does not have: records are gone, the topic is another one, or the
// brokers have lost the log's end. A position is an offset, and an offset alone does not say of which topic. So the topic's
// id is committed with it.

// gap is what lies between the group's position and where reading goes on.
type gap struct {
	from, to int64
	why      string
}

// The reasons for a gap.
const (
	gapRecreated = "the input was deleted and created again after its position was committed: it is read from its start"
	gapLostEnd   = "the brokers have lost the end of the input, which was processed already: what comes now is processed"
	gapBeyond    = "the input ends before the position of the group, which does not say of which topic it is: it is read from its start"
	gapCut       = "records are gone from the input before they were processed: reading goes on where the log now begins"
)

// gapAt compares a position with a log that begins at start and ends at end. ok is false if it can be kept.
func gapAt(c session.Position, id [16]byte, start, end int64) (g gap, ok bool) {
	_, of := splitMetadata(c.Metadata)
	known := of != [16]byte{} && id != [16]byte{}
	switch {
	case known && of != id:
		return gap{c.Offset, start, gapRecreated}, true
	case c.Offset > end && known:
		return gap{c.Offset, max(start, end), gapLostEnd}, true
	case c.Offset > end:
		return gap{c.Offset, start, gapBeyond}, true
	case c.Offset < start:
		return gap{c.Offset, start, gapCut}, true
	}
	return gap{}, false
}

// processed is how far the group has processed an input, as the log now is; 0 if it has not begun.
func (b *bounds) processed(at tp) int64 {
	if g, ok := b.gaps[at]; ok {
		return g.to
	}
	return b.committed[at].Offset
}

// gap returns what lies between a position and where reading goes on: whoever asks first decides, with what it has seen.
func (w *worker) gap(at tp, b *bounds) (gap, bool) {
	w.ends.Lock()
	defer w.ends.Unlock()
	if g, ok := w.ends.gaps[at]; ok && g.from == b.committed[at].Offset {
		return g, true
	}
	g, ok := b.gaps[at]
	if ok {
		w.ends.gaps[at] = g
	}
	return g, ok
}

// bridge has partitions begin elsewhere whose positions the log does not have.
func (w *worker) bridge(ctx context.Context, at map[string]map[int32]kgo.Offset) error {
	var topics []string
	for topic, ps := range at {
		for _, o := range ps {
			if o.EpochOffset().Offset >= 0 {
				topics = append(topics, topic)
				break
			}
		}
	}
	if len(topics) == 0 {
		return nil
	}
	err := session.Retry(ctx, w.log, "the topics of the inputs", func() error { return w.rt.topics.load(ctx, topics...) })
	if err != nil {
		return err
	}
	topics = slices.DeleteFunc(topics, func(topic string) bool { // one that is gone is waited for by whoever restores its task
		_, ok := w.rt.topics.get(topic)
		return !ok
	})
	b, err := askBounds(ctx, &w.rt.cfg, w.rt.topics, topics, nil)
	if err != nil {
		return err
	}
	for topic, ps := range at {
		for p, o := range ps {
			if o.EpochOffset().Offset < 0 {
				continue
			}
			if g, ok := w.gap(tp{topic, p}, b); ok && g.from == o.EpochOffset().Offset {
				ps[p] = kgo.NewOffset().At(g.to)
			}
		}
	}
	return nil
}

// gaps says where reading goes on elsewhere than at the group's position, and has that committed.
func (w *worker) gaps(t *task) error {
	for _, p := range t.parts {
		if !p.stored {
			continue
		}
		g, ok := w.gap(p.tp, t.job.bounds)
		if !ok {
			continue
		}
		begins, ends := t.job.bounds.start[p.tp], p.end
		if w.sub.resets[p.topic].of(p.p).reset == engine.ResetNone {
			err := fmt.Errorf("%s; but the source says that it must have a position in the log: position %d, log from %d to %d", g.why, g.from, begins, ends)
			if g.why == gapCut {
				err = fmt.Errorf("records %d to %d are gone from the log, unprocessed, and the source says that it must have a position in the log", g.from, begins-1)
			}
			return &session.Error{Op: "go on reading " + p.String(), Fatal: true, Err: errors.Join(err,
				fmt.Errorf("leat group seek %s --topic %s:%d --to start goes on with what there is", w.rt.cfg.AppID, p.topic, p.p))}
		}
		w.log.Error(g.why, "topic", p.topic, "partition", p.p, "position", g.from, "log_begins", begins, "log_ends", ends, "goes_on_at", g.to)
		p.committed, p.epoch, p.begins = g.to, -1, true
	}
	return nil
}

// withTopic adds the id of the topic to what the task says with a position. A broker that has no ids adds nothing.
func withTopic(metadata string, id [16]byte) string {
	if id == [16]byte{} {
		return metadata
	}
	return metadata + "@" + base64.RawURLEncoding.EncodeToString(id[:])
}

// splitMetadata undoes withTopic. What others have committed has no id.
func splitMetadata(text string) (metadata string, id [16]byte) {
	metadata, of, ok := strings.Cut(text, "@")
	if !ok {
		return text, id
	}
	if b, err := base64.RawURLEncoding.DecodeString(of); err == nil && len(b) == len(id) {
		copy(id[:], b)
	}
	return metadata, id
}
