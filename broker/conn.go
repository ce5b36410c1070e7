package broker

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime/debug"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/quota"
	"github.com/leatstream/leat/broker/internal/wire"
)

const (
	// frameTimeout is what a client has to send a frame it has begun, or to take a response, beside one second per slowestRate.
	frameTimeout = 30 * time.Second
	slowestRate  = 256 << 10
	// decodedWeight is how many bytes of memory a decoded request may take per byte of its frame, at worst: an array count is
	// bounded by the bytes left, and elements of one byte on the wire are structures of up to this many bytes in memory.
	decodedWeight = 128
	// smallFrame is the largest frame that does not count towards Config.MaxInFlightBytes, and so does not wait for large ones: heartbeats
	// come through whatever others send. Config.MaxConnections bounds them.
	smallFrame = 64 << 10
	// pipelined is how many produce requests of one connection may wait for the disk at once.
	pipelined = 64
)

// conn is one client connection. One goroutine reads, serves and answers: one request at a time, as Kafka does. Only produce
// requests that wait for the disk are handed to a second goroutine, the writer, which is started when the first one comes: it
// awaits and writes them in order while the reader goes on appending the next ones. Any other request is served after the writer
// has caught up, so there is never more than one goroutine that writes.
type conn struct {
	b      *Broker
	nc     net.Conn
	in     *bufio.Reader
	ctx    context.Context
	cancel context.CancelFunc

	queue   chan queued    // to the writer; nil until it runs
	unsent  sync.WaitGroup // responses in the queue or being written
	writer  sync.WaitGroup // the writer itself
	saidAPI bool           // the client's software name has been logged

	muted     time.Time // until when the client's quota keeps the connection unread; the reader's
	who       identity
	advertise string // the address that the listener's configuration gives, "" if none
}

type queued struct {
	resp     response
	out      *outFrame
	clientID string
}

// errClosing ends a connection without a word in the log.
var errClosing = errors.New("broker: connection closing")

// newConn makes the connection of a client that came to l, nil for the process itself.
func newConn(b *Broker, nc net.Conn, l *Listener) *conn {
	ctx, cancel := context.WithCancel(b.ctx)
	c := &conn{b: b, ctx: ctx, cancel: cancel, who: newIdentity(b, nc, l), advertise: b.cfg.Advertise}
	if l != nil {
		c.advertise = l.Advertise
	}
	c.nc = encrypt(nc, l)
	c.in = bufio.NewReaderSize(c.nc, 16<<10)
	return c
}

// run serves the connection until it ends; every goroutine of the connection is gone when it returns.
func (c *conn) run() {
	under := c.nc
	if tc, ok := under.(*tls.Conn); ok {
		under = tc.NetConn() // closing the upper one may wait for the client
	}
	stop := context.AfterFunc(c.ctx, func() { under.Close() })
	c.logEnd(c.serve())
	stop()
	c.cancel()
	c.nc.Close()
	if c.queue != nil {
		close(c.queue)
		c.writer.Wait()
	}
}

// logEnd logs why the connection ends.
func (c *conn) logEnd(err error) {
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.Is(err, net.ErrClosed), errors.Is(err, io.ErrClosedPipe), errors.Is(err, errClosing), c.b.ctx.Err() != nil:
	case misled(err) && c.b.mayComplain(time.Now()):
		c.b.logger.Warn("connection closed", "client", c.nc.RemoteAddr().String(), "reason", err)
	default:
		c.b.logger.Debug("connection closed", "client", c.nc.RemoteAddr().String(), "reason", err)
	}
}

// misled reports whether a connection ended because of what its client sent, and not because of the network: most of these are set
// up wrongly, and their users look into the broker's log for the reason.
func misled(err error) bool {
	if _, ok := errors.AsType[tls.AlertError](err); ok {
		return true
	}
	_, network := errors.AsType[net.Error](err)
	return !network && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, context.Canceled)
}

