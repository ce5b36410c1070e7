package log

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Errors that are not answers of the protocol by themselves. What Append, Read and the rest return for a client wraps a
// *kerr.Error as well: take the code with errors.As.
var (
	// ErrClosed says that the log was closed; it comes with kerr.NotLeaderForPartition.
	ErrClosed = errors.New("log is closed")
	// ErrDeleted says that the log was deleted; it comes with kerr.UnknownTopicOrPartition.
	ErrDeleted = errors.New("log is deleted")
	// ErrCorrupt marks damage in a part of the log that was complete once. The error names file and position; it comes
	// with kerr.KafkaStorageError.
	ErrCorrupt = errors.New("log is corrupt")
)

// InvalidRecordsError refuses a batch because of single records. It unwraps to kerr.InvalidRecord.
type InvalidRecordsError struct {
	Records []InvalidRecord // at most maxInvalidRecords of them
}

// InvalidRecord names a record by its index in the batch.
type InvalidRecord struct {
	Index   int32
	Message string
}

// maxInvalidRecords bounds the list that goes back to the client.
const maxInvalidRecords = 100

// Error implements error.
func (e *InvalidRecordsError) Error() string {
	return fmt.Sprintf("%s: record %d: %s", kerr.InvalidRecord.Message, e.Records[0].Index, e.Records[0].Message)
}

// Unwrap returns kerr.InvalidRecord.
func (e *InvalidRecordsError) Unwrap() error { return kerr.InvalidRecord }

// refuse is an error of the protocol with its reason.
func refuse(k *kerr.Error, format string, args ...any) error {
	return fmt.Errorf("%w: %s", k, fmt.Sprintf(format, args...))
}

// storageError is a failure of the disk below the log.
func storageError(name, op string, err error) error {
	return fmt.Errorf("log %s: %s: %w: %w", name, op, kerr.KafkaStorageError, err)
}

// corruption is damage at a place.
func corruption(file string, pos int64, err error) error {
	return fmt.Errorf("%w: %s at byte %d: %w: %w", ErrCorrupt, file, pos, err, kerr.KafkaStorageError)
}
