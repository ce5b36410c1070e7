package runtime

import (
	"context"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// purger deletes the records of repartition topics that are processed: nobody else reads these topics, and they have no
// retention of their own. One goroutine does so, one request at a time; what fails is tried again with what has come since.
type purger struct {
	rt     *Runtime
	cancel context.CancelFunc
	done   chan struct{}
	topics map[string]bool // repartition topics; not changed after newPurger

	mu struct {
		sync.Mutex
		upTo map[tp]int64 // committed since the last request
	}
}

func newPurger(rt *Runtime, topics map[string]bool) *purger {
	ctx, cancel := context.WithCancel(context.Background())
	p := &purger{rt: rt, cancel: cancel, done: make(chan struct{}), topics: topics}
	p.mu.upTo = map[tp]int64{}
	go p.run(ctx)
	return p
}

func (p *purger) close() {
	p.cancel()
	<-p.done
}

// committed notes that everything of a partition below offset is processed for good.
func (p *purger) committed(at tp, offset int64) {
	if offset <= 0 || !p.topics[at.topic] {
		return
	}
	p.mu.Lock()
	p.mu.upTo[at] = max(p.mu.upTo[at], offset)
	p.mu.Unlock()
}

func (p *purger) run(ctx context.Context) {
	defer close(p.done)
	if len(p.topics) == 0 {
		return
	}
	for sleep(ctx, p.rt.cfg.PurgeInterval) == nil {
		p.mu.Lock()
		upTo := p.mu.upTo
		p.mu.upTo = map[tp]int64{}
		p.mu.Unlock()
		if len(upTo) > 0 {
			p.purge(ctx, upTo)
		}
	}
}

func (p *purger) purge(ctx context.Context, upTo map[tp]int64) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	offsets := kadm.Offsets{}
	for at, offset := range upTo {
		offsets.AddOffset(at.topic, at.p, offset, -1)
	}
	deleted, err := p.rt.topics.admin.DeleteRecords(ctx, offsets)
	failed := map[tp]error{}
	for at := range upTo {
		if r, ok := deleted.Lookup(at.topic, at.p); err != nil || !ok || r.Err != nil {
			failed[at] = err
			if ok {
				failed[at] = r.Err
			}
		}
	}
	var example tp
	for at := range failed {
		p.committed(at, upTo[at])
		example = at
	}
	if len(failed) > 0 && ctx.Err() == nil {
		p.rt.cfg.Logger.Warn("processed records of repartition topics cannot be deleted, trying again later", "partitions", len(failed),
			"one", example.String(), "below", upTo[example], "err", failed[example])
	}
}
