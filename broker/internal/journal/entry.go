// Package journal keeps a coordinator's state on a partition log: records are appended in batches, each batch whole or not at
// all, and played back in order at start.
//
// The types: [Journal] is one partition log seen that way; [Entry] is one record, [Visitor] takes them back.
package journal

// Entry is one record to append. A nil Value is a tombstone. The journal copies both before Append returns.
type Entry struct {
	Key, Value []byte
}

// Producer is the producer that a transactional batch belongs to.
type Producer struct {
	ID    int64
	Epoch int16
}

// Visitor takes what Replay reads. A nil func skips.
type Visitor struct {
	// Record is called for each record. producerID is -1 outside of transactions; offset is the record's. key and value are only
	// valid during the call.
	Record func(producerID, offset int64, key, value []byte) error
	// Marker is called for each end of a transaction.
	Marker func(producerID int64, commit bool) error
}
