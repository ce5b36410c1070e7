package streams

import (
	"fmt"
	"math"
	"time"
)

// Windows says into which windows of time a record falls. Windows begin no earlier than the Unix epoch. The zero value is
// none. Times are whole milliseconds.
type Windows struct {
	kind                 windowKind
	size, advance, grace int64 // milliseconds; size is the largest that a window has
	from                 int64 // of unlimited windows
	custom               func(at time.Time, add func(start, end time.Time))
	period               Period
	zone                 *time.Location
}

type windowKind uint8

const (
	aligned windowKind = iota // tumbling, hopping
	sliding
	unlimited
	custom
	calendar
)

// Tumbling are windows of that size, one after the other: every record falls into one. Windows are half-open, and aligned
// to the Unix epoch.
func Tumbling(size time.Duration) Windows {
	return Windows{size: size.Milliseconds(), advance: size.Milliseconds()}
}

// Hopping are windows of that size which begin every advance: they overlap, and a record falls into several.
func Hopping(size, advance time.Duration) Windows {
	return Windows{size: size.Milliseconds(), advance: advance.Milliseconds()}
}

// Sliding are windows in which records lie no further apart than that: there is one for each set of records of a key that
// fit into it. A window contains both its ends. Records that are earlier than diff after the epoch share the window that
// begins there.
func Sliding(diff time.Duration) Windows {
	return Windows{kind: sliding, size: diff.Milliseconds(), advance: 1}
}

// Unlimited is one window without an end. Earlier records fall into none. It has no grace, and no final result.
func Unlimited(from time.Time) Windows {
	return Windows{kind: unlimited, size: math.MaxInt64, advance: 1, from: from.UnixMilli()}
}

// Custom are windows of your own: f adds those that a record of a time falls into, none of them longer than size, and no
// two that begin together. f gives equal windows for equal times. Such windows have no final results.
func Custom(size time.Duration, f func(at time.Time, add func(start, end time.Time))) Windows {
	return Windows{kind: custom, size: size.Milliseconds(), advance: 1, custom: f}
}

// Period is a unit of the calendar.
type Period uint8

const (
	// Day is from midnight to midnight: 23 or 25 hours where the clocks are changed.
	Day Period = iota + 1
	// Week begins on Monday.
	Week
	// Month is a month of the Gregorian calendar.
	Month
	// Year is a year of it.
	Year
)

// Calendar are the days, weeks, months or years of a time zone (nil: UTC), one after the other.
func Calendar(each Period, in *time.Location) Windows {
	const day = 24 * time.Hour
	w := Windows{kind: calendar, advance: 1, period: each, zone: in}
	switch each {
	case Day:
		w.size = day.Milliseconds()
	case Week:
		w.size = (7 * day).Milliseconds()
	case Month:
		w.size = (31 * day).Milliseconds()
	case Year:
		w.size = (366 * day).Milliseconds()
	}
	if in == nil {
		w.zone = time.UTC
	}
	return w
}

// Grace is how long, in stream time, records are still accepted after a window's end. Without it: not at all.
func (w Windows) Grace(d time.Duration) Windows {
	w.grace = d.Milliseconds()
	return w
}

// maxWindows bounds the windows that one record falls into, each of which it updates.
const maxWindows = 10_000

func (w Windows) check() error {
	switch {
	case w.size <= 0:
		return fmt.Errorf("windows of size %v: at least a millisecond is needed", ms(w.size))
	case w.grace < 0:
		return fmt.Errorf("windows with the negative grace %v", ms(w.grace))
	case w.kind == unlimited && (w.from < 0 || w.grace != 0):
		return fmt.Errorf("an unlimited window from %v with grace %v: it begins in 1970 or later, and has no grace", fromMillis(w.from), ms(w.grace))
	case w.kind == custom && w.custom == nil:
		return fmt.Errorf("custom windows without a function")
	case w.kind != aligned:
	case w.advance <= 0 || w.advance > w.size:
		return fmt.Errorf("windows of size %v that advance by %v: it must be more than zero and at most the size", ms(w.size), ms(w.advance))
	case w.size/w.advance > maxWindows:
		return fmt.Errorf("windows of size %v that advance by %v: a record would fall into %d of them, at most %d are allowed",
			ms(w.size), ms(w.advance), w.size/w.advance, maxWindows)
	}
	return nil
}

