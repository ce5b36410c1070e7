package runtime

import "github.com/leatstream/leat/streams/internal/session"

// heldRecords is how much may wait in a task that takes no records for now before its partitions are paused. Reading goes
// on when half of it is left.
const heldRecords = 2 * pollRecords

// holdBack pauses the partitions of tasks that wait for calls of theirs to end, and resumes those that have gone on.
func (w *worker) holdBack() {
	for _, t := range w.tasks {
		if w.held { // of a paused application nothing is read; Resume reads everything again
			t.paused = false
			continue
		}
		if !t.running {
			continue
		}
		n := t.engine.BufferedAll()
		pause := t.engine.Held() && n >= heldRecords || t.paused && n > heldRecords/2
		if pause == t.paused {
			continue
		}
		t.paused = pause
		parts := session.Partitions{}
		for _, p := range t.parts {
			parts[p.topic] = append(parts[p.topic], p.p)
		}
		if pause {
			w.s.Pause(parts)
		} else {
			w.s.Resume(parts)
		}
	}
}
