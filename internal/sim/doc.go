// Package sim runs a cluster in one goroutine, on virtual time, from one seed: the real shards and the real machines, with a
// network that loses, delays, doubles and reorders, disks that crash, fail and rot, clocks that differ, and members that come
// and go. An auditor compares what clients were told with what the cluster knows.
//
// The same seed gives the same run, to the last message: Result.Trace is a hash of it all. raft draws its election timeouts
// from crypto/rand.Reader, which a run replaces, so that only one can be on its way in a process.
package sim
