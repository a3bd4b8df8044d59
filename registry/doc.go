// Package registry knows the services: named sets of immutable versions, with aliases that point at them.
//
// Machine is the replicated state, pure like every machine.Machine; it lives in one slot. View is a node's copy in
// memory, from which calls are resolved without locks, disk or consensus. Names and Ref are how people write
// services, versions and functions down.
//
// The package does not store or check modules, does not replicate and does not feed the View: the caller loads it
// with List and passes on every Changed. What it did not pass on, a Load repairs.
//
// The protobuf messages that List, Changed and the View hand out are shared: they must not be changed.
package registry
