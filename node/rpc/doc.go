// Package rpc is the public API of a node over HTTP: Connect, gRPC and gRPC-Web on one port, plain POST for
// functions, health, readiness, metrics and reflection.
//
// It translates: requests into calls of what the node is made of, errors into codes (errors.go has the only table). It decides
// nothing else, and knows neither disk nor consensus. The handler it builds is safe to serve before the node is
// ready: until then calls are answered with "unavailable".
package rpc
