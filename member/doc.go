// Package member keeps what was decided about nodes: which are to be emptied, and which were removed and may never come back. It is a
// state machine and a view to read it from.
//
// Who is there is gossip's business (package cluster). What follows from a decision is not done here: see node/controller.
package member
