package pipe

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func pair(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	a, b := New(Addr("client"), Addr("broker"))
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestBytesArriveInOrderWhateverTheChunks(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	a, b := pair(t)
	want := make([]byte, 3<<20)
	for i := range want {
		want[i] = byte(r.Uint32())
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+int(rand.N(400_000)))
			if m, err := a.Write(rest[:n]); err != nil || m != n {
				t.Errorf("write: %d of %d, %v", m, n, err)
			}
			rest = rest[n:]
		}
		a.Close()
	})
	var got []byte
	for {
		p := make([]byte, 1+r.IntN(200_000))
		n, err := b.Read(p)
		got = append(got, p[:n]...)
		if err != nil {
			if err != io.EOF {
				t.Fatal(err)
			}
			break
		}
	}
	wg.Wait()
	if !bytes.Equal(got, want) {
		t.Fatalf("seed %d: %d bytes of %d arrived, or differ", seed, len(got), len(want))
	}
}

func TestWriterBlocksWhenTheReaderIsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := New(Addr("a"), Addr("b"))
		done := false
		go func() { a.Write(make([]byte, 2*bufferBytes)); done = true }()
		synctest.Wait()
		if done {
			t.Fatal("the writer did not wait for the reader")
		}
		if n, err := io.ReadFull(b, make([]byte, 2*bufferBytes)); err != nil {
			t.Fatal(n, err)
		}
		synctest.Wait()
		if !done {
			t.Fatal("the writer still waits")
		}
	})
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := New(Addr("a"), Addr("b"))
		start := time.Now()
		a.SetReadDeadline(start.Add(time.Second))
		if _, err := a.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Second {
			t.Fatalf("read: %v after %v", err, time.Since(start))
		}
		a.SetWriteDeadline(start.Add(3 * time.Second))
		n, err := a.Write(make([]byte, bufferBytes+1))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n != bufferBytes || time.Since(start) != 3*time.Second {
			t.Fatalf("write: %d, %v after %v", n, err, time.Since(start))
		}
		var netErr net.Error
		if !errors.As(err, &netErr) || !netErr.Timeout() {
			t.Fatalf("%v is no net.Error that timed out", err)
		}
		// A new deadline revives both directions.
		a.SetDeadline(time.Time{})
		go b.Write([]byte("x"))
		if n, err := a.Read(make([]byte, 2)); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		a.Close()
		b.Close()
	})
}

func TestCloseWakesBothEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := New(Addr("a"), Addr("b"))
		errs := make(chan error, 2)
		go func() { _, err := a.Read(make([]byte, 1)); errs <- err }()
		go func() { _, err := b.Read(make([]byte, 1)); errs <- err }()
		synctest.Wait()
		b.Close()
		got := []error{<-errs, <-errs}
		if !(got[0] == io.EOF && got[1] == io.ErrClosedPipe) && !(got[1] == io.EOF && got[0] == io.ErrClosedPipe) {
			t.Fatalf("got %v, want EOF for the peer and ErrClosedPipe for the closed end", got)
		}
		if _, err := a.Write([]byte("x")); err != io.ErrClosedPipe {
			t.Fatalf("write to a closed peer: %v", err)
		}
		a.Close()
	})
}

func BenchmarkPingPong64(b *testing.B) {
	x, y := New(Addr("x"), Addr("y"))
	go io.Copy(y, y)
	p := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		x.Write(p)
		io.ReadFull(x, p)
	}
	x.Close()
	y.Close()
}

func BenchmarkStream1MiB(b *testing.B) {
	x, y := New(Addr("x"), Addr("y"))
	done := make(chan struct{})
	go func() {
		io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{y}, make([]byte, 1<<20))
		close(done)
	}()
	p := make([]byte, 1<<20)
	b.SetBytes(1 << 20)
	for b.Loop() {
		x.Write(p)
	}
	x.Close()
	<-done
	y.Close()
}
