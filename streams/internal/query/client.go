package query

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Client asks instances by their URLs. It may be used from any goroutine.
type Client struct {
	app       string
	token     string
	http      http.Client
	transport *http.Transport
}

const (
	dialTime  = 5 * time.Second
	stallTime = 30 * time.Second // without a row
	maxLine   = 64 << 20         // bytes of a row
	maxAnswer = 16 << 20         // bytes of any other answer
)

// NewClient returns a client that takes answers of the application's instances only. config may be nil.
func NewClient(app, token string, config *tls.Config) *Client {
	tr := &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: 16, IdleConnTimeout: 30 * time.Second,
		TLSHandshakeTimeout: dialTime, ForceAttemptHTTP2: config != nil}
	return &Client{app: app, token: token, http: http.Client{Transport: tr}, transport: tr}
}

// Close gives back its connections.
func (c *Client) Close() { c.transport.CloseIdleConnections() }

func (c *Client) send(ctx context.Context, method, to string, body any) (*http.Response, error) {
	var buf io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		buf = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, to, buf)
	if err != nil {
		return nil, err
	}
	req.Header.Set(AppHeader, url.QueryEscape(c.app))
	if c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	if deadline, ok := ctx.Deadline(); ok {
		req.Header.Set(TimeoutHeader, strconv.FormatInt(max(1, time.Until(deadline).Milliseconds()), 10))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		return nil, fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		return nil, failed(to, resp)
	}
	return resp, nil
}

// failed is the error of an answer with another status than 200.
func failed(url string, resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var l line
	if json.Unmarshal(b, &l) == nil && l.Error != nil {
		return fmt.Errorf("%s: %w", url, l.Error)
	}
	return fmt.Errorf("%s: %s: %.200s", url, resp.Status, strings.TrimSpace(string(b)))
}

// Instance asks an instance what it is and has.
func (c *Client) Instance(ctx context.Context, url string, counts bool) (i Instance, err error) {
	url += "/v1/instance"
	if counts {
		url += "?counts"
	}
	resp, err := c.send(ctx, http.MethodGet, url, nil)
	if err != nil {
		return i, err
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&i); err != nil {
		return i, fmt.Errorf("%w: the answer of %s cannot be read: %w", ErrUnavailable, url, err)
	}
	return i, nil
}

// Topology asks an instance for the picture of its topology.
func (c *Client) Topology(ctx context.Context, url, as string) (string, error) {
	resp, err := c.send(ctx, http.MethodGet, url+"/v1/topology?as="+as, nil)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	return string(b), err
}

// SetPaused pauses an instance, or resumes it.
func (c *Client) SetPaused(ctx context.Context, url string, paused bool) error {
	verb := "/v1/resume"
	if paused {
		verb = "/v1/pause"
	}
	resp, err := c.send(ctx, http.MethodPost, url+verb, nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// Count is the answer to a request for Count.
func (c *Client) Count(ctx context.Context, url string, r *Request) (n int64, err error) {
	err = c.read(ctx, url, r, nil, &n)
	return n, err
}

// Rows yields the rows of an answer. An error comes last.
func (c *Client) Rows(ctx context.Context, url string, r *Request) iter.Seq2[Row, error] {
	return func(yield func(Row, error) bool) {
		more := true
		err := c.read(ctx, url, r, func(row Row) bool {
			more = yield(row, nil)
			return more
		}, nil)
		if err != nil && more {
			yield(Row{}, err)
		}
	}
}

func (c *Client) read(ctx context.Context, url string, r *Request, yield func(Row) bool, count *int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := c.send(ctx, http.MethodPost, url+"/v1/query", r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	stall := time.AfterFunc(stallTime, func() { cancel(fmt.Errorf("%w: %s sent no row for %s", ErrUnavailable, url, stallTime)) })
	defer stall.Stop()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(make([]byte, 0, 32<<10), maxLine)
	for lines.Scan() {
		stall.Reset(stallTime)
		l := line{Row: new(Row)}
		if err := json.Unmarshal(lines.Bytes(), &l); err != nil {
			return fmt.Errorf("the answer of %s cannot be read: %w", url, err)
		}
		switch {
		case l.Error != nil:
			return fmt.Errorf("%s: %w", url, l.Error)
		case l.Done:
			if count != nil {
				*count = l.Count
			}
			return nil
		case yield != nil && !yield(*l.Row):
			return nil
		}
	}
	switch err := lines.Err(); {
	case context.Cause(ctx) != nil:
		return context.Cause(ctx)
	case errors.Is(err, bufio.ErrTooLong):
		return fmt.Errorf("a row of %s is larger than %d bytes", url, maxLine)
	default: // it ended too early
		return fmt.Errorf("%w: %s ended in the middle of its answer: %w", ErrUnavailable, url, errors.Join(err, io.ErrUnexpectedEOF))
	}
}
