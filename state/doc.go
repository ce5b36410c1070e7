// Package state keeps the state of stream processing: typed key-value and window stores over one Pebble database per
// instance.
//
// A [DB] is a directory that one process holds. In it each store has one [Shard] per partition. A shard knows the
// changelog [Position] at which its data stands; data and position are written in one atomic batch, and with the
// write-ahead log off (the changelog is that log) a reopened shard always equals some batch that was applied whole.
//
// [KeyValueStore] and [WindowStore] put a write-back cache of decoded values on a shard. Between two commits a value is
// decoded once and written once, however often it changes. The life of a change is
//
//	Entry, BeforeChange, Set     any number of times; nothing is written
//	Flush                        encoded, given to the changelog; the last update of every key goes to the listener
//	Seal, Batch.Apply            after the transaction committed: written to Pebble in the background
//	Abort                        instead of Seal: the changes are forgotten, the cache reads the committed state again
//
// One goroutine owns a typed store; there are no locks in it. [KeyValueView] and [WindowView] read committed data from
// any goroutine.
package state
