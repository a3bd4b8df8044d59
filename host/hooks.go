package host

import (
	"context"
	"errors"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"

	"github.com/wattlehq/wattle/host/instrument"
)

// sliceFuel is how much fuel a guest gets at a time: a tenth of a millisecond or so, during which nothing can stop it,
// not even the garbage collector.
const sliceFuel = 1 << 17

// instantiateHooks makes the module that instrumented code calls.
func instantiateHooks(ctx context.Context, rt wazero.Runtime) error {
	b := rt.NewHostModuleBuilder(instrument.HookModule)
	b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(ctx context.Context, _ []uint64) {
		callOf(ctx).slice()
	}), nil, nil).Export("slice")
	b.NewFunctionBuilder().WithGoFunction(api.GoFunc(func(ctx context.Context, stack []uint64) {
		callOf(ctx).tableRefused = api.DecodeU32(stack[0])
	}), []api.ValueType{api.ValueTypeI32}, nil).Export("table_refused")
	_, err := b.Instantiate(ctx)
	return err
}

// slice is called by a guest that used up its fuel. It gives more, or ends the guest.
func (c *running) slice() {
	c.memory.unwatch()
	left := c.instance.fuel()
	for left < 0 {
		if c.granted >= c.limits.Fuel {
			c.stop(fuelFault(c.limits.Fuel))
		}
		more := min(sliceFuel, c.limits.Fuel-c.granted)
		c.granted += more
		left += int64(more)
	}
	now := time.Now()
	c.checkTime(now)
	c.checkStack()
	c.share(now)
	c.instance.setFuel(left)
}

// checkStack ends a guest whose calls are nested too deeply. What its stack grew by is charged to the budget.
func (c *running) checkStack() {
	now := c.instance.stack()
	if now > c.limits.Stack {
		c.stop(stackFault(c.limits.Stack))
	}
	if c.stack = max(c.stack, keptStack); now > c.stack { // up to that it counts with the instance
		if !c.memory.budget.take(now - c.stack) {
			c.stop(c.memory.budget.exhausted(now - c.stack))
		}
		c.extra += now - c.stack
		c.stack = now
	}
}

// charge takes fuel for what the host did: about a unit for each nanosecond, by what was asked for and not by what it
// took, so that it is the same everywhere.
func (c *running) charge(n int) {
	c.instance.setFuel(c.instance.fuel() - int64(n))
}

// checkTime ends a guest that has no time left.
func (c *running) checkTime(now time.Time) {
	if !now.Before(c.deadline) {
		c.stop(c.late())
	}
	if c.ctx.Err() != nil {
		c.stop(Interrupted(c.ctx))
	}
}

// late says whose deadline it was that passed.
func (c *running) late() error {
	if c.ownDeadline {
		return timeFault(c.limits.Timeout)
	}
	return deadlineFault(c.ctx)
}

// share lets other guests compute.
func (c *running) share(now time.Time) {
	c.long = true
	if c.call.Within { // the outer call has a turn
		return
	}
	if c.turn {
		if !c.turns.over(now, c.turnSince) {
			return
		}
		c.endTurn()
	}
	if err := c.turns.take(c.ctx, now, c.deadline); errors.Is(err, errTimeLimit) {
		c.stop(c.late())
	} else if err != nil {
		c.stop(Interrupted(c.ctx))
	}
	c.turn, c.turnSince = true, time.Now()
	lowerPriority()
}

// endTurn is called by guests that stop computing, if only to wait for something.
func (c *running) endTurn() {
	if c.turn {
		c.turn = false
		restorePriority()
		c.turns.give()
	}
}
