// Package cluster runs an application as it runs in production, and lets everything that can go wrong go wrong: an embedded
// broker, a schema registry where the topology has serdes that need one, and several instances in one testing/synctest bubble, on virtual time, connections in process and file systems in
// memory. Instances are killed in the middle of commits, join and leave, lose their connections and come back as zombies;
// the broker loses power and what it had not synced. A [Check] says whether each record took effect exactly once.
//
//	cluster.Test(t, cluster.Scenario{
//		Topology: topology,
//		Topics:   map[string]int{"lines": 3, "words": 3},
//		Input: func(f *cluster.Feed) {
//			for range 300 {
//				f.Send(lines, "", randomLine(f.Rand))
//			}
//		},
//		Check: cluster.Rising(words, countWords),
//	})
//
// A seed fixes the input, the faults and where they strike (the n-th step of a commit, file call or request), not the
// schedule of goroutines. So a failing seed prints what happened in it, and in how many of 20 further runs it fails. The
// environment says which seeds run: LEAT_SIM_SEEDS=200 how many, LEAT_SIM_FIRST=1001 from which one on, LEAT_SIM_SEED=17 that
// one alone. LEAT_SIM_TRACE=1 prints what happens in those that pass, too.
package cluster
