package streams

import (
	"time"

	"github.com/leatstream/leat/streams/internal/engine"
)

// RecordError is what went wrong with one record. Node is the node of the topology, Task the task (for example 0_3),
// Phase what was being done: decode, process, encode, timestamp or produce. Topic, Partition and Offset say where the
// record lies that was being processed; Key and Value are its bytes and must not be changed. Where there is none Offset is
// -1: of a table's update at the commit Store names the table's store, Key is the row's, and Topic and Partition are its
// changelog's, if it has one; in a punctuator Topic is empty and Partition -1. While a store is restored, Store names it, and
// the rest is about the changelog's record. Attempt counts from 1. Err is the cause; of a panic it is a [PanicError].
//
//	Node, Task    string
//	Phase         Phase // text: "decode", "process", "encode", "timestamp", "produce"
//	Store, Topic  string
//	Partition     int32
//	Offset        int64
//	Key, Value    []byte
//	Attempt       int
//	Err           error
//
// It is used by its pointer, *RecordError, which is an error.
type RecordError = engine.RecordError

// PanicError is the cause of a RecordError when a function of the topology panicked. Stack is the goroutine's, as text.
//
//	Value any
//	Stack []byte
//
// It is used by its pointer, *PanicError, which is an error.
type PanicError = engine.PanicError

// Decision is what Config.OnError answers. The zero value is [Fail].
type Decision = engine.Decision

// Fail stops the application with the error. Nothing of the record is committed.
func Fail() Decision { return engine.Fail() }

// Skip drops the record from the failing node down, and counts it. What nodes before it, and its earlier siblings, have
// done with the record stays.
func Skip() Decision { return engine.Skip() }

// DeadLetter is Skip, and writes the source record as it came to topic, in the same transaction, with the headers
// __streams.errors.exception, .message, .stacktrace, .topic, .partition and .offset that Kafka Streams writes. Of an update at
// the commit it writes what is known: the row's key, the changelog's topic and partition, and __streams.errors.store.
func DeadLetter(topic string) Decision { return engine.DeadLetter(topic) }

// Retry calls the failing function again after that time. The task waits meanwhile; mind the transaction timeout.
func Retry(after time.Duration) Decision { return engine.Retry(after) }

// ErrMissingTopic is wrapped by the error of an application whose source topic does not exist.
var ErrMissingTopic = engine.ErrMissingTopic

// ErrNegativeTime is wrapped by the [RecordError] of a record whose timestamp lies before 1970.
var ErrNegativeTime = engine.ErrNegativeTime

// ErrFutureTime is wrapped by the [RecordError] of a record whose time is further ahead than Source.MaxAhead.
var ErrFutureTime = engine.ErrFutureTime

// ErrCopartition is wrapped by the error of an application that joins topics of different partition counts.
var ErrCopartition = engine.ErrCopartition
