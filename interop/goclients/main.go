// Command goclients runs other Go clients against a broker: goclients (sarama|segmentio|confluent) BOOTSTRAP-SERVER. It is a module of
// its own, so that Leat does not depend on them. confluent-kafka-go needs cgo.
//
// Each produces with every codec, reads in a group, a second member takes a part where the client shows it, resets offsets, and
// sarama and confluent-kafka-go, which have them, commit and abort transactions.
package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	checks := map[string]func(ctx context.Context, addr string) error{"sarama": checkSarama, "segmentio": checkSegmentio, "confluent": checkConfluent}
	if len(os.Args) != 3 || checks[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: goclients (sarama|segmentio|confluent) BOOTSTRAP-SERVER")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	if err := checks[os.Args[1]](ctx, os.Args[2]); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[1], err)
		os.Exit(1)
	}
	fmt.Println("ok")
}

// perCodec is how many records are produced with each codec.
const perCodec = 100

func value(codec string, i int) string { return strings.Repeat(fmt.Sprintf("%s %d ", codec, i), 20) }

// wanted are the values of all codecs, sorted.
func wanted(codecs []string) []string {
	var all []string
	for _, codec := range codecs {
		for i := range perCodec {
			all = append(all, value(codec, i))
		}
	}
	slices.Sort(all)
	return all
}

// same says whether all that went in came back, and nothing else.
func same(got, want []string, what string) error {
	got = slices.Sorted(slices.Values(got))
	if !slices.Equal(got, want) {
		return fmt.Errorf("%s: %d records came back, %d went in, or others", what, len(got), len(want))
	}
	return nil
}
