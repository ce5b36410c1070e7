package query

import (
	"errors"
	"fmt"
	"time"
)

// Op is what to read of a store.
type Op string

const (
	Get      Op = "get"      // key-value: the row of Key
	Range    Op = "range"    // key-value: rows from From to To, both included, nil for no bound
	Prefix   Op = "prefix"   // key-value: rows whose keys begin with Key
	ByIndex  Op = "index"    // key-value: rows that Index finds by a value from From to To, both included, nil for no bound
	Fetch    Op = "fetch"    // window: the windows of Key that start in [Since, Until]
	Starts   Op = "starts"   // window: the windows of the keys from From to To that start in [Since, Until]
	Sessions Op = "sessions" // session: those of Key that end at Since or later and start at Until or earlier
	Ends     Op = "ends"     // session: those of the keys from From to To that end in [Since, Until]
	Count    Op = "count"    // any: no rows; the answer's count is about how many there are
)

// Request asks for rows of some partitions of a store. Times are in milliseconds.
type Request struct {
	Store      string  `json:"store"`
	Partitions []int32 `json:"partitions"`
	Op         Op      `json:"op"`
	Key        []byte  `json:"key,omitempty"`
	From       []byte  `json:"from"`
	To         []byte  `json:"to"`
	Since      int64   `json:"since,omitempty"`
	Until      int64   `json:"until,omitempty"`
	Index      string  `json:"index,omitempty"`
	Backward   bool    `json:"backward,omitempty"` // all but Get, Prefix, Fetch and Sessions
	Limit      int     `json:"limit,omitempty"`    // rows; 0: all
	// Staleness lets copies of state answer that have everything which was committed so long ago; 0: only owners answer.
	Staleness time.Duration `json:"staleness,omitempty"`
	// After are records whose effects the answer must show; owners answer then.
	After []Position `json:"after,omitempty"`
	// Placed asks of each partition, before its rows, where in the changelog they stand: a row with At and nothing else.
	Placed bool `json:"placed,omitempty"`
}

// Position is a record on the log.
type Position struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Offset    int64  `json:"offset"`
}

// Row is one row as it lies in the store. Start and End are those of a window or session, in milliseconds; of a window whose
// end is not known End is Start or 0. By is what ByIndex has found it by, as it is ordered.
type Row struct {
	Key       []byte `json:"k"`
	Value     []byte `json:"v"`
	Time      int64  `json:"t"`
	Start     int64  `json:"s,omitempty"`
	End       int64  `json:"e,omitempty"`
	By        []byte `json:"b,omitempty"`
	Partition int32  `json:"p"`
	At        *int64 `json:"at,omitempty"` // no row: the offset that the partition's rows stand at, -1 for its changelog's start
	Of        []byte `json:"of,omitempty"` // with At: the id of the topic that has this offset; nil: not known
}

// line is what an answer consists of: a row, or the last one.
type line struct {
	*Row
	Count int64    `json:"count,omitempty"`
	Done  bool     `json:"done,omitempty"`
	Error *Failure `json:"error,omitempty"`
}

// Instance is what one instance says of itself.
type Instance struct {
	App      string  `json:"app"`
	ID       string  `json:"id"`
	State    string  `json:"state"`
	Paused   bool    `json:"paused"`
	Restored float64 `json:"restored_percent"`
	Tasks    []Task  `json:"tasks"`
	Stores   []Store `json:"stores"`
}

// Task is one task that it has, or keeps a copy of.
type Task struct {
	ID        string        `json:"id"`
	Sub       int           `json:"sub_topology"`
	Partition int32         `json:"partition"`
	Role      string        `json:"role"`
	Worker    int           `json:"worker"`
	Lag       int64         `json:"lag"`
	Remaining int64         `json:"remaining"`
	Restored  int64         `json:"restored_records"`
	Bytes     int64         `json:"restored_bytes"`
	Left      time.Duration `json:"restore_left,omitempty"`
}

// Roles of a task of which queries are asked.
const (
	Running = "running"
	Standby = "standby"
	WarmUp  = "warm-up"
)

// Store is one store of the application.
type Store struct {
	Name       string        `json:"name"`
	Kind       string        `json:"kind"`
	Sub        int           `json:"sub_topology"`
	Global     bool          `json:"global"`
	Topic      string        `json:"topic"` // what its serdes are told; its changelog, if it has one
	Changelog  string        `json:"changelog,omitempty"`
	FromSource bool          `json:"from_source,omitempty"`
	Partitions int32         `json:"partitions"`
	Here       []int32       `json:"here"`
	Positions  []int64       `json:"positions"`     // of those here, in the changelog
	Key        string        `json:"key,omitempty"` // formats, where the serdes say
	Value      string        `json:"value,omitempty"`
	Size       time.Duration `json:"window,omitempty"`
	Rows       int64         `json:"rows"` // of the partitions here, about
}

// Failures that are told apart, by code.
const (
	CodeNotHere      = "not_here"
	CodeNotReady     = "not_ready"
	CodeBusy         = "busy"
	CodeNoStore      = "no_store"
	CodeBad          = "bad_request"
	CodeUnauthorized = "unauthorized"
	CodeForbidden    = "forbidden"
	CodeTimeout      = "timeout"
	CodeFailed       = "failed"
)

// Failure is an error that crosses the wire.
type Failure struct {
	Code string `json:"code"`
	Text string `json:"message"`
}

func (f *Failure) Error() string { return f.Text }

// Retriable reports whether asking again, perhaps another instance, may help.
func (f *Failure) Retriable() bool {
	return f.Code == CodeNotHere || f.Code == CodeNotReady || f.Code == CodeBusy
}

// Fail makes a Failure.
func Fail(code, format string, args ...any) error {
	return &Failure{Code: code, Text: fmt.Sprintf(format, args...)}
}

// ErrUnavailable is wrapped by the error of a query for partitions of which no instance can be asked now.
var ErrUnavailable = errors.New("no instance that has the partition answers")

// retriable reports whether asking again may help.
func retriable(err error) bool {
	var f *Failure
	if errors.As(err, &f) {
		return f.Retriable()
	}
	return errors.Is(err, ErrUnavailable)
}
