package runtime

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/state"
	"github.com/leatstream/leat/streams/internal/engine"
	"github.com/leatstream/leat/streams/internal/session"
)

// task is an engine.Task with what the runtime keeps beside it. Its worker owns it, but for the time of a restore.
type task struct {
	id      engine.TaskID
	engine  *engine.Task
	parts   []*part
	stores  []*taskStore
	byStore map[string]*taskStore
	last    *taskStore // the store that was flushed last: they come in runs
	job     *restoreJob
	running bool
	*progress
	measured taskMeasured
	wrote    bool // something was sent since the last commit: a position has to go with it, for the group to fence it
	unsaid   bool // committed positions that publish has not told yet
	flushed  bool // the stores were flushed and are not sealed
}

// part is one source partition of a task.
type part struct {
	tp
	task      *task
	position  int64 // below it everything was enqueued
	committed int64 // what the group has, or where reading began
	stored    bool  // the group has committed
	begins    bool  // reading begins at committed, which is to be committed once, as the log's end will be elsewhere later
	epoch     int32
	topicID   [16]byte // of the topic that is read
	end       int64    // the log's end as far as known: while position is below, records are on their way
	paused    bool     // much of it waits in the task's queue
}

// taskStore is one store of a task.
type taskStore struct {
	store      state.Store
	changelog  string // full name; empty if there is none
	fromSource bool
	headers    []kgo.RecordHeader // of every record
	check      func(*kgo.Record) error
	topicID    [16]byte
	told       int64     // the windows that are expired, as the changelog has been told; 0: nothing
	since      time.Time // while it is brought forward: how old what it has is; see replay
	// next is the changelog offset after the last record that is in the log. While the task is restored it belongs to the
	// restorer. Afterwards it is written by acknowledgements, in kgo's goroutine, and read by the worker after the flush of
	// the producer has returned, when there are none under way.
	next int64
	ack  func(*kgo.Record, error)
}

// newTask opens a task. p are the partitions that the group gave for it.
func (w *worker) newTask(sub *engine.Sub, n int32, p []tp) (*task, error) {
	env := w.env
	var t *task
	env.Send = func(r *kgo.Record) {
		t.wrote = true
		w.send(r)
	}
	var err error
	t, err = w.rt.openTask(sub, n, &env)
	if err != nil {
		return nil, err
	}
	for _, at := range p {
		t.parts = append(t.parts, &part{tp: at, task: t, position: -1, committed: -1, epoch: -1})
	}
	sentAck := w.sentAck // of this session: acknowledgements may come when the next one is open
	for _, s := range t.stores {
		s.ack = func(r *kgo.Record, err error) {
			if err == nil {
				s.next = r.Offset + 1
			}
			sentAck(r, err)
		}
	}
	return t, nil
}

// openTask opens the stores of a task.
func (rt *Runtime) openTask(sub *engine.Sub, n int32, env *engine.Env) (*task, error) {
	et, err := engine.NewTask(rt.cfg.Plan, sub, n, env)
	if err != nil {
		return nil, err
	}
	t := &task{id: et.ID(), engine: et, byStore: map[string]*taskStore{}, progress: new(progress)}
	t.progress.remaining.Store(-1)
	rt.mu.Lock()
	rt.mu.progress[t.id] = t.progress
	rt.mu.Unlock()
	specs := map[string]*engine.StoreSpec{}
	for _, s := range sub.Stores {
		specs[s.Name] = s
	}
	for _, st := range et.Stores() {
		s := &taskStore{store: st}
		if spec := specs[st.Name()]; spec != nil && spec.Changelog.Name != "" {
			s.changelog, s.fromSource, s.headers, s.check = spec.Changelog.In(rt.cfg.AppID), spec.FromSource, spec.Headers, spec.Check
		}
		t.stores = append(t.stores, s)
		t.byStore[st.Name()] = s
	}
	return t, nil
}

// close ends the task and gives its stores back. Whatever was not committed is dropped.
func (t *task) close() error {
	if t.job != nil {
		t.job.cancel()
		<-t.job.done
	}
	err := t.engine.Close()
	for _, s := range t.stores {
		err = errors.Join(err, s.store.Close())
	}
	if err != nil {
		return fmt.Errorf("close task %s: %w", t.id, err)
	}
	return nil
}

// learn notes where the group's offsets stand, before the stores are restored.
func (t *task) learn(b *bounds) {
	for _, p := range t.parts {
		p.end, p.committed = b.end[p.tp], b.start[p.tp]
		if c, ok := b.committed[p.tp]; ok {
			p.committed, p.epoch, p.stored = c.Offset, c.Epoch, true
		}
		p.topicID = b.ids[p.topic]
	}
}

// start opens the task's processors after its stores are there. begin gives the offset at which the session begins to read
// a partition that has none and does not begin at its start.
func (t *task) start(begin func(at tp, end int64) (int64, bool, error)) error {
	var metadata []string
	for _, p := range t.parts {
		if !p.stored {
			at, ok, err := begin(p.tp, p.end)
			if err != nil {
				return err
			}
			if ok {
				p.committed, p.begins = at, true
			}
		} else if m, _ := splitMetadata(t.job.bounds.committed[p.tp].Metadata); m != "" {
			metadata = append(metadata, m)
		}
		p.position = p.committed
	}
	if err := t.engine.Start(metadata...); err != nil {
		return err
	}
	for _, p := range t.parts {
		t.engine.NotePosition(p.topic, p.p, p.position, p.epoch)
		t.engine.NoteEnd(p.topic, p.p, p.end)
	}
	t.running = true
	t.role.Store(int32(Running))
	return nil
}

