package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
	"golang.org/x/sync/errgroup"

	"github.com/leatstream/leat/broker/internal/journal"
	"github.com/leatstream/leat/broker/internal/log"
	"github.com/leatstream/leat/broker/internal/meta"
)

// metadataTopic holds the metadata journal. Its id is fixed: the journal is what remembers the others.
const metadataTopic = "__leat_metadata"

var metadataTopicID = meta.ID{6: 0x40, 8: 0x80, 15: 1}

// openTopics replays the journal, opens every partition and finishes deletions that were under way.
func (b *Broker) openTopics(ctx context.Context) error {
	self := meta.Topic{Name: metadataTopic, ID: metadataTopicID, Partitions: 1, Internal: true, Configs: map[string]string{"cleanup.policy": "compact", "segment.bytes": "16777216"}}
	there, err := b.cfg.FS.List(b.cfg.Dir)
	if err != nil {
		return err
	}
	own, err := b.openMetadata(self, there)
	if err != nil {
		return err
	}
	table := &topicTable{map[string]*topic{}, map[meta.ID]*topic{}, 0}
	opened := []*topic{{self, []*log.Log{own}}}
	b.topics.Store(table.with(opened[0]))
	if b.meta, err = meta.Open(&metaJournal{b, journal.New(own)}); err != nil {
		return errors.Join(b.advise(err, metadataTopic, 0), own.Close())
	}
	b.relive()
	b.checkDir(there)
	g, _ := errgroup.WithContext(ctx)
	g.SetLimit(2 * runtime.GOMAXPROCS(0))
	for _, m := range b.meta.Topics() {
		if m.Deleting {
			if err := b.finishDelete(m); err != nil {
				b.logger.Error("deleted topic's files cannot be removed; the next start tries again", "topic", m.Name, "err", err)
			}
			continue
		}
		t := &topic{m, make([]*log.Log, m.Partitions)}
		opened = append(opened, t)
		for p := range t.parts {
			g.Go(func() (err error) {
				t.parts[p], err = b.openOrOffline(m, int32(p))
				return err
			})
		}
	}
	err = g.Wait()
	for _, t := range opened {
		table.byName[t.Name], table.byID[t.ID] = t, t
		table.partitions += len(t.parts)
	}
	b.topics.Store(table)
	if err != nil {
		return errors.Join(err, b.closeTopics())
	}
	return nil
}

// closeTopics closes every log cleanly, the metadata journal last.
func (b *Broker) closeTopics() error {
	b.changes.Lock()
	defer b.changes.Unlock()
	var g errgroup.Group
	g.SetLimit(2 * runtime.GOMAXPROCS(0))
	table := b.topics.Load()
	for _, t := range table.byName {
		for _, l := range t.parts {
			if l != nil && t.Name != metadataTopic {
				g.Go(l.Close)
			}
		}
	}
	err := g.Wait()
	if t := table.byName[metadataTopic]; t != nil {
		err = errors.Join(err, t.parts[0].Close())
	}
	return err
}

// createTopic makes a topic with m's name, partitions and configs, which have been checked. Errors are apiErrors.
func (b *Broker) createTopic(m meta.Topic) (*topic, error) {
	b.changes.Lock()
	defer b.changes.Unlock()
	if err := b.ctx.Err(); err != nil {
		return nil, refuse(kerr.BrokerNotAvailable, "the broker is closing")
	}
	table := b.topics.Load()
	if err := b.mayCreate(table, m); err != nil {
		return nil, err
	}
	m.ID, m.CreatedMs = meta.NewID(), time.Now().UnixMilli()
	// The journal first: a directory without a topic would be nobody's, a topic without directories gets them at the next start.
	if err := b.meta.Create(m); errors.Is(err, meta.ErrExists) {
		return nil, refuse(kerr.TopicAlreadyExists, "Topic '%s' is still being deleted.", m.Name)
	} else if err != nil {
		return nil, err
	}
	t := &topic{Topic: m}
	if err := b.addLogs(t); err != nil {
		return nil, errors.Join(err, b.meta.Forget(t.Name))
	}
	b.topics.Store(table.with(t))
	b.logger.Info("topic created", "topic", m.Name, "id", m.ID.String(), "partitions", m.Partitions)
	return t, nil
}

