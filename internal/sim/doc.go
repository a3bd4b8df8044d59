// Package sim runs a cluster in one goroutine, on virtual time, from one seed: the real shards, machines, dispatcher and
// controller, with a network that loses, delays, doubles and reorders, disks that crash, fail and rot, clocks that differ, and
// members that come and go. Clients add to lists, move aliases and have jobs done; an auditor compares what they were told with
// what the cluster knows. What it does not have: guests, blobs, Serf, the API.
//
//	go test ./internal/sim -run TestSeeds -v -args -seed=7            tells all that happens in a run
//	go test ./internal/sim -run TestSeeds -args -seeds=1000 -start=1  many runs; those that fail are shrunk
//
// The same seed gives the same run, to the last message: Result.Trace is a hash of it all. raft draws its election timeouts
// from crypto/rand.Reader, which a run replaces, so that only one can be on its way in a process.
package sim
