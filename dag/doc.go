// Package dag is jobs: graphs of stages whose tasks are calls of functions.
//
// What people write is a spec (ParseSpec). A Planner checks it into a plan: versions pinned, files
// listed and cut into splits, every task counted. A Machine keeps the state of jobs, stages, tasks and
// attempts in a shard, one job within one slot, and says through effects which tasks may run. A Queue orders them, and
// a Dispatcher decides what starts, here or on another node, of those whose shards a node leads, and which starts are recorded first. A
// Holder is what a node has been given, by itself and by others.
//
// Two records are durable for each task: the admission of its stage, one for all tasks, and its finish. A first start
// goes unrecorded in the term that admitted the task; every later start is recorded before it happens (Start), so that a
// task that kills its nodes is found out. A finish counts if and only if its generation and attempt are the recorded ones.
// A generation ends when an output that was there can no longer be read: the task is opened again, and what had read other
// bytes than the new ones runs again too.
//
// The package runs nothing and reads no clock: node/jobs drives it. It knows neither Pebble nor raft nor wazero.
package dag
