package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Position is a place in a partition, as --offset, --to and --at take it.
type Position struct {
	Kind PositionKind
	// N is the offset, or how far to go from the place that Kind names.
	N int64
	// Time is that of AtTime.
	Time time.Time
}

// PositionKind says how a Position is meant.
type PositionKind int

// Kinds of positions.
const (
	AtStart   PositionKind = iota // the earliest record
	AtEnd                         // after the latest record
	AtOffset                      // N
	Forward                       // N after the start, or after where one is
	Backward                      // N before the end, or before where one is
	AtTime                        // the first record not before Time
	AtCurrent                     // where one is
)

const positions = "want start, end, an offset N, +N, -N, or @TIME with TIME as 2026-11-30, 2026-11-30T08:00:00Z, milliseconds since 1970, now, or -1h"

// ParsePosition reads start (earliest), end (latest), current, N, +N, -N and @TIME.
func ParsePosition(s string, now time.Time) (Position, error) {
	switch s {
	case "start", "earliest", "beginning":
		return Position{Kind: AtStart}, nil
	case "end", "latest":
		return Position{Kind: AtEnd}, nil
	case "current":
		return Position{Kind: AtCurrent}, nil
	}
	if t, ok := strings.CutPrefix(s, "@"); ok {
		at, err := ParseTime(t, now)
		return Position{Kind: AtTime, Time: at}, err
	}
	n, err := strconv.ParseInt(s, 10, 64)
	switch {
	case err != nil:
		return Position{}, Usagef("position %q: %s", s, positions)
	case s[0] == '+':
		return Position{Kind: Forward, N: n}, nil
	case s[0] == '-':
		return Position{Kind: Backward, N: -n}, nil
	}
	return Position{Kind: AtOffset, N: n}, nil
}

// ParseTime reads a date, a date with a time (UTC unless it says otherwise), milliseconds since 1970, now, or a duration before
// now such as -1h30m or -7d.
func ParseTime(s string, now time.Time) (time.Time, error) {
	if s == "now" {
		return now, nil
	}
	if ago, ok := strings.CutPrefix(s, "-"); ok {
		d, err := parseDuration(ago)
		if err != nil {
			return time.Time{}, Usagef("time %q: %v", s, err)
		}
		return now.Add(-d), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999", "2006-01-02 15:04:05.999", "2006-01-02T15:04", "2006-01-02"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	if ms, err := strconv.ParseInt(s, 10, 64); err == nil {
		return time.UnixMilli(ms), nil
	}
	return time.Time{}, Usagef("time %q: %s", s, positions)
}

// parseDuration is time.ParseDuration with days in front: 7d, 1d12h.
func parseDuration(s string) (time.Duration, error) {
	days, rest, ok := strings.Cut(s, "d")
	if !ok {
		return time.ParseDuration(s)
	}
	n, err := strconv.ParseUint(days, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("want a duration such as 90s, 1h30m, 7d")
	}
	d := time.Duration(n) * 24 * time.Hour
	if rest == "" {
		return d, nil
	}
	more, err := time.ParseDuration(rest)
	return d + more, err
}
