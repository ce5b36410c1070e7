package engine

import "time"

// patience bounds the time for which a task waits for records that the log says it has: they may turn out to be markers
// and what the cleaner took.
const patience = time.Second

// NoteEnd tells the task where the log of a partition ends, as far as is known.
func (t *Task) NoteEnd(topic string, partition int32, end int64) {
	if q := t.queue(topic, partition); q != nil && end > q.end {
		q.end = end
	}
}

// Ready says how many records, up to max, may be processed before a partition runs dry that has more on the log, or is
// waited for (SourceSpec.Idle), so that records are taken in the order of their timestamps across partitions where the log
// allows it. A partition is waited for once, from when another one has a record; until it has had records again, no more.
func (t *Task) Ready(most int, now func() time.Time) int {
	switch {
	case t.Held():
		return 0
	case len(t.queues) == 1:
		return most
	}
	any, wait := false, false
	for _, q := range t.queues {
		any = any || q.buffered > 0
	}
	for _, q := range t.queues {
		if q.buffered > 0 {
			q.lacks, q.idles = time.Time{}, time.Time{}
			most = min(most, q.buffered)
			continue
		}
		if q.position >= q.end {
			q.lacks = time.Time{}
		} else if q.idle >= 0 && still(&q.lacks, patience, now) {
			wait = true
			continue
		}
		if any && q.idle > 0 && still(&q.idles, q.idle, now) {
			wait = true
		}
	}
	if wait {
		return 0
	}
	return most
}

// still reports whether less than by has passed since since, which begins now if it has not begun.
func still(since *time.Time, by time.Duration, now func() time.Time) bool {
	at := now()
	if since.IsZero() {
		*since = at
	}
	return at.Sub(*since) < by
}

// ReadyAt returns when the next wait of Ready ends by itself, and whether the task waits.
func (t *Task) ReadyAt(now time.Time) (at time.Time, waits bool) {
	for _, q := range t.queues {
		for _, w := range []struct {
			since time.Time
			by    time.Duration
		}{{q.lacks, patience}, {q.idles, q.idle}} {
			if w.since.IsZero() {
				continue
			}
			if end := w.since.Add(w.by); end.After(now) && (!waits || end.Before(at)) {
				at, waits = end, true
			}
		}
	}
	return at, waits
}