// first returns the start of the first window that contains at; the others follow every advance, up to at.
func (w *Windows) first(at int64) int64 {
	return max(0, at-w.size+w.advance) / w.advance * w.advance
}

// dates returns the window of the calendar that contains at.
func (w *Windows) dates(at int64) (start, end int64) {
	year, month, day := time.UnixMilli(at).In(w.zone).Date()
	var years, months, days int
	switch w.period {
	case Day:
		days = 1
	case Week:
		day -= (int(time.Date(year, month, day, 12, 0, 0, 0, time.UTC).Weekday()) + 6) % 7
		days = 7
	case Month:
		day, months = 1, 1
	case Year:
		month, day, years = time.January, 1, 1
	}
	start = midnight(year, month, day, w.zone)
	return max(0, start), midnight(year+years, month+time.Month(months), day+days, w.zone)
}

// dating remembers the date that it was last asked for: the calendar costs ten times what an aligned window does, and most
// records are of the same date as the one before.
type dating struct{ start, end int64 }

func (d *dating) of(w *Windows, at int64) (start, end int64) {
	if at < d.start || at >= d.end {
		d.start, d.end = w.dates(at)
	}
	return d.start, d.end
}

// midnight is the first instant of a date, also where the clocks are put forward at midnight.
func midnight(year int, month time.Month, day int, zone *time.Location) int64 {
	t := time.Date(year, month, day, 0, 0, 0, 0, zone)
	if t.Hour() == 0 {
		return t.UnixMilli()
	}
	noon := time.Date(year, month, day, 12, 0, 0, 0, zone)
	if start, _ := noon.ZoneBounds(); !start.IsZero() && start.After(noon.Add(-13*time.Hour)) {
		return start.UnixMilli()
	}
	return t.UnixMilli()
}

// end returns the end of a window by its start; of custom windows only who made it knows.
func (w *Windows) end(start int64) int64 {
	switch w.kind {
	case unlimited:
		return math.MaxInt64
	case calendar:
		_, end := w.dates(start)
		return end
	}
	return start + w.size
}

// lastClosed returns the start of the last window that has closed at that observed time; negative if none has.
func (w *Windows) lastClosed(observed int64, date *dating) int64 {
	open := observed - w.grace
	switch w.kind {
	case sliding: // both ends are in it
		return max(-1, open-w.size-1)
	case calendar:
		if open < 0 {
			return -1
		}
		start, _ := date.of(w, open)
		return start - 1
	}
	if open < w.size {
		return -1
	}
	return (open - w.size) / w.advance * w.advance
}

// lingers is how long after its end a window may still change, in milliseconds. One that contains its end does so there.
func (w *Windows) lingers() int64 {
	if w.kind == sliding {
		return max(1, w.grace)
	}
	return w.grace
}

// live is how long after its start a window is needed; 0: for ever. A sliding window is looked at beyond its own life, as
// what the windows of late records begin with.
func (w *Windows) live() time.Duration {
	switch w.kind {
	case unlimited:
		return 0
	case sliding:
		return ms(3*w.size + w.grace + 1)
	case calendar:
		return ms(w.size+w.grace) + 3*time.Hour // the clocks may be changed
	}
	return ms(w.size + w.grace)
}

// width is the size that the serde of windowed keys adds to a start; the windows of a calendar and custom ones may be
// shorter. An unlimited window's is the longest there is.
func (w *Windows) width() time.Duration {
	if w.kind == unlimited {
		return math.MaxInt64
	}
	return ms(w.size)
}

func ms(n int64) time.Duration { return time.Duration(n) * time.Millisecond }