// inputs is how the group's offsets stand for the task, for stores without a changelog: topic, partition and offset of
// each source partition, in order. A store is at the position that it says after a commit, and is good at the next start if
// it says the same then. Partitions of which the group has no offset are left out: a pattern may find further topics.
func (t *task) inputs() []byte {
	return encodeInputs(slices.DeleteFunc(slices.Clone(t.parts), func(p *part) bool { return !p.stored }), func(p *part) int64 { return p.committed })
}

// stands reports whether a store without a changelog is where the group's offsets are, by what it says of its inputs. A
// topic that it has read and that the task does not read any more is one that is gone: nothing more comes of it.
func (t *task) stands(said []byte) bool {
	kept := decodeInputs(said)
	for at := range kept {
		if t.part(at.topic, at.p) == nil {
			delete(kept, at)
		}
	}
	return maps.Equal(kept, decodeInputs(t.inputs()))
}

func decodeInputs(b []byte) map[tp]int64 {
	out := map[tp]int64{}
	for len(b) > 0 {
		n, w := binary.Uvarint(b)
		if w <= 0 || n > uint64(len(b)-w) {
			break
		}
		topic := string(b[w : w+int(n)])
		b = b[w+int(n):]
		p, w1 := binary.Varint(b)
		offset, w2 := binary.Varint(b[max(w1, 0):])
		if w1 <= 0 || w2 <= 0 {
			break
		}
		b = b[w1+w2:]
		if offset >= 0 {
			out[tp{topic, int32(p)}] = offset
		}
	}
	return out
}

func encodeInputs(parts []*part, offset func(*part) int64) []byte {
	sorted := slices.Clone(parts)
	slices.SortFunc(sorted, func(a, b *part) int {
		if a.topic != b.topic {
			if a.topic < b.topic {
				return -1
			}
			return 1
		}
		return int(a.p - b.p)
	})
	var dst []byte
	for _, p := range sorted {
		dst = binary.AppendUvarint(dst, uint64(len(p.topic)))
		dst = append(dst, p.topic...)
		dst = binary.AppendVarint(dst, int64(p.p))
		dst = binary.AppendVarint(dst, offset(p))
	}
	return dst
}

// positions adds what is to be committed: what moved, where reading began at a log's end, and one position of a task that
// wrote without moving, so that the group's generation fences it.
func (t *task) positions(at session.Positions) {
	moved := false
	var still *part
	meta := ""
	for _, p := range t.parts {
		if p.begins {
			pos := session.Position{Offset: p.committed, Epoch: -1, Metadata: withTopic("", p.topicID)}
			if p.stored {
				pos.Metadata = withTopic(t.engine.Metadata(), p.topicID)
			}
			at.Set(p.topic, p.p, pos)
		}
	}
	t.engine.Positions(func(topic string, partition int32, next int64, epoch int32) {
		p := t.part(topic, partition)
		if p == nil {
			return
		}
		still = p
		if next == p.committed {
			return
		}
		if !moved {
			meta = t.engine.Metadata()
		}
		moved = true
		at.Set(topic, partition, session.Position{Offset: next, Epoch: epoch, Metadata: withTopic(meta, p.topicID)})
	})
	if moved || !t.wrote {
		return
	}
	if still == nil && len(t.parts) > 0 {
		still = t.parts[0]
	}
	if still != nil && still.committed >= 0 {
		at.Set(still.topic, still.p, session.Position{Offset: still.committed, Epoch: still.epoch, Metadata: withTopic(t.engine.Metadata(), still.topicID)})
	}
}

func (t *task) part(topic string, partition int32) *part {
	for _, p := range t.parts {
		if p.p == partition && p.topic == topic {
			return p
		}
	}
	return nil
}

// noteCommitted notes that at is committed. moved reports whether it holds a position of the task.
func (t *task) noteCommitted(at session.Positions) (moved bool) {
	for _, p := range t.parts {
		if pos, ok := at[p.topic][p.p]; ok {
			p.committed, p.epoch, p.stored, p.begins = pos.Offset, pos.Epoch, true, false
			moved = true
		}
	}
	t.wrote = false
	return moved
}

// noteLag notes how much of the inputs is not committed.
func (t *task) noteLag() {
	if !t.running {
		return
	}
	var lag int64
	for _, p := range t.parts {
		lag += max(0, p.end-max(p.committed, 0))
	}
	t.lag.Store(lag)
}

// unlogged reports whether the task has a store without a changelog: such a store moves with every position.
func (t *task) unlogged() bool {
	return slices.ContainsFunc(t.stores, func(s *taskStore) bool { return s.changelog == "" })
}

// position is where a store stands after the commit.
func (t *task) position(store string, now time.Time) state.Position {
	s := t.byStore[store]
	switch {
	case s == nil || s.changelog == "":
		return state.Position{At: now, Inputs: t.inputs()}
	case s.fromSource:
		if p := t.part(s.changelog, t.id.Partition); p != nil {
			return state.Position{TopicID: s.topicID, Offset: max(p.committed, 0), At: now}
		}
	}
	return state.Position{TopicID: s.topicID, Offset: s.next, At: now}
}
