// Package shard keeps durable state: a fixed set of shards, each a replicated log with the deterministic
// machines (internal/machine) that are fed from it.
//
// A proposal travels so: Propose queues it; the loop puts whatever is queued for a shard, with no timer, into one log
// entry; the appender writes what all shards have to append as one batch with one sync; once a quorum has it, the
// applier hands the commands to their machines and the results to the proposers. State is written without a sync,
// together with the index it stands for: after a crash the log is replayed from there. The log is
// trimmed only below what the state store reports as durable.
//
// Consensus is go.etcd.io/raft/v3, one RawNode for each shard, with asynchronous storage writes, so that the syncs
// of several replicas overlap and one loop serves all shards. The number of shards is fixed when a data directory
// is founded; keys find their shard through 4,096 slots and a versioned routing table, so that
// slots can move to other shards later.
//
// The package does not know what commands mean, who the members are or how bytes travel between nodes: messages
// for other replicas go to Config.Send, and Step takes theirs.
//
// The caller runs Run until it returns. If it returns an error the node must end: what was
// acknowledged is in the log, and the next start finds it.
package shard
