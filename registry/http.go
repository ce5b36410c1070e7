package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/riferrei/srclient"
)

// HTTPConfig configures a backend made by [NewHTTP]. The zero value suits a registry without authentication.
type HTTPConfig struct {
	// Username and Password are sent as basic authentication where Username is not empty.
	Username, Password string
	// BearerToken is sent where it is not empty and Username is.
	BearerToken string
	// Timeout bounds one request. 0 means 5 seconds.
	Timeout time.Duration
	// Retries is how often a request that failed for a reason that may pass is sent again, after a pause that grows from
	// 100 ms. 0 means 3, negative means never.
	Retries int
	// Transport sends the requests. Nil means a transport of the backend's own.
	Transport http.RoundTripper
}

// HTTP is a registry that is reached over Confluent's REST API. It is srclient, with what that lacks: contexts, retries,
// several addresses, and typed errors. It caches nothing; a [Client] does.
type HTTP struct {
	urls   []string
	config HTTPConfig
}

var _ Admin = (*HTTP)(nil)

// maxAnswer bounds an answer of a registry, in bytes: the largest schema there may be, and its surroundings.
const maxAnswer = 32 << 20

// NewHTTP returns the registry at one or several addresses, separated by commas, which are tried in turn. It does not
// connect yet. The error says which address is not one.
func NewHTTP(addresses string, c HTTPConfig) (*HTTP, error) {
	if c.Timeout == 0 {
		c.Timeout = 5 * time.Second
	}
	if c.Retries == 0 {
		c.Retries = 3
	}
	if c.Transport == nil {
		t, ok := http.DefaultTransport.(*http.Transport)
		if ok {
			t = t.Clone()
			t.MaxIdleConnsPerHost = 8
			c.Transport = t
		} else {
			c.Transport = http.DefaultTransport
		}
	}
	h := &HTTP{config: c}
	for a := range strings.SplitSeq(addresses, ",") {
		a = strings.TrimRight(strings.TrimSpace(a), "/")
		u, err := url.Parse(a)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
			return nil, fmt.Errorf("registry: %q is not the address of a schema registry: want one like http://localhost:8081", a)
		}
		h.urls = append(h.urls, a)
	}
	return h, nil
}

// Close gives up the backend's idle connections. It may be used after that, and opens new ones.
func (h *HTTP) Close() {
	if t, ok := h.config.Transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// exchange is one call of srclient's. srclient knows no context, hides the status of what failed, and shares its state
// between calls; so each call gets a client of its own whose requests pass through here.
type exchange struct {
	ctx    context.Context
	base   http.RoundTripper
	status int
	body   []byte // of an answer that is no success
}

// RoundTrip implements [http.RoundTripper].
func (x *exchange) RoundTrip(r *http.Request) (*http.Response, error) {
	x.status, x.body = 0, nil
	resp, err := x.base.RoundTrip(r.WithContext(x.ctx))
	if err != nil {
		return nil, err
	}
	x.status = resp.StatusCode
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.LimitReader(resp.Body, maxAnswer), resp.Body}
	if resp.StatusCode > 299 {
		x.body, err = io.ReadAll(io.LimitReader(resp.Body, 1<<20))
		if closeErr := resp.Body.Close(); err == nil {
			err = closeErr
		}
		resp.Body = io.NopCloser(bytes.NewReader(x.body))
	}
	return resp, err
}

// ask calls f with a client for one address after the other until one answers, and retries what may pass.
func ask[T any](ctx context.Context, h *HTTP, what string, f func(*srclient.SchemaRegistryClient) (T, error)) (T, error) {
	var zero T
	var last error
	for attempt := range max(0, h.config.Retries) + 1 {
		if attempt > 0 {
			if err := pause(ctx, attempt); err != nil {
				return zero, fmt.Errorf("registry: %s: %w", what, err)
			}
		}
		for _, address := range h.urls {
			v, err := once(ctx, h, address, f)
			if err == nil {
				return v, nil
			}
			if ctx.Err() != nil {
				return zero, fmt.Errorf("registry: %s at %s: %w", what, address, errors.Join(context.Cause(ctx), errorAsUnavailable(err)))
			}
			last = fmt.Errorf("registry: %s at %s: %w", what, address, err)
			if !errors.Is(err, ErrRegistryUnavailable) {
				return zero, last
			}
		}
	}
	return zero, last
}

// errorAsUnavailable keeps err's text and makes it an ErrRegistryUnavailable: a call that ran out of time says nothing
// about the record that it was for.
func errorAsUnavailable(err error) error {
	if errors.Is(err, ErrRegistryUnavailable) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrRegistryUnavailable, err)
}

// pause waits a random part of a time that doubles with each attempt, at most two seconds.
func pause(ctx context.Context, attempt int) error {
	most := min(100*time.Millisecond<<attempt, 2*time.Second)
	timer := time.NewTimer(most/4 + rand.N(most*3/4))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return errorAsUnavailable(context.Cause(ctx))
	}
}

