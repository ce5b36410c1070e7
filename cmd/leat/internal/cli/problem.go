package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kerr"
)

// Problem is an error's text in one line; that of a Kafka error begins with its name.
func Problem(err error) string {
	var texts []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" && !slices.Contains(texts, line) { // errors.Join joins by lines
			texts = append(texts, line)
		}
	}
	return strings.Join(texts, "; ")
}

// kafkaName is the name of the Kafka error in err, "" if there is none.
func kafkaName(err error) string {
	var k *kerr.Error
	if errors.As(err, &k) {
		return k.Message
	}
	return ""
}

// Explain is an error's text with what the user can do about it.
func (e *Env) Explain(err error) string {
	text := Problem(err)
	where := strings.Join(e.brokers, ",")
	var dns *net.DNSError
	switch {
	case errors.Is(err, errNoRegistry):
	case errors.Is(err, syscall.ECONNREFUSED) && errors.Is(err, errUnreachable):
		text = fmt.Sprintf("no broker at %s: connection refused. Start one with 'leat dev', or name another with --bootstrap-server", where)
	case errors.As(err, &dns):
		text = fmt.Sprintf("host %q is not known: check --bootstrap-server, and the address that the broker advertises ('leat doctor' shows it)", dns.Name)
	case errors.Is(err, context.DeadlineExceeded):
		text = fmt.Sprintf("no answer from %s within %s (--timeout): %s", where, e.timeout, text)
	case errors.Is(err, kerr.SaslAuthenticationFailed):
		text = strings.TrimSuffix(text, ".") + ". Check the user and password in the file given by --command-config"
	case kafkaName(err) == "TOPIC_AUTHORIZATION_FAILED", kafkaName(err) == "GROUP_AUTHORIZATION_FAILED", kafkaName(err) == "CLUSTER_AUTHORIZATION_FAILED":
		text = strings.TrimSuffix(text, ".") + ". Use a user that may do this, or ask for an ACL"
	}
	return text
}

// NotFound is the error for a name that is not there, with the one that may be meant. cause, if not nil, is kept for errors.Is and
// for those who grep for its name.
func NotFound(kind, name string, known []string, cause error) error {
	text := fmt.Sprintf("%s %q not found", kind, name)
	if like := closest(name, known); like != "" {
		text += fmt.Sprintf(" (did you mean %q?)", like)
	}
	if cause == nil {
		return errors.New(text)
	}
	return fmt.Errorf("%s: %w", text, nameOnly{cause})
}

// nameOnly prints a Kafka error as its name alone.
type nameOnly struct{ error }

func (n nameOnly) Error() string {
	if name := kafkaName(n.error); name != "" {
		return name
	}
	return n.error.Error()
}

func (n nameOnly) Unwrap() error { return n.error }

// WithMessage adds what the broker said beside an error code.
func WithMessage(err error, message string) error {
	if err == nil || message == "" || strings.Contains(err.Error(), message) {
		return err
	}
	return fmt.Errorf("%w: %s", nameOnly{err}, message)
}

// OrNil makes a nil error a nil cell.
func OrNil(err error) any {
	if err == nil {
		return nil
	}
	return err
}

// closest is the known name nearest to name, else the shortest of which name is a part, "" if there is none.
func closest(name string, known []string) string {
	name = strings.ToLower(name)
	best, at := "", max(2, len(name)/3)+1
	for _, k := range known {
		if d := distance(name, strings.ToLower(k)); d < at {
			best, at = k, d
		}
	}
	if best != "" || len(name) < 3 {
		return best
	}
	for _, k := range known {
		if strings.Contains(strings.ToLower(k), name) && (best == "" || len(k) < len(best)) {
			best = k
		}
	}
	return best
}

// distance is how many letters must change, come or go to make a of b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j+1]+1, row[j]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}

// NameOnly prints a Kafka error as its name alone, for errors that say the rest themselves.
func NameOnly(err error) error { return nameOnly{err} }

// ErrorOf is the error of a response's code and message, nil for no error.
func ErrorOf(code int16, message *string) error {
	err := kerr.ErrorForCode(code)
	if message != nil {
		return WithMessage(err, *message)
	}
	return err
}

// Count writes "1 topic", "2 topics".
func Count(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
