package streams

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams/internal/query"
)

// ErrCutOff is wrapped by the error of a subscription that has missed changes: the changelog was cut or made anew before they
// were read. Subscribe again for the rows as they are.
var ErrCutOff = errors.New("the subscription is cut off: changes that it has not told of are gone from the log")

// stands are the offsets in a changelog at which the rows of its partitions stand; -1 for its start.
type stands struct {
	at map[int32]int64
	of map[[16]byte]bool // ids of the topics whose offsets they are
}

func newStands() stands { return stands{map[int32]int64{}, map[[16]byte]bool{}} }

func (s stands) note(row *query.Row) {
	s.at[row.Partition] = *row.At
	if len(row.Of) == 16 {
		s.of[[16]byte(row.Of)] = true
	}
}

// beginning is which topic a changelog is, by its id, zero if its brokers give none, and where its partitions begin.
type beginning struct {
	id [16]byte
	at map[int32]int64
}

// begins is how a changelog is before the rows are read. What lies below is in no row that could be missed: it was dropped by
// retention, or carried no rows.
func (r *reading) begins(ctx context.Context, changelog string) (b beginning, err error) {
	cl, err := kgo.NewClient(r.at.client()...)
	if err != nil {
		return b, fmt.Errorf("configure the client: %w", err)
	}
	defer cl.Close()
	return beginningOf(ctx, cl, changelog)
}

func beginningOf(ctx context.Context, cl *kgo.Client, changelog string) (b beginning, err error) {
	admin := kadm.NewClient(cl)
	topics, err := admin.ListTopics(ctx, changelog)
	if err == nil {
		err = topics.Error()
	}
	var listed kadm.ListedOffsets
	if err == nil {
		listed, err = admin.ListStartOffsets(ctx, changelog)
	}
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		return b, fmt.Errorf("where changelog %s begins: %w", changelog, err)
	}
	b = beginning{topics[changelog].ID, map[int32]int64{}}
	listed.Each(func(o kadm.ListedOffset) { b.at[o.Partition] = o.Offset })
	return b, nil
}

// changes reads a changelog on from where rows stand.
type changes struct {
	cl        *kgo.Client
	changelog string
	ids       map[[16]byte]bool // of the topic, as those say who have looked; more than one: it was made anew meanwhile
	same      bool              // the client reads the topic that was looked at
	unread    map[int32]int64   // partitions of which nothing has come, and where they are to begin
}

// follow begins to read behind the rows. begins is how the changelog was before they were read.
func follow(ctx context.Context, opts []kgo.Opt, changelog string, stand stands, begins beginning) (*changes, error) {
	c := &changes{changelog: changelog, ids: stand.of, unread: map[int32]int64{}}
	c.ids[begins.id] = true
	at := map[int32]kgo.Offset{}
	for p, offset := range stand.at {
		c.unread[p] = max(offset, begins.at[p])
		at[p] = kgo.NewOffset().At(c.unread[p])
	}
	var err error
	c.cl, err = kgo.NewClient(append([]kgo.Opt{
		kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{changelog: at}), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords(),
		kgo.ConsumeResetOffset(kgo.NoResetOffset()), kgo.FetchMaxWait(500 * time.Millisecond),
		kgo.MetadataMinAge(250 * time.Millisecond), // or a leader that moves, and a topic that is another one, are noticed 5 s later
	}, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("configure the client: %w", err)
	}
	if err := c.whole(ctx); err != nil {
		c.cl.Close()
		return nil, err
	}
	return c, nil
}

// whole reports whether the changelog is the one that the rows stand in, and still has what is to be read of the partitions of
// which nothing has come.
func (c *changes) whole(ctx context.Context) error {
	now, err := beginningOf(ctx, c.cl, c.changelog)
	if err != nil {
		return err
	}
	c.ids[now.id] = true
	delete(c.ids, [16]byte{}) // of brokers that give none
	if len(c.ids) > 1 {
		return fmt.Errorf("%w: %s was deleted and created again", ErrCutOff, c.changelog)
	}
	for p, from := range c.unread {
		if now.at[p] > from {
			return fmt.Errorf("%w: %s/%d begins at offset %d, and the rows stand at %d", ErrCutOff, c.changelog, p, now.at[p], from)
		}
	}
	return nil
}

// each calls f with changes until ctx ends or f says so.
func (c *changes) each(ctx context.Context, f func(*kgo.Record) (more bool, err error)) error {
	for {
		fetches := c.cl.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil
		}
		for _, e := range fetches.Errors() {
			var lost *kgo.ErrDataLoss
			if errors.Is(e.Err, kerr.OffsetOutOfRange) || errors.Is(e.Err, kerr.UnknownTopicID) || errors.As(e.Err, &lost) {
				return fmt.Errorf("%w: read changelog %s/%d: %w", ErrCutOff, e.Topic, e.Partition, e.Err)
			}
			return fmt.Errorf("read changelog %s/%d: %w", e.Topic, e.Partition, e.Err)
		}
		if err := c.began(ctx, fetches); err != nil {
			return err
		}
		for r := range fetches.RecordsAll() {
			if r.Attrs.IsControl() || r.Key == nil {
				continue
			}
			if more, err := f(r); !more || err != nil {
				return err
			}
		}
	}
}

// began looks at the first records of partitions. The client takes the nearest offset where there is none: then what was
// between is gone, unless it is the cleaner that took it.
func (c *changes) began(ctx context.Context, fetches kgo.Fetches) error {
	if len(c.unread) == 0 {
		return nil
	}
	later := false
	var come []int32
	fetches.EachPartition(func(p kgo.FetchTopicPartition) {
		from, ok := c.unread[p.Partition]
		if ok && len(p.Records) > 0 {
			later = later || p.Records[0].Offset > from
			come = append(come, p.Partition)
		}
	})
	if later || !c.same && len(come) > 0 {
		if err := c.whole(ctx); err != nil {
			return err
		}
		c.same = true // from now on it is refused another one
	}
	for _, p := range come {
		delete(c.unread, p)
	}
	return nil
}
