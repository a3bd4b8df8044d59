// Package shard keeps durable state: a fixed set of shards, each a replicated log with the deterministic
// machines (internal/machine) that are fed from it.
//
// A proposal travels so: Propose queues it; the loop puts whatever is queued for a shard, with no timer, into one log
// entry; the appender writes what all shards have to append as one batch with one sync; once a quorum has it, the
// applier hands the commands to their machines and the results to the proposers. State is written without a sync,
// together with the index it stands for: after a crash the log is replayed from there. The log is
// trimmed only below what the state store reports as durable.
//
// Consensus is go.etcd.io/raft/v3, one RawNode for each replica, with asynchronous storage writes, so that the syncs
// of several replicas overlap and one loop serves all shards. The number of shards is fixed when a cluster
// is founded; keys find their shard through 4,096 slots and a versioned routing table, so that
// slots can move to other shards later.
//
// The members of a shard change through its own log (Engine.Change): a new replica learns first, then it is given a vote, alone or
// in the place of another. One that lacks more than the log still has is sent the whole state by the courier. A replica
// that was removed is retired from its node, once a quorum knows of it for good, and never comes back.
//
// The package does not know what commands mean, which nodes there are or how bytes travel between them: messages
// for other nodes go to Config.Send, and Step takes theirs.
//
// The caller runs Run until it returns. If it returns an error the node must end: what was
// acknowledged is in the log, and the next start finds it.
package shard
