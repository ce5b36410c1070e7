// Package streams is stream processing on the Kafka protocol: Kafka Streams' model, typed, in Go.
//
// A [Builder] puts a topology together from typed handles: [KStream], a stream of records; [KTable], the latest value per
// key; [WindowedKTable], the latest value per key and window. [Builder.Build] checks it and gives a [Topology], which an
// App runs on a cluster and package streamstest runs in a test, without one. [Topic], [Store] and [WindowStore] are
// descriptors: they carry the names and serdes of what lies on the log or on disk, and are declared once.
//
// Every function that is given to an operator runs on its task's goroutine: within a task, one at a time, in order. It
// sees the key first, then the values. A function that fails or panics, like bytes that do not decode, is a
// [RecordError], which Config.OnError decides on. See docs/semantics.md for what each operator does to a record.
//
// Methods such as ToTable[S Store[K, V]](into S) have a type parameter that can be one type only, and is never written: the
// compiler makes a method that has type parameters where it is called, and every other one for each type of handle that a
// program has, with all that it leads to. A stream that becomes no table is compiled without tables.
package streams
