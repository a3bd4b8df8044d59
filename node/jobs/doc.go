// Package jobs drives the jobs of a node: it is what turns the pure parts of dag into work that happens.
//
// The Scheduler tells a dag.Dispatcher what the shards decide that this node leads, hands what that picks to the worker, to other nodes
// and to clients, keeps in a dag.Holder what this node has from others, and records how it ended. The Executor runs one attempt: it opens the task's input, calls the guest, and stores or
// shuffles what comes out. Inputs reads the files that jobs may read. The Service is what rpc and other callers use.
//
// Nothing here is durable by itself: after a crash everything is derived again from the shards' state.
package jobs
