package main

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestGapsAreTheLongestOfAnyPartition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gaps
		g.begin()
		for _, wait := range []time.Duration{10, 30, 20} {
			time.Sleep(wait * time.Millisecond)
			for p := range int32(rebalancePartitions - 1) {
				g.seen(p)
			}
		}
		time.Sleep(5 * time.Millisecond)
		if these, others := g.end([]int{0, 1}); these != 30 || others != 65 {
			t.Errorf("gaps of %v and %v ms, want 30, and 65 of the partition that nothing came of", these, others)
		}
		g.begin()
		if these, others := g.end(nil); these != 0 || others != 0 {
			t.Errorf("gaps of %v and %v ms after a new beginning", these, others)
		}
	})
}
