package runtime

import "github.com/leatstream/leat/streams/internal/session"

// What may wait in the queue of a partition before it is paused: records, and bytes, of which all partitions of the instance share
// MaxQueuedBytes. A queue grows while its task waits for another partition, or for calls of its own, or is slower than the log.
// Reading goes on when half is left.
const (
	mostQueued  = 2 * pollRecords
	leastQueued = 1 << 20 // bytes of one partition that are never too many
)

// pauseFull pauses the partitions that have much to do already, and resumes those that have done half of it.
func (w *worker) pauseFull() {
	bytes := max(leastQueued, w.rt.cfg.MaxQueuedBytes/int64(max(1, len(w.parts)*w.rt.cfg.Workers)))
	var pause, resume session.Partitions
	for _, p := range w.parts {
		if w.held { // of a paused application nothing is read; Resume reads everything again
			p.paused = false
			continue
		}
		if !p.task.running {
			continue
		}
		records, size := p.task.engine.Buffered(p.topic, p.p)
		full := records >= mostQueued || size >= bytes
		switch {
		case full && !p.paused:
			pause = with(pause, p.tp)
			w.log.Debug("a partition is not read on while much of it waits", "topic", p.topic, "partition", p.p, "records", records, "bytes", size)
		case p.paused && records <= mostQueued/2 && size <= bytes/2:
			resume = with(resume, p.tp)
		default:
			continue
		}
		p.paused = full
	}
	if pause != nil {
		w.s.Pause(pause)
	}
	if resume != nil {
		w.s.Resume(resume)
	}
}

func with(ps session.Partitions, p tp) session.Partitions {
	if ps == nil {
		ps = session.Partitions{}
	}
	ps[p.topic] = append(ps[p.topic], p.p)
	return ps
}
