package cli

import (
	"context"
	"io"
)

// interruptible is a reader whose Read ends when ctx does, although that of a terminal or a pipe does not. The read that was under
// way then ends with the process, or with its input: nobody can wait for it.
type interruptible struct {
	ctx context.Context
	in  io.Reader
	buf [64 << 10]byte // the goroutine's while it reads: the caller's own may be gone by then
}

// Read implements io.Reader.
func (r *interruptible) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	type result struct {
		n   int
		err error
	}
	done := make(chan result, 1)
	buf := r.buf[:min(len(p), len(r.buf))]
	go func() {
		n, err := r.in.Read(buf)
		done <- result{n, err}
	}()
	select {
	case res := <-done:
		return copy(p, buf[:res.n]), res.err
	case <-r.ctx.Done():
		return 0, r.ctx.Err()
	}
}
