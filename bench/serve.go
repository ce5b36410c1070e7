package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/leatstream/leat/broker"
	"github.com/twmb/franz-go/pkg/kfake"
)

// serveBroker is the broker child: it prints the address and serves until standard input closes.
func serveBroker(j job) error {
	switch j.Kind {
	case "leat", "leat-sync":
		return serveLeat(j)
	default:
		return serveKfake(j)
	}
}

func serveLeat(j job) error {
	flush := broker.FlushOS
	if j.Kind == "leat-sync" {
		flush = broker.FlushAlways
	}
	b, err := broker.Start(context.Background(), broker.Config{Dir: j.Dir, Listen: []string{"127.0.0.1:0"}, Flush: flush})
	if err != nil {
		return err
	}
	fmt.Println(b.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, b.Close())
}

func serveKfake(j job) error {
	o := []kfake.Opt{kfake.NumBrokers(1)}
	if j.Kind != "kfake" {
		o = append(o, kfake.DataDir(j.Dir))
	}
	if j.Kind == "kfake-sync" {
		o = append(o, kfake.SyncWrites())
	}
	c, err := kfake.NewCluster(o...)
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Println(c.ListenAddrs()[0])
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

// bareSync is the median time in microseconds of a 100-byte write and its fsync, the floor of any synced latency here.
func bareSync() (float64, error) {
	dir, err := os.MkdirTemp("", "leat-bench-")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	f, err := os.Create(filepath.Join(dir, "sync"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	var ss []sample
	for range 500 {
		t := time.Now()
		if _, err := f.Write(make([]byte, 100)); err != nil {
			return 0, err
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
		ss = append(ss, sample{P50: float64(time.Since(t).Nanoseconds()) / 1e3})
	}
	return median(ss, p50), nil
}