func once[T any](ctx context.Context, h *HTTP, address string, f func(*srclient.SchemaRegistryClient) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, h.config.Timeout)
	defer cancel()
	x := &exchange{ctx: ctx, base: h.config.Transport}
	c := srclient.NewSchemaRegistryClient(address, srclient.WithClient(&http.Client{Transport: x}))
	c.CachingEnabled(false)
	c.CodecCreationEnabled(false)
	if h.config.Username != "" {
		c.SetCredentials(h.config.Username, h.config.Password)
	} else {
		c.SetBearerToken(h.config.BearerToken)
	}
	v, err := f(c)
	if err == nil {
		return v, nil
	}
	return v, x.explain(err)
}

// explain turns an error of srclient's into one of this package.
func (x *exchange) explain(err error) error {
	if typed, ok := errors.AsType[*Error](err); ok {
		return typed
	}
	if x.status == 0 || x.status <= 299 { // no answer, or one that is not a registry's
		return errorAsUnavailable(err)
	}
	e := &Error{Status: x.status, Code: x.status, Message: strings.TrimSpace(string(x.body))}
	var said srclient.Error
	if errors.As(err, &said) && said.Code != 0 {
		e.Code, e.Message = said.Code, said.Message
	}
	if len(e.Message) > 4096 {
		e.Message = e.Message[:4096] + "…"
	}
	return e
}

func toReferences(refs []Reference) []srclient.Reference {
	list := make([]srclient.Reference, len(refs))
	for i, r := range refs {
		list[i] = srclient.Reference(r)
	}
	return list
}

func fromSchema(subject string, s *srclient.Schema) Schema {
	out := Schema{Subject: subject, Version: s.Version(), ID: s.ID(), Definition: Definition{Text: s.Schema()}}
	if t := s.SchemaType(); t != nil && t.String() != TypeAvro {
		out.Type = t.String()
	}
	for _, r := range s.References() {
		out.References = append(out.References, Reference(r))
	}
	return out
}

// Register implements [Backend]. The version of what it returns is 0.
func (h *HTTP) Register(ctx context.Context, subject string, d Definition) (Schema, error) {
	return h.post(ctx, "register a schema of subject "+subject, subject, "/versions", d, (*srclient.SchemaRegistryClient).CreateSchema)
}

// Lookup implements [Backend].
func (h *HTTP) Lookup(ctx context.Context, subject string, d Definition) (Schema, error) {
	return h.post(ctx, "look up a schema of subject "+subject, subject, "", d, (*srclient.SchemaRegistryClient).LookupSchema)
}

// post sends a definition by call, or, where srclient cannot send all of it, to the path below the subject's.
func (h *HTTP) post(ctx context.Context, what, subject, path string, d Definition, call func(*srclient.SchemaRegistryClient, string, string, srclient.SchemaType, ...srclient.Reference) (*srclient.Schema, error)) (Schema, error) {
	if d.Metadata != nil || d.RuleSet != nil {
		s, err := ask(ctx, h, what, func(c *srclient.SchemaRegistryClient) (schemaJSON, error) {
			var s schemaJSON
			address := c.GetSchemaRegistryURL() + "/subjects/" + url.PathEscape(subject) + path
			err := h.send(ctx, http.MethodPost, address, definitionJSON(d), &s)
			return s, err
		})
		if err != nil {
			return Schema{}, incompatible(subject, err)
		}
		return Schema{Definition: d, Subject: subject, ID: s.ID, Version: s.Version, GUID: s.GUID}, nil
	}
	s, err := ask(ctx, h, what, func(c *srclient.SchemaRegistryClient) (*srclient.Schema, error) {
		return call(c, subject, d.Text, srclient.SchemaType(d.typeName()), toReferences(d.References)...)
	})
	if err != nil {
		return Schema{}, incompatible(subject, err)
	}
	return fromSchema(subject, s), nil
}

// incompatible makes an [*IncompatibleError] of the answer that says so.
func incompatible(subject string, err error) error {
	var e *Error
	if !errors.As(err, &e) || e.Status != http.StatusConflict {
		return err
	}
	out := &IncompatibleError{Subject: subject}
	text := e.Message
	if before, fix, ok := strings.Cut(text, "]. Fix: "); ok {
		text, out.Fix = before+"]", fix
	}
	if _, details, ok := strings.Cut(text, "details: ["); ok {
		text = strings.TrimSuffix(details, "]")
	}
	out.Messages = []string{text}
	return out
}

// SchemaByID implements [Backend].
func (h *HTTP) SchemaByID(ctx context.Context, id int) (Definition, error) {
	s, err := ask(ctx, h, fmt.Sprintf("get schema %d", id), func(c *srclient.SchemaRegistryClient) (*srclient.Schema, error) {
		return c.GetSchema(id)
	})
	if err != nil {
		return Definition{}, err
	}
	return fromSchema("", s).Definition, nil
}

// SchemaByVersion implements [Backend].
func (h *HTTP) SchemaByVersion(ctx context.Context, subject string, version int) (Schema, error) {
	s, err := ask(ctx, h, fmt.Sprintf("get version %d of subject %s", version, subject), func(c *srclient.SchemaRegistryClient) (*srclient.Schema, error) {
		if version == Latest {
			return c.GetLatestSchema(subject)
		}
		return c.GetSchemaByVersion(subject, version)
	})
	if err != nil {
		return Schema{}, err
	}
	return fromSchema(subject, s), nil
}
