package instrument

// step plans for the instruction that was read.
func (p *planner) step() {
	switch p.op {
	case opBlock, opLoop, opIf, opTryTable:
		p.begin()
		return
	case opElse:
		p.otherwise()
		return
	case opEnd:
		p.end()
		return
	}
	p.pay(price(p.op), p.tuning.delay(&p.decoder))
	switch p.op {
	case opBr:
		p.jump(p.index)
		p.dead = true
	case opBrTable:
		for _, l := range p.targets {
			p.jump(l)
		}
		p.dead = true
	case opBrIf, opBrOnNull, opBrOnNonNull:
		p.branch()
	case opReturn:
		p.jump(uint32(len(p.frames) - 1))
		p.dead = true
	case opUnreachable:
		p.dead = true
	case opThrow, opThrowRef:
		p.throw()
	case opRefFunc:
		p.change(reindex, p.index)
	case opCall, opReturnCall:
		p.change(reindex, p.index)
		p.call()
	case opCallIndirect, opCallRef, opReturnCallIndirect, opReturnCallRef:
		p.call()
	case opMisc:
		p.bulk()
	}
	p.check()
}

// change replaces the instruction that was read.
func (p *planner) change(kind changeKind, arg uint32) {
	p.changes = append(p.changes, change{at: int32(p.from), end: int32(p.at), kind: kind, arg: arg})
}

// call is a check for the function that is called, if it is one that makes calls, and so may go on for long: a
// function checks before it calls.
func (p *planner) call() {
	if p.dead {
		return
	}
	next := callee{calls: true, unchecked: p.tuning.entry} // if it is not known
	if p.op == opCall || p.op == opReturnCall {
		i := int(p.index) - p.m.imported[Function]
		if i < 0 {
			p.pay(0, p.tuning.leave)
			return // the host may take its own time
		}
		if !p.learn {
			next = p.m.callees[i]
		}
	}
	p.checkArm()
	p.left.calls = true
	switch p.op {
	case opReturnCall, opReturnCallIndirect, opReturnCallRef:
		p.jump(uint32(len(p.frames) - 1))
		p.dead = true
	}
	p.way.checked += next.unchecked
	if next.calls && !p.dead {
		// It may have come from far down: frames that nothing is checked in must be left quickly.
		p.way.checked = max(p.way.checked, p.tuning.stretch-p.tuning.afterCall)
		p.frames[len(p.frames)-1].called = true
		p.recent = int32(len(p.arms))
		p.aside = notAside
		p.open(armBack)
	}
}

// begin opens a block.
func (p *planner) begin() {
	p.pay(price(p.op), p.tuning.delay(&p.decoder))
	outer := int32(len(p.frames))
	if p.op == opTryTable {
		outer = p.catches()
	}
	f := frame{op: p.op, early: p.early, dead: p.dead, base: p.arm, body: p.arm, then: noArm, outer: outer, ends: noWay}
	if !p.dead {
		switch p.op {
		case opLoop:
			if p.takes {
				p.open(armFixed)
			} else {
				p.open(armLoop)
			}
			p.arms[p.arm].check = true
			p.wasChecked(0)
		case opIf:
			p.open(armThen)
		}
		f.body = p.arm
	}
	f.begins, p.early = p.way, 0
	p.frames = append(p.frames, f)
	p.depth = len(p.frames)
	if p.op == opLoop {
		p.loops++
	}
	p.deepest, p.mostLoops = max(p.deepest, p.depth-1), max(p.mostLoops, p.loops)
	p.check()
}

// otherwise goes on with the second half of an if.
func (p *planner) otherwise() {
	f := &p.frames[len(p.frames)-1]
	if f.op != opIf {
		p.fail()
		return
	}
	f.op = opElse
	if f.dead {
		return
	}
	p.close(f.body)
	f.then = p.arm
	p.aside = notAside
	if !p.dead {
		f.reached = true
		f.ends = f.ends.or(p.way)
	}
	p.arm, p.dead, p.way = f.base, false, f.begins
	p.open(armElse)
	f.body = p.arm
}

