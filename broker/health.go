package broker

import (
	"errors"
	"fmt"
	"net/http"
)

// Ready reports why the broker cannot do its work, nil if it can: it is closing (ErrClosed), or the disk failed under one of its
// internal topics, without which no topic is made, no offset committed and no transaction ended.
func (b *Broker) Ready() error {
	if b.ctx.Err() != nil {
		return ErrClosed
	}
	for _, name := range []string{metadataTopic, offsetsTopic, transactionsTopic} {
		l, ok := b.partition(name, 0)
		if !ok {
			return fmt.Errorf("the internal topic %s is missing", name)
		}
		if err := l.Usable(); err != nil {
			return err
		}
	}
	return nil
}

// Health serves GET /livez, which is answered 200 as long as the broker is not closed, and GET /readyz, which is answered 503 with the
// reason unless it is Ready. It tells nothing else, and may be open to everyone.
func (b *Broker) Health() http.Handler {
	mux := http.NewServeMux()
	say := func(w http.ResponseWriter, err error) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		w.Header().Set("Cache-Control", "no-store")
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = fmt.Fprintln(w, err)
			return
		}
		_, _ = fmt.Fprintln(w, "ok")
	}
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) {
		if b.ctx.Err() != nil {
			say(w, ErrClosed)
			return
		}
		say(w, nil)
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		err := b.Ready()
		if err != nil && !errors.Is(err, ErrClosed) {
			b.logger.Error("not ready", "err", err)
		}
		say(w, err)
	})
	return mux
}
