package peers

import (
	"errors"

	"connectrpc.com/connect"

	peerv1 "github.com/wattlehq/wattle/gen/wattle/peer/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

// refusal is an error with a meaning, on the wire.
func refusal(e *fault.Error) *peerv1.Refusal {
	if e == nil {
		return nil
	}
	return &peerv1.Refusal{Kind: uint32(e.Kind), Reason: e.Reason, Message: e.Message, Help: e.Help, Fields: e.Fields}
}

func meant(r *peerv1.Refusal) *fault.Error {
	if r == nil {
		return nil
	}
	return &fault.Error{Kind: fault.Kind(r.Kind), Reason: r.Reason, Message: r.Message, Help: r.Help, Fields: r.Fields}
}

// toWire keeps the meaning of an error on its way to another node.
func toWire(err error) error {
	e := fault.As(err)
	if err == nil || e == nil {
		return err
	}
	out := connect.NewError(connect.CodeUnknown, errors.New(e.Message))
	if d, err := connect.NewErrorDetail(refusal(e)); err == nil {
		out.AddDetail(d)
	}
	return out
}

// fromWire finds the meaning again. What has none is a node that cannot be reached.
func fromWire(err error) error {
	if err == nil {
		return nil
	}
	var c *connect.Error
	if errors.As(err, &c) {
		for _, d := range c.Details() {
			if v, err := d.Value(); err == nil {
				if r, ok := v.(*peerv1.Refusal); ok {
					return meant(r)
				}
			}
		}
	}
	return err
}
