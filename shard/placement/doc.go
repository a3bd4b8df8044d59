// Package placement decides where the replicas of shards should be: Next looks at nodes and shards and says which changes to
// make next. It is how a cluster of one grows to three replicas of everything by itself, a lost node is replaced, a draining
// one emptied, and load spread over nodes and zones.
//
// The decision is pure: no clock, randomness or I/O, nothing remembered. Whatever is under way is seen in the View, so a
// controller can begin anywhere, after a crash or on another node. A shard gets at most one move at a time: a replica
// travels as a learner that is added, catches up, and takes another's place in one joint change (Swap).
// What a learner is for is not written down either; it is derived again each time, so that a move that lost its sense
// (the node came back) ends with the learner's removal.
//
// In order of urgency: lost redundancy is restored, the shards with the fewest voters left first; draining nodes are emptied;
// shards grow to the voters wanted; what nobody needs is tidied away; replicas are spread over zones, then evened
// out over nodes; then leaders. Later goals wait while earlier ones still look for a place, so that a replica travels once.
//
// No step leaves a shard without a quorum on nodes that are alive. Where the quorum is lost already, or no leader is
// known, nothing is asked for: nothing could be carried out.
//
// The package does not carry out moves, give ids to replicas, watch nodes or know what a grace time is. The caller says which
// nodes are silent and which are gone, shows each shard as it will be when the change in flight is done (Shard.After),
// and asks again whenever something changed. Leaving out a node is saying that it is gone.
package placement