func (c *conn) serve() (err error) {
	// The last line of defence, not the first: decoders check what they read. A panic here is a defect that must not take the
	// other clients down with it.
	defer func() {
		if p := recover(); p != nil {
			c.b.logger.Error("request crashed its connection", "client", c.nc.RemoteAddr().String(), "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	if err := c.shakeHands(c.ctx); err != nil {
		return err
	}
	for {
		next := c.next
		if c.who.bare {
			next = c.nextToken
		}
		if err := next(); err != nil {
			return err
		}
	}
}

// next reads, serves and answers one request.
func (c *conn) next() error {
	if err := c.rest(); err != nil {
		return err
	}
	size, key, err := c.readPrefix()
	if err != nil {
		return err
	}
	row := c.b.routes.find(key)
	if row == nil {
		return fmt.Errorf("request of unknown API %d: is this a Kafka client?", key)
	}
	if err := c.who.admit(key, size, time.Now()); err != nil {
		return err
	}
	limit := c.b.cfg.MaxRequestBytes
	if key != keyProduce {
		limit = c.b.cfg.MaxControlRequestBytes
	}
	if size > limit {
		return fmt.Errorf("request of API %d claims %d bytes, more than the limit of %d", key, size, limit)
	}
	r, resp, err := c.serveFrame(row, int(size))
	if err != nil || resp == noAnswer {
		return err
	}
	if err := c.respond(r, resp); err != nil {
		return err
	}
	if c.who.ending {
		return errClosing
	}
	return nil
}

// serveFrame reads a frame and has it served. What it takes counts towards the broker's limits until the handler returns: a
// response that waits, for the disk or for other clients, keeps nobody from sending what it waits for. What a frame may become when it
// is decoded counts by itself, and only when the frame is there: else a few clients who announce large ones and send nothing would
// hold everybody up.
func (c *conn) serveFrame(row *route, size int) (*request, response, error) {
	if size > smallFrame {
		bytes := min(int64(size), c.b.cfg.MaxInFlightBytes)
		if err := c.b.requestBytes.Acquire(c.ctx, bytes); err != nil {
			return nil, nil, errClosing
		}
		defer c.b.requestBytes.Release(bytes)
	}
	frame, err := c.readFrame(size, row.raw)
	if err != nil {
		return nil, nil, err
	}
	if row.key != keyProduce { // nearly all of a produce request are records, which stay what they are
		decoded := min(int64(size)*decodedWeight, c.b.cfg.MaxInFlightBytes)
		if err := c.b.decodedBytes.Acquire(c.ctx, decoded); err != nil {
			return nil, nil, errClosing
		}
		defer c.b.decodedBytes.Release(decoded)
	}
	if row.raw { // handlers of other rows may keep slices of the frame for as long as they like
		defer c.b.pool.put(frame)
	}
	r, err := decodeRequest(c.ctx, row, frame.b)
	if err != nil {
		return nil, nil, err
	}
	if r.key != keyProduce {
		c.unsent.Wait() // earlier produce requests are answered first; they read the same state
	}
	began := time.Now()
	resp, err := c.b.serveGuarded(c, row, r)
	c.served(r, size, time.Since(began))
	r.raw = nil
	return r, resp, err
}

// readPrefix waits for the next request and peeks at its size and API key.
func (c *conn) readPrefix() (size int64, key int16, err error) {
	if err := c.nc.SetReadDeadline(c.until(time.Now().Add(c.b.cfg.IdleTimeout))); err != nil {
		return 0, 0, err
	}
	p, err := c.in.Peek(sizePrefixBytes)
	if err != nil {
		return 0, 0, err
	}
	size = int64(int32(binary.BigEndian.Uint32(p)))
	if p[0] == 0x16 && p[1] == 3 && size > c.b.cfg.MaxRequestBytes { // a handshake record
		return 0, 0, errors.New("the client speaks TLS, this listener does not: set security.protocol, or give the broker a certificate")
	}
	if size < 8 {
		return 0, 0, fmt.Errorf("frame of %d bytes is too short for a request header: is this a Kafka client?", size)
	}
	if p, err = c.in.Peek(sizePrefixBytes + 2); err != nil {
		return 0, 0, err
	}
	_, _ = c.in.Discard(sizePrefixBytes)
	return size, int16(binary.BigEndian.Uint16(p[4:])), nil
}

// until is the deadline of a read: t, or when the client has to be authenticated, if that is sooner.
func (c *conn) until(t time.Time) time.Time {
	if by := c.who.by; !by.IsZero() && by.Before(t) {
		return by
	}
	return t
}

// trustedBytes is how much of a frame is allocated on the client's word; beyond it the buffer grows as the bytes arrive.
const trustedBytes = 8 << 20

func (c *conn) readFrame(size int, pooled bool) (*buffer, error) {
	if c.in.Buffered() < size {
		allowed := frameTimeout + time.Duration(size/slowestRate)*time.Second
		if err := c.nc.SetReadDeadline(c.until(time.Now().Add(allowed))); err != nil {
			return nil, err
		}
	}
	if !pooled {
		frame := &buffer{make([]byte, size)}
		_, err := io.ReadFull(c.in, frame.b)
		return frame, err
	}
	frame := c.b.pool.get(min(size, trustedBytes))
	if _, err := io.ReadFull(c.in, frame.b); err != nil {
		c.b.pool.put(frame)
		return nil, err
	}
	for have := len(frame.b); have < size; have = len(frame.b) {
		bigger := c.b.pool.get(min(size, 2*have))
		copy(bigger.b, frame.b)
		c.b.pool.put(frame)
		frame = bigger
		if _, err := io.ReadFull(c.in, frame.b[have:]); err != nil {
			c.b.pool.put(frame)
			return nil, err
		}
	}
	return frame, nil
}

// respond answers a request, or has the writer do it.
func (c *conn) respond(r *request, resp response) error {
	out := newOutFrame(&c.b.pool, r.version, r.correlation, r.flexible && r.key != keyAPIVersions)
	out.throttle = c.throttle()
	if p, ok := resp.(pipelinable); ok && (!p.settled() || c.queue != nil) {
		return c.enqueue(queued{resp, out, r.clientID})
	}
	c.unsent.Wait()
	return c.send(queued{resp, out, r.clientID})
}

// pipelinable responses may wait while the connection's next produce requests are appended.
type pipelinable interface {
	response
	// settled reports that await would not block.
	settled() bool
}

// enqueue hands a response to the writer.
func (c *conn) enqueue(q queued) error {
	if c.queue == nil {
		c.queue = make(chan queued, pipelined)
		c.writer.Go(c.write)
	}
	c.unsent.Add(1)
	select {
	case c.queue <- q:
		return nil
	case <-c.ctx.Done():
		c.unsent.Done()
		q.out.release()
		return errClosing
	}
}

// write is the writer goroutine. After a failure it goes on taking responses off the queue, so that nobody waits for it in vain.
func (c *conn) write() {
	failed := false
	for q := range c.queue {
		if failed {
			q.out.release()
		} else if err := c.send(q); err != nil {
			failed = true
			c.cancel() // closes the socket, which ends the reader
		}
		c.unsent.Done()
	}
}

// send awaits one response and writes it.
func (c *conn) send(q queued) error {
	defer q.out.release()
	rep, err := q.resp.await(c.ctx)
	if err != nil {
		return err
	}
	if rep == nil {
		return nil
	}
	if f, ok := rep.(*fetchResponse); ok { // sent by the reader, as all but produce responses
		c.use(quota.ConsumeRate, q.clientID, float64(f.recordBytes()))
		q.out.throttle = c.throttle()
	}
	rep.appendTo(q.out)
	if q.out.budget > 0 {
		defer c.b.responseBytes.Release(q.out.budget)
	}
	allowed := frameTimeout + time.Duration(q.out.size()/slowestRate)*time.Second
	if err := c.nc.SetWriteDeadline(time.Now().Add(allowed)); err != nil {
		return err
	}
	c.b.metrics.response(q.out.size())
	return q.out.writeTo(c.nc)
}

// decodeRequest reads the header and, unless the row is raw, the body.
func decodeRequest(ctx context.Context, row *route, frame []byte) (*request, error) {
	rd := wire.NewReader(frame)
	r := &request{ctx: ctx, key: rd.Int16(), version: rd.Int16(), correlation: rd.Int32(), received: time.Now()}
	known := r.version >= row.acceptMin && r.version <= row.max
	if !known && r.key != keyAPIVersions {
		return nil, fmt.Errorf("API %d version %d is not served (%d to %d are)", r.key, r.version, row.acceptMin, row.max)
	}
	client, _ := rd.String(false)
	r.clientID = string(client)
	if !known { // ApiVersions of a newer client: its body may be of any shape, and the answer tells it what we speak
		return r, rd.Err()
	}
	if row.raw {
		r.flexible = r.version >= row.flexible
	} else {
		r.body = kmsg.RequestForKey(r.key)
		r.body.SetVersion(r.version)
		r.flexible = r.body.IsFlexible()
	}
	if r.flexible {
		rd.SkipTags()
	}
	if rd.Err() != nil {
		return nil, fmt.Errorf("header of API %d: %w", r.key, rd.Err())
	}
	r.raw = rd.Rest()
	if r.body == nil {
		return r, nil
	}
	if r.flexible {
		if row.schema == nil {
			return nil, fmt.Errorf("API %d version %d has no schema", r.key, r.version)
		}
		if err := row.schema.Check(r.raw, r.version); err != nil {
			return nil, fmt.Errorf("body of API %d version %d: %w", r.key, r.version, err)
		}
	}
	if err := r.body.ReadFrom(r.raw); err != nil {
		return nil, fmt.Errorf("body of API %d version %d: %w", r.key, r.version, err)
	}
	applyOldDefaults(r.body)
	return r, nil
}

// advertised is the address this connection's client is to use: the configured one, else the one it is connected to.
func (c *conn) advertised() (host string, port int32) {
	addr := c.advertise
	if addr == "" {
		addr = c.nc.LocalAddr().String()
	}
	host, portText, err := net.SplitHostPort(addr)
	if err != nil {
		return addr, 0
	}
	n, _ := strconv.ParseUint(portText, 10, 16)
	return host, int32(n)
}
