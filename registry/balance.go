package registry

import (
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

// The bounds of a balance's weights.
const (
	MaxWeight  = 1_000_000
	maxWeights = 1_000
)

// ValidateBalance checks a balance. The error is Invalid "bad_balance".
func ValidateBalance(b *wattlev1.Balance) error {
	equal := false
	switch b.GetMode() {
	case wattlev1.BalanceMode_BALANCE_MODE_UNSPECIFIED:
		return invalid("bad_balance", "the balance has no mode").Hint("choose local, random, least-active, round-robin or hash")
	case wattlev1.BalanceMode_BALANCE_MODE_LOCAL:
		if len(b.Weights) > 0 {
			return invalid("bad_balance", "weights mean nothing where each call is run by the node that it comes to").Hint("leave them out, or choose random or least-active")
		}
	case wattlev1.BalanceMode_BALANCE_MODE_RANDOM, wattlev1.BalanceMode_BALANCE_MODE_LEAST_ACTIVE:
	case wattlev1.BalanceMode_BALANCE_MODE_ROUND_ROBIN, wattlev1.BalanceMode_BALANCE_MODE_HASH:
		equal = true
	default:
		return invalid("bad_balance", "there is no balance mode %d in this release", b.Mode).Hint("choose local, random, least-active, round-robin or hash")
	}
	if len(b.Weights) > maxWeights {
		return invalid("bad_balance", "%d nodes have weights; the most is %d", len(b.Weights), maxWeights).Hint("name only those whose weight is not their number of slots")
	}
	for _, node := range slices.Sorted(maps.Keys(b.Weights)) { // the same error on every replica
		w := b.Weights[node]
		switch {
		case nameForm.FindString(node) == "":
			return invalid("bad_balance", "%.80q cannot be the id of a node", node).Hint("wattle node ls shows the ids")
		case w > MaxWeight:
			return invalid("bad_balance", "the weight %d of %s is too large", w, node).Hint("the most is %d", MaxWeight)
		case equal && w > 0:
			return invalid("bad_balance", "round robin and hash take all nodes alike, so that %s cannot have the weight %d", node, w).
				Hint("use weight 0 to leave a node out, or choose random or least-active")
		}
	}
	return nil
}

// setBalance sets which nodes run a service's calls. The mode local is the same as none.
func (c *change) setBalance(name string, b *wattlev1.Balance) *fault.Error {
	rec, err := c.live(name)
	if err != nil {
		return err
	}
	if err := ValidateBalance(b); err != nil {
		return fault.As(err)
	}
	if b.Mode == wattlev1.BalanceMode_BALANCE_MODE_LOCAL {
		b = nil
	}
	c.result.Service = rec.Service
	if proto.Equal(rec.Service.Balance, b) {
		return nil
	}
	rec.Service.Balance = b
	return c.save(rec)
}
