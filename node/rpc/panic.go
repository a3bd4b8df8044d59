package rpc

import "fmt"

// panicked is a handler's panic as an error: the client learns that the node failed, the log where.
type panicked struct {
	procedure string
	value     any
}

func (p *panicked) Error() string { return fmt.Sprintf("panic in %s: %v", p.procedure, p.value) }
