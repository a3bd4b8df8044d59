// Package store opens a node's data directory: the lock, the format version and the two databases
// everything durable but blobs lives in. It is the only importer of Pebble.
//
// A data directory holds
//
//	FORMAT    one line, "wattle data N": the layout's version; a newer one than Format is refused
//	LOCK      held while a node uses the directory
//	WAL       names the files NUMBER.log in log/ that must be there
//	log/      the log of every shard: a write is durable when a synced Commit returns
//	state/    the state of every shard: has no write-ahead log; what a crash takes is replayed from log/
//	blobs/    content-addressed bytes, see store/blob
//	cache/    compiled modules; may be deleted at any time
//	members   whom the node met, to be met again
//	DAMAGED   what could not be read while the node ran; damaged-TIME/ is what was put aside because of it
//	scratch/  spilled records of running tasks; emptied at start
//
// Keys, all integers big-endian:
//
//	log:    01                        storev1.Identity
//	        02                        storev1.RoutingTable
//	        10 shard:4                storev1.LogHead
//	        11 shard:4                raftpb.HardState
//	        12 shard:4 index:8        raftpb.Entry
//	        13 shard:4                storev1.Retired
//	state:  01 shard:4                storev1.Applied
//	        02 slot:2 machine:1 ...   a machine's own key
//	        03 shard:4                storev1.Members
//	        04 shard:4 number:8 seq:4 peerv1.Pairs, received and not put in for good
//
// The package does not know what is in the values and takes no decisions; shard does. The
// caller closes what it opened, readers before the Store.
package store
