// Package runtime runs a plan: it makes the internal topics, joins the group with one session per worker, restores tasks,
// feeds them, and commits.
//
// # Goroutines
//
//	Runtime.Run      starts everything, waits for everything
//	globals.follow   if the plan has global tables: follows their topics. Run has loaded them before, with a reader per partition.
//	worker.run       one per Config.Workers; owns its session, its tasks and their stores. Poll, process, punctuate, commit.
//	restorer.begin   one per set of tasks that a worker was given together: asks where the group and the log stand
//	restorer.bring   one per task that is being restored
//	restorer.replay  one per store that is being restored, restoreParallel at a time: reads its changelog, offset by offset.
//	                 Another one, which it waits for, writes the shard.
//	follower.run     one: keeps the copies of state that the group wants here (standbys, warm-ups), with a client of its own
//	purger.run       one: deletes processed records of repartition topics
//
// A worker hands a task's stores to the restorer and does not touch them until the job's done is closed; the job is then
// in worker.poll.restored. To drop a task that is being restored, it cancels the job and waits for done, too.
//
// The stores of a task are open once in a process: worker and follower claim a task before they open it (Runtime.claim),
// and are woken when whoever had it has closed it.
//
// # A commit
//
// worker.commit: flush the stores (changelog records and updates go to the producer), flush the producer, add the
// processed positions and end the transaction, hand one state batch to the database's applier. Any error before the end is
// known ends worker.life: worker.drop closes the tasks and kills the session, and worker.run begins the next life with a
// new session, which settles the transaction. The tasks come back as after a restart, from their own state and what their
// changelog has more.
package runtime