// end closes a block.
func (p *planner) end() {
	f := p.frames[len(p.frames)-1]
	p.frames = p.frames[:len(p.frames)-1]
	p.depth = len(p.frames)
	if f.op == opLoop {
		p.loops--
	}
	if f.dead {
		p.early = f.early
		return
	}
	p.aside = notAside
	switch {
	case f.op == opIf:
		p.setAside(f.ends.or(f.begins))
	case f.reached:
		p.setAside(f.ends)
	}
	p.close(f.body)
	early := p.early
	switch f.op {
	case opElse:
		p.merge(f.then, p.arm)
	case opIf:
		p.settle(&p.arms[p.arm])
		f.reached, f.ends = true, f.ends.or(f.begins)
	}
	p.arm = f.base
	switch {
	case len(p.frames) == 0:
		p.leave()
		return
	case f.reached && p.dead:
		p.way, p.dead = f.ends, false
	case f.reached:
		p.way = p.way.or(f.ends)
	}
	up := &p.frames[len(p.frames)-1]
	up.outer = min(up.outer, f.outer)
	up.called = up.called || f.called
	p.early = max(f.early, early)
	switch {
	case p.dead:
	case f.outer < int32(len(p.frames)) && f.called:
		p.open(armBackRest)
		p.arms[p.arm].early = early
	case f.outer < int32(len(p.frames)):
		p.open(armRest)
	case f.called:
		p.open(armBack)
		p.arms[p.arm].early = early
	}
}

// setAside remembers a way with a call that joins another without.
func (p *planner) setAside(other way) {
	behind := p.way.checked - int64(p.arms[p.arm].began)
	if p.dead || p.arm < p.recent || behind > p.tuning.stretch/2 || other.checked > p.tuning.stretch/2 {
		return
	}
	p.aside = aside{p.arm, p.way.checked - max(behind, other.checked)}
}

// merge settles both halves of an if: one of them runs, so the cheaper one's cost is certain.
func (p *planner) merge(then, other int32) {
	a, b := &p.arms[then], &p.arms[other]
	if a.cost < b.cost {
		a, b = b, a
	}
	if a.kind < armFixed && b.kind < armFixed {
		up := &p.arms[a.parent]
		up.cost += b.cost
		up.delay = small(int64(up.delay) + int64(max(a.delay, b.delay)))
		a.cost -= b.cost
		b.cost = 0
	}
	p.settle(a)
	p.settle(b)
}

// jump notes a way to a label.
func (p *planner) jump(label uint32) {
	if p.dead {
		return
	}
	i := int32(len(p.frames)) - 1 - int32(label)
	top := &p.frames[len(p.frames)-1]
	top.outer = min(top.outer, i)
	if f := &p.frames[i]; f.op != opLoop {
		f.reached = true
		f.ends = f.ends.or(p.way)
	}
	if i == 0 {
		p.leave()
	}
}

// leave notes a way out of the function.
func (p *planner) leave() {
	if !p.dead {
		p.left.unchecked = max(p.left.unchecked, p.way.bare)
	}
}

// throw leaves for a handler, here or in a function that called this one. Like a call it comes after a check: so what
// catches knows of the ways to a handler, from before the block, is the worst.
func (p *planner) throw() {
	if !p.dead {
		p.checkArm()
	}
	p.dead = true
}

// catches notes the ways to handlers, and answers the outermost block that one stands behind. An exception may come
// from anywhere in the block.
func (p *planner) catches() int32 {
	outer := int32(len(p.frames))
	w := p.way
	p.way.checked = max(w.checked, p.tuning.stretch)
	for _, l := range p.targets {
		p.jump(l)
		outer = min(outer, int32(len(p.frames))-1-int32(l))
	}
	p.way = w
	return outer
}

// branch is a jump that may not be taken.
func (p *planner) branch() {
	if p.dead {
		return
	}
	p.jump(p.index)
	kind := armRest
	if p.frames[len(p.frames)-1-int(p.index)].op == opLoop {
		kind = armTail
	}
	p.open(kind)
}

func (p *planner) bulk() {
	if p.dead {
		return
	}
	switch p.sub {
	case miscMemoryFill:
		p.change(callHelper, helperFill)
	case miscMemoryCopy:
		p.change(callHelper, helperCopy)
	case miscMemoryInit, miscTableInit, miscTableCopy, miscTableFill:
		p.change(chargeLength, 0)
	case miscTableGrow:
		p.change(tableGrow, 0)
		p.scratch = true
	}
}
