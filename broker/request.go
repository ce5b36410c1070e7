package broker

import (
	"context"
	"iter"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// request is one decoded frame. It belongs to the goroutine that serves it; nothing in it may be kept after the answer is known,
// except where a handler copies.
type request struct {
	// ctx ends when the connection or the broker closes.
	ctx context.Context
	// key, version and correlation are the header's; version is already checked against the routing table.
	key         int16
	version     int16
	correlation int32
	// flexible says that header and body carry tagged fields.
	flexible bool
	// clientID is what the client calls itself; empty if it did not say.
	clientID string
	// body is the decoded request, nil for routes that decode raw themselves. Its Version is set. Protocol defaults of fields
	// that old versions lack are already applied (see applyOldDefaults).
	body kmsg.Request
	// raw is the frame after the header. For raw rows it aliases a pooled buffer that is recycled when the handler returns.
	raw []byte
	// received is when the frame was complete.
	received time.Time
}

// handler serves one request, on the connection's reading goroutine, while the frame counts towards the broker's limit of bytes in
// flight: it must not wait for other clients or for data; what has to returns later(...). A handler that returns an error closes the connection
// without an answer: errors the client should see go into the response.
type handler func(b *Broker, c *conn, r *request) (response, error)

// response is what a handler hands back: answer, later or noAnswer.
type response interface {
	// await blocks until the answer is known. It is called once, on the connection's reading goroutine, which serves nothing else
	// meanwhile; only produce responses that wait for the disk are awaited, in order, by its writer. An error closes the
	// connection.
	await(ctx context.Context) (reply, error)
}

// reply is an encodable answer, see encode.go.
type reply interface {
	// appendTo appends the response header and body to the frame under construction.
	appendTo(f *outFrame)
}

// answer is a response that is known at once. The conn sets the version of resp from the request's.
func answer(resp kmsg.Response) response { return ready{resp} }

type ready struct{ resp kmsg.Response }

func (r ready) await(context.Context) (reply, error) { return kmsgReply{r.resp}, nil }

// later is a response that is not known yet: f is called once, on the connection's reading goroutine, after the handler has
// returned and its frame no longer counts, and may block until the answer is known or ctx ends (the connection or the broker
// closed; then any error is right). The connection's next request is read after that.
func later(f func(ctx context.Context) (kmsg.Response, error)) response { return parked(f) }

type parked func(ctx context.Context) (kmsg.Response, error)

func (p parked) await(ctx context.Context) (reply, error) {
	resp, err := p(ctx)
	if err != nil {
		return nil, err
	}
	return kmsgReply{resp}, nil
}

// noAnswer is for requests that get no response at all (produce with acks=0).
var noAnswer response = silent{}

type silent struct{}

func (silent) await(context.Context) (reply, error) { return nil, nil }

type kmsgReply struct{ resp kmsg.Response }

func (k kmsgReply) appendTo(f *outFrame) {
	k.resp.SetVersion(f.version)
	if t, ok := k.resp.(kmsg.SetThrottleResponse); ok && f.throttle > 0 {
		t.SetThrottle(f.throttle)
	}
	f.buf = k.resp.AppendTo(f.buf)
}

// eachOnce yields the first entry of each key, with INVALID_REQUEST where the key comes again: what is asked for twice, perhaps in two
// ways, is not done.
func eachOnce[T any, K comparable](entries []T, key func(*T) K) iter.Seq2[*T, error] {
	return func(yield func(*T, error) bool) {
		left := map[K]int{}
		for i := range entries {
			left[key(&entries[i])]++
		}
		for i := range entries {
			k := key(&entries[i])
			n := left[k]
			delete(left, k)
			var err error
			if n > 1 {
				err = refuse(kerr.InvalidRequest, "it is in the request %d times", n)
			}
			if n > 0 && !yield(&entries[i], err) {
				return
			}
		}
	}
}
