package broker

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/leatstream/leat/broker/internal/pipe"
)

// FuzzUnprovenConnections sends arbitrary bytes from a client that must authenticate and cannot: nothing panics, nothing changes, the memory
// taken is bounded, and no answer tells what is stored.
func FuzzUnprovenConnections(f *testing.F) {
	const secret = "nobody-may-see-this-topic"
	crashes := &crashLog{}
	b, err := Start(context.Background(), Config{
		Dir: f.TempDir(), Flush: FlushOS, Logger: slog.New(slog.NewTextHandler(crashes, nil)),
		Security: Security{Users: map[string]Secret{"user": "password of forty letters, which nobody guesses"}},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { b.Close() })
	createTopic(f, b, secret, 1)
	frame := func(req kmsg.Request, version int16) []byte {
		req.SetVersion(version)
		return kmsg.NewRequestFormatter(kmsg.FormatterClientID("f")).AppendRequest(nil, req, 1)
	}
	for _, row := range b.routes {
		if row != nil {
			f.Add(frame(kmsg.RequestForKey(row.key), row.max))
		}
	}
	all := frame(kmsg.NewPtrMetadataRequest(), 9)
	for _, mechanism := range []string{"PLAIN", "SCRAM-SHA-256"} {
		for version := range int16(2) {
			hand := kmsg.NewPtrSASLHandshakeRequest()
			hand.Mechanism = mechanism
			token := kmsg.NewPtrSASLAuthenticateRequest()
			token.SASLAuthBytes = []byte("\x00user\x00wrong")
			f.Add(append(frame(hand, version), all...))
			f.Add(append(frame(hand, version), frame(token, 2)...))
			f.Add(append(frame(hand, version), "\x00\x00\x00\x1bn,,n=user,r=AAAAAAAAAAAAAAAA"...))
		}
	}
	f.Add([]byte("\x7f\xff\xff\xff\x00\x12\x00\x03"))
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	topics := len(b.topics.Load().byName)
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 128<<10 {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		answers := unproven(t, b, append(data, all...))
		runtime.ReadMemStats(&after)
		if took := after.TotalAlloc - before.TotalAlloc; took > uint64(decodedWeight*len(data))+8<<20 {
			t.Errorf("%d bytes took %d bytes of memory", len(data), took)
		}
		if bytes.Contains(answers, []byte(secret)) {
			t.Errorf("an answer tells of a topic: %q", answers)
		}
		if n := len(b.topics.Load().byName); n != topics {
			t.Errorf("there are %d topics, not %d", n, topics)
		}
		if text := crashes.String(); strings.Contains(text, "panic") {
			t.Fatal(text)
		}
	})
}

// unproven sends data over a connection of a listener with SASL, and returns what comes back.
func unproven(t *testing.T, b *Broker, data []byte) []byte {
	client, server := pipe.New(pipe.Addr("client"), pipe.Addr("broker"))
	defer client.Close()
	if !b.serve(server, &Listener{SASL: []string{"PLAIN", "SCRAM-SHA-256"}}) {
		t.Fatal("not served")
	}
	if err := client.SetDeadline(time.Now().Add(50 * time.Millisecond)); err != nil { // where the broker waits for the rest of a frame
		t.Fatal(err)
	}
	go func() { _, _ = client.Write(data) }() // ends with the deadline
	answers, _ := io.ReadAll(client)
	return answers
}
