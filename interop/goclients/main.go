// Command goclients runs sarama and segmentio/kafka-go against a broker: goclients (sarama|segmentio) BOOTSTRAP-SERVER. It is a module of
// its own, so that Leat does not depend on them.
//
// Each produces with every codec, reads in a group, a second member takes a part where the client shows it, resets offsets, and
// sarama, which has them, commits and aborts transactions.
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
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: goclients (sarama|segmentio) BOOTSTRAP-SERVER")
		os.Exit(2)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 90*time.Second)
	defer cancel()
	check := checkSarama
	if os.Args[1] == "segmentio" {
		check = checkSegmentio
	}
	if err := check(ctx, os.Args[2]); err != nil {
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
