package main

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/leatstream/leat/streams"
)

// counted is the store of the application that scripts run.
var counted = streams.Store[string, int64]{Name: "counts"}

// application is one that a script runs.
type application struct {
	*streams.App
	id   string
	done chan error
}

// runApp runs an application, "ID IN OUT DLQ": it counts the records of each key, and cannot process the value poison.
func (w *world) runApp(t *testing.T, input string) string {
	f := strings.Fields(input)
	var b streams.Builder
	b.Stream(streams.Topic[string, string]{Name: f[1]}).
		MapValues(func(_, v string) (string, error) {
			if v == "poison" {
				return "", errors.New("it is poisoned")
			}
			return v, nil
		}).
		GroupByKey().Count(counted).ToStream().To(streams.Topic[string, int64]{Name: f[2]})
	topology, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	app, err := streams.New(topology, streams.Config{AppID: f[0], Brokers: []string{w.broker.Addr()}, Listen: "127.0.0.1:0", LeaveOnStop: true,
		StateDir: filepath.Join(w.dir, "state"), MemoryBytes: 16 << 20, CommitInterval: 20 * time.Millisecond,
		Queries: streams.QueryConfig{Token: "secret"},
		OnError: func(context.Context, *streams.RecordError) streams.Decision { return streams.DeadLetter(f[3]) }})
	if err != nil {
		t.Fatal(err)
	}
	w.app = &application{app, f[0], make(chan error, 1)}
	go func() { w.app.done <- app.Run(context.Background()) }()
	select {
	case <-app.Ready():
	case err := <-w.app.done:
		t.Fatal(err)
	case <-time.After(time.Minute):
		t.Fatal("the application does not get ready")
	}
	return ""
}

// settle waits until the application has processed a topic, its store shows it, and its positions are committed.
func (w *world) settle(t *testing.T, topic string) string {
	cl, err := kgo.NewClient(kgo.SeedBrokers(w.broker.Addr()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	ends, err := adm.ListEndOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	var after []streams.Position
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			after = append(after, streams.Position{Topic: topic, Partition: o.Partition, Offset: o.Offset - 1})
		}
	})
	v, err := w.app.View(counted)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for _, err := range v.Reading(ctx, streams.Reading{After: after}).All() {
		if err != nil {
			t.Fatal(err)
		}
	}
	for !w.committed(ctx, adm, ends) {
		select {
		case <-ctx.Done():
			t.Fatal("the positions are not committed")
		case <-time.After(5 * time.Millisecond):
		}
	}
	return ""
}

// committed reports whether the application's positions are at the ends, and no transaction may still change them.
func (w *world) committed(ctx context.Context, adm *kadm.Client, ends kadm.ListedOffsets) bool {
	at, err := adm.FetchOffsets(kadm.RequireStable(ctx), w.app.id)
	all := err == nil
	ends.Each(func(end kadm.ListedOffset) {
		o, ok := at.Lookup(end.Topic, end.Partition)
		all = all && (ok && o.Err == nil && o.At >= end.Offset || end.Offset == 0)
	})
	return all
}

// stopApp ends the application, which leaves its group.
func (w *world) stopApp(t *testing.T) {
	if w.app == nil {
		return
	}
	w.app.Leave()
	if err := <-w.app.done; err != nil {
		t.Error(err)
	}
	w.app = nil
}