// mayCreate checks what depends on the topics that exist.
func (b *Broker) mayCreate(table *topicTable, m meta.Topic) error {
	if table.byName[m.Name] != nil {
		return refuse(kerr.TopicAlreadyExists, "Topic '%s' already exists.", m.Name)
	}
	for name := range table.byName {
		if b.foldsCase && strings.EqualFold(name, m.Name) {
			return refuse(kerr.InvalidTopicException, "Topic '%s' differs from existing topic %s in case only, and the file system of this broker takes them for the same", m.Name, name)
		}
		if meta.Collides(name, m.Name) {
			return refuse(kerr.InvalidTopicException, "Topic '%s' collides with existing topic: %s", m.Name, name)
		}
	}
	if len(table.byName) >= b.cfg.MaxTopics {
		return refuse(kerr.PolicyViolation, "the limit of %d topics is reached", b.cfg.MaxTopics)
	}
	if table.partitions+int(m.Partitions) > b.cfg.MaxPartitions {
		return refuse(kerr.PolicyViolation, "%d more partitions would exceed the limit of %d", m.Partitions, b.cfg.MaxPartitions)
	}
	return nil
}

// addLogs opens the logs that t lacks, all or none.
func (b *Broker) addLogs(t *topic) error {
	had := len(t.parts)
	parts := make([]*log.Log, t.Partitions)
	begun := make([]bool, t.Partitions)
	copy(parts, t.parts)
	var g errgroup.Group
	g.SetLimit(2 * runtime.GOMAXPROCS(0))
	for p := had; p < len(parts); p++ {
		g.Go(func() (err error) {
			if err = b.setAside(t.Topic, int32(p)); err == nil {
				begun[p] = true
				parts[p], err = b.openLog(t.Topic, int32(p), false)
			}
			return err
		})
	}
	err := g.Wait()
	if err == nil {
		t.parts = parts
		return nil
	}
	for p := had; p < len(parts); p++ {
		switch {
		case parts[p] != nil:
			err = errors.Join(err, parts[p].Delete())
		case begun[p]: // what there is of it is ours
			err = errors.Join(err, b.cfg.FS.RemoveAll(b.partitionDir(t.Name, int32(p))))
		}
	}
	return errors.Join(err, b.cfg.FS.SyncDir(b.cfg.Dir))
}

// setAside renames a directory that is in the way of a new partition. It is nobody's, but may hold data: nothing is deleted
// without being asked to.
func (b *Broker) setAside(m meta.Topic, p int32) error {
	dir := b.partitionDir(m.Name, p)
	if _, err := b.cfg.FS.Stat(dir); err != nil {
		return nil //nolint:nilerr // the usual case: there is none
	}
	aside := dir + "." + m.ID.String() + "-stray"
	b.logger.Warn("a directory that belongs to no topic is in the way of a new partition; it is kept under another name", "dir", dir, "now", aside)
	if err := b.cfg.FS.Rename(dir, aside); err != nil {
		return fmt.Errorf("set aside %s: %w", dir, err)
	}
	return b.cfg.FS.SyncDir(b.cfg.Dir)
}

// deleteTopic removes a topic with its files. The journal says so first: a crash in between is finished at the next start.
func (b *Broker) deleteTopic(name string) error {
	b.changes.Lock()
	defer b.changes.Unlock()
	t := b.topic(name)
	if t == nil {
		return kerr.UnknownTopicOrPartition
	}
	return b.deleteLocked(t)
}

// deleteTopicByID is deleteTopic for who knows the id: the topic that has its name by now may be another one.
func (b *Broker) deleteTopicByID(id meta.ID) (name string, err error) {
	b.changes.Lock()
	defer b.changes.Unlock()
	t := b.topicByID(id)
	if t == nil {
		return "", kerr.UnknownTopicID
	}
	return t.Name, b.deleteLocked(t)
}

