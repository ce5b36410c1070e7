package session

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// Error is why a session cannot go on. If it is not Fatal, the caller drops what it has processed since the last commit,
// closes the session and opens it again; that settles the transaction, whatever became of it.
type Error struct {
	Op    string // what was being done
	Err   error
	Fatal bool // opening again would end the same way
}

// Error says what was done, what came back, and for the usual causes what to do.
func (e *Error) Error() string {
	text := fmt.Sprintf("%s: %v", e.Op, e.Err)
	if hint := hint(e.Err); hint != "" {
		text += "; " + hint
	}
	return text
}

// Unwrap gives the cause.
func (e *Error) Unwrap() error { return e.Err }

// Recoverable reports whether err is cured by closing the session and opening it again.
func Recoverable(err error) bool {
	var e *Error
	return errors.As(err, &e) && !e.Fatal
}

// Fenced reports whether err says that another member has taken this one's instance id.
func Fenced(err error) bool { return errors.Is(err, kerr.FencedInstanceID) }

func hint(err error) string {
	switch {
	case errors.Is(err, kerr.FencedInstanceID):
		return "another process runs with the same instance id: give every instance a state directory of its own that is no copy, and each Config.InstanceID to one"
	case errors.Is(err, kerr.InvalidTransactionTimeout):
		return "Config.TransactionTimeout is above the brokers' transaction.max.timeout.ms: lower it, or raise that"
	case errors.Is(err, kerr.InvalidSessionTimeout):
		return "Config.SessionTimeout is not between the brokers' group.min.session.timeout.ms and group.max.session.timeout.ms"
	case errors.Is(err, kerr.MessageTooLarge), errors.Is(err, kerr.RecordListTooLarge):
		return "a record is larger than the topic's max.message.bytes, or than this client's limit, which is 1 MB: raise the one with the topic's configs, " +
			"the other with kgo.ProducerBatchMaxBytes in Config.Client, or make the value smaller"
	case errors.Is(err, kerr.UnknownTopicOrPartition):
		return "create the topic; the brokers do not do it by themselves"
	case errors.Is(err, kerr.GroupAuthorizationFailed), errors.Is(err, kerr.TopicAuthorizationFailed),
		errors.Is(err, kerr.TransactionalIDAuthorizationFailed), errors.Is(err, kerr.ClusterAuthorizationFailed):
		return "the principal lacks a right: see the brokers' authorizer log"
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		return "Config.Client has another name, password or mechanism than the brokers know"
	case errors.Is(err, kerr.IllegalSaslState):
		return "this listener of the brokers has no SASL, and Config.Client does"
	case errors.Is(err, kerr.InconsistentGroupProtocol):
		return "the group has members of another kind: use an AppID that no other application uses as a group"
	}
	return ""
}

// fatals are errors that come again if we try again.
var fatals = []error{
	kerr.FencedInstanceID, kerr.InvalidTransactionTimeout, kerr.MessageTooLarge, kerr.RecordListTooLarge,
	kerr.GroupAuthorizationFailed, kerr.TopicAuthorizationFailed, kerr.TransactionalIDAuthorizationFailed,
	kerr.ClusterAuthorizationFailed, kerr.InconsistentGroupProtocol, kerr.InvalidGroupID, kerr.InvalidSessionTimeout,
	kerr.UnsupportedVersion, kerr.InvalidRecord, kerr.InvalidTopicException, kerr.SaslAuthenticationFailed,
	kerr.UnsupportedSaslMechanism, kerr.IllegalSaslState, kerr.GroupMaxSizeReached,
}

func isFatal(err error) bool {
	var e *Error
	if errors.As(err, &e) && e.Fatal {
		return true
	}
	for _, f := range fatals {
		if errors.Is(err, f) {
			return true
		}
	}
	return false
}

// Wrap makes an Error of err, unless it is one.
func Wrap(op string, err error) error {
	var e *Error
	if err == nil || errors.As(err, &e) {
		return err
	}
	return &Error{Op: op, Err: err, Fatal: isFatal(err)}
}

// Retry calls f until it succeeds, fails for good or ctx is done, and says in the log what it waits for.
func Retry(ctx context.Context, log *slog.Logger, what string, f func() error) error {
	const firstWait, lastWait, sayAfter = 20 * time.Millisecond, time.Second, 2 * time.Second
	wait, since, said := firstWait, time.Now(), time.Time{}
	for {
		err := f()
		if err == nil {
			return nil
		}
		if isFatal(err) || errors.Is(err, kgo.ErrClientClosed) {
			return Wrap("reach "+what, err)
		}
		var ke *kerr.Error
		if errors.As(err, &ke) && !ke.Retriable && !errors.Is(err, kerr.UnknownServerError) {
			return Wrap("reach "+what, err)
		}
		if now := time.Now(); now.Sub(since) >= sayAfter && now.Sub(said) >= 10*time.Second {
			said = now
			log.Warn("waiting for "+what, "for", now.Sub(since).Round(time.Second), "err", err)
		}
		if !pause(ctx, wait) {
			return &Error{Op: "wait for " + what, Err: errors.Join(ctx.Err(), err)}
		}
		wait = min(2*wait, lastWait)
	}
}

// pause waits d and reports whether ctx is still alive.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// Logger hands kgo's log on: its infos are our debugging.
type Logger struct{ out *slog.Logger }

// NewLogger returns a logger for a client.
func NewLogger(out *slog.Logger) Logger { return Logger{out} }

// Level implements kgo.Logger.
func (l Logger) Level() kgo.LogLevel {
	ctx := context.Background()
	switch {
	case l.out.Enabled(ctx, slog.LevelDebug):
		return kgo.LogLevelInfo
	case l.out.Enabled(ctx, slog.LevelWarn):
		return kgo.LogLevelWarn
	}
	return kgo.LogLevelError
}

// Log implements kgo.Logger.
func (l Logger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	switch level {
	case kgo.LogLevelError: // kgo retries nearly all of these; what ends a session is returned as an error
		l.out.Warn("kafka client: "+msg, keyvals...)
	case kgo.LogLevelWarn:
		l.out.Info("kafka client: "+msg, keyvals...)
	default:
		l.out.Debug("kafka client: "+msg, keyvals...)
	}
}
