package main

import (
	"context"
	"fmt"
)

// memoryLimit is what the limited side of P19 has.
const memoryLimit = 512 << 20

// P19: counts of more keys than fit into memory.
func manyKeys(ctx context.Context, s settings) error {
	// Not as many records as keys: then each key would come once, in order.
	f, err := newFixture(ctx, s, job{Topic: "many", N: s.manyKeys + s.manyKeys/2, Keys: s.manyKeys})
	if err != nil {
		return err
	}
	defer f.b.stop()
	limited := job{Kind: "count", Topic: "many", Every: commitEvery, EOS: true, N: s.manyKeys + s.manyKeys/2, Keys: s.manyKeys, Memory: memoryLimit}
	unlimited := limited
	unlimited.Memory = -1
	got, err := interleave(ctx, s.rounds, f.side("within 512 MiB", "many-keys", limited), f.side("unlimited", "many-keys", unlimited))
	if err != nil {
		return err
	}
	printRatio("P19", ">= 0.25", "within 512 MiB", "unlimited", got[0], got[1])
	percent := func(s sample) float64 { return 100 * s.Extra }
	fmt.Printf("%-18s %.1f %% of the CPU time (target <= 8)  spread %s  unlimited %.1f %%  resident %.0f MB | %.0f MB  %s keys\n", "P19.gc",
		median(got[0], percent), spreadOf(got[0], percent), median(got[1], percent), median(got[0], resident), median(got[1], resident), thousands(float64(s.manyKeys)))
	return nil
}