func (b *Broker) deleteLocked(t *topic) error {
	name := t.Name
	if t.Internal {
		return refuse(kerr.InvalidRequest, "topic %s is internal and cannot be deleted", name)
	}
	if _, err := b.meta.Update(name, func(m *meta.Topic) error { m.Deleting = true; return nil }); err != nil {
		return err
	}
	b.topics.Store(b.topics.Load().without(name))
	b.logger.Info("topic deleted", "topic", name, "id", t.ID.String())
	// Last, since a disk that was full has space then, and before the name is free: what is committed for the next topic of
	// that name is to stay.
	defer b.topicDeleted(name)
	for _, l := range t.parts {
		if err := l.Delete(); err != nil {
			// The topic is gone for clients; what is left of it goes at the next start.
			b.logger.Error("files of a deleted topic remain; the next start removes them", "topic", name, "err", err)
			return nil
		}
	}
	// Else a power cut could bring the directories back, in the way of a new topic of that name.
	if err := b.cfg.FS.SyncDir(b.cfg.Dir); err != nil {
		return err
	}
	return b.meta.Forget(name)
}

// finishDelete removes what is left of a topic whose deletion was interrupted.
func (b *Broker) finishDelete(m meta.Topic) error {
	for p := range m.Partitions {
		if err := b.cfg.FS.RemoveAll(b.partitionDir(m.Name, p)); err != nil {
			return err
		}
	}
	if err := b.cfg.FS.SyncDir(b.cfg.Dir); err != nil {
		return err
	}
	return b.meta.Forget(m.Name)
}

// growTopic checks a request for more partitions and, unless that is all, makes them. Both with nobody beside it: of two that
// are under way at once, the one for fewer would take away what the other has got.
func (b *Broker) growTopic(rt *kmsg.CreatePartitionsRequestTopic, validateOnly bool) error {
	b.changes.Lock()
	defer b.changes.Unlock()
	table := b.topics.Load()
	old := table.byName[rt.Topic]
	if err := mayGrow(old, rt); err != nil || validateOnly {
		return err
	}
	if table.partitions+int(rt.Count-old.Partitions) > b.cfg.MaxPartitions {
		return refuse(kerr.PolicyViolation, "%d partitions would exceed the limit of %d", rt.Count, b.cfg.MaxPartitions)
	}
	m, err := b.meta.Update(rt.Topic, func(m *meta.Topic) error { m.Partitions = rt.Count; return nil })
	if err != nil {
		return err
	}
	t := &topic{m, old.parts}
	if err := b.addLogs(t); err != nil {
		return err // the journal has the count: the next start opens what is missing
	}
	b.topics.Store(table.with(t))
	return nil
}

// setConfigsLocked replaces what is configured on a topic and tells its logs.
func (b *Broker) setConfigsLocked(name string, configs map[string]string) error {
	table := b.topics.Load()
	old := table.byName[name]
	if old == nil {
		return kerr.UnknownTopicOrPartition
	}
	if name == metadataTopic {
		return refuse(kerr.InvalidRequest, "the configuration of %s is fixed", name)
	}
	m, err := b.meta.Update(name, func(m *meta.Topic) error { m.Configs = maps.Clone(configs); return nil })
	if err != nil {
		return err
	}
	t := &topic{m, old.parts}
	b.topics.Store(table.with(t))
	return b.configureLogs(t)
}

func (b *Broker) configureLogs(t *topic) error {
	for p, l := range t.parts {
		if err := l.SetConfig(b.logConfig(t.Topic, int32(p))); err != nil {
			return err
		}
	}
	return nil
}

// ensureInternal makes an internal topic unless it exists. Its partitions are then found by partition.
func (b *Broker) ensureInternal(name string, partitions int32, configs map[string]string) error {
	if b.topic(name) != nil {
		return nil
	}
	_, err := b.createTopic(meta.Topic{Name: name, Partitions: partitions, Configs: configs, Internal: true})
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	return err
}
