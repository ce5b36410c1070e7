// Package runtime runs a plan: it makes the internal topics, joins the group with one session per worker, restores tasks,
// feeds them, and commits.
//
// # Goroutines
//
//	Runtime.Run      starts everything, waits for everything
//	worker.run       one per Config.Workers; owns its session, its tasks and their stores. Poll, process, punctuate, commit.
//	restorer.run     one; reads changelogs with a client of its own while somebody asks for it, writes into shards
//	restorer.begin   one per task that is being restored: asks for offsets, then hands over to restorer.run
//
// A worker hands a task's stores to the restorer and does not touch the task until the answer is on worker.restored.
//
// # A commit
//
// worker.commit: flush the stores (changelog records and updates go to the producer), flush the producer, add the
// processed positions and end the transaction, hand one state batch to the database's applier. Any error before the end is
// known takes worker.reset: tasks are dropped, the session is opened again (which settles the transaction), and the tasks
// come back as after a restart, from their own state and what their changelog has more.
package runtime
