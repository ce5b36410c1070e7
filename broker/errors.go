package broker

import (
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/leatstream/leat/broker/internal/meta"
)

// apiError is a protocol error with a message for people.
type apiError struct {
	code *kerr.Error
	text string
}

func (e *apiError) Error() string { return e.code.Message + ": " + e.text }
func (e *apiError) Unwrap() error { return e.code }

// refuse makes an apiError.
func refuse(code *kerr.Error, format string, args ...any) error {
	return &apiError{code, fmt.Sprintf(format, args...)}
}

// errorCode is the protocol's code of err: 0 for nil, and KAFKA_STORAGE_ERROR for what is no protocol error, since handlers meet
// no others than those of disks.
func errorCode(err error) int16 {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*kerr.Error](err); ok {
		return e.Code
	}
	if errors.Is(err, meta.ErrUnknown) {
		return kerr.UnknownTopicOrPartition.Code
	}
	return kerr.KafkaStorageError.Code
}

// errorText is the message for people that belongs to err, nil for nil.
func errorText(err error) *string {
	if err == nil {
		return nil
	}
	text := err.Error()
	if e, ok := errors.AsType[*apiError](err); ok {
		text = e.text
	} else if e, ok := err.(*kerr.Error); ok { //nolint:errorlint // bare: nothing was said about this case
		text = e.Description
	}
	return &text
}

// tooMany is what ends a connection whose request names more than Config.MaxRequestPartitions.
func tooMany(request, what string, n, most int) error {
	return fmt.Errorf("%s request of %d %s, more than the limit of %d", request, n, what, most)
}
