package instrument

// tuning says how much is charged where, and how far checks are apart. DESIGN.md says why.
type tuning struct {
	arm       int64 // code that may be left out is charged with what is around it up to this
	entry     int64 // delay from the beginning of a function to a check
	stretch   int64 // delay between checks
	afterCall int64 // delay from the return of a function to a check
	wait      int64 // delay of what may wait for memory
	leave     int64 // delay of what leaves the guest for the host
}

var tuned = tuning{arm: 64, entry: 1024, stretch: 8192, afterCall: 24, wait: 32, leave: 256}

const growPrice = 256 // of memory.grow

// price is what an instruction costs.
func price(op byte) int64 {
	switch op {
	case 0x01, opBlock, opLoop, opElse, opEnd: // and nop: they make no code
		return 0
	case opMemoryGrow:
		return growPrice
	}
	return 1
}

// delay is about how many cheap instructions take as long as this one at worst: a load may wait for memory.
func (t tuning) delay(d *decoder) int64 {
	switch operands[d.op] {
	case memoryAccess, table, typeAndTable:
		return t.wait
	case zeroByte:
		if d.op == opMemoryGrow {
			return t.leave
		}
	case nothing, blockType:
		return price(d.op)
	case prefixed:
		if d.op == opAtomic || d.op == opMisc && d.sub >= miscMemoryInit || d.op == opVector && d.loads() {
			return t.wait
		}
	}
	return 1
}

// An arm is a stretch of code that runs from its beginning or not at all, up to the end of the block it is in. Its cost
// is subtracted where it begins, or where the arm around it begins.
type arm struct {
	cost   int64 // of it and of what is charged with it
	delay  int32 // of the same
	maybe  int32 // the part of cost that need not run
	began  int32 // the delay since a check where it began
	early  int32 // the delay of what calls before it have left to do that was paid for before them
	parent int32
	kind   armKind
	check  bool
}

type armKind byte

const (
	armRest     armKind = iota // what follows a branch or a block that may be left early
	armTail                    // the same behind a branch to the head of a loop: it runs once, not in each turn
	armBack                    // what follows a call or a block with one: it runs, but much later
	armBackRest                // the same behind a block that may be left early
	armThen
	armElse
	armFixed // a function, or code that begins with a check: always charged by itself
	armLoop  // the body of a loop: the same
)

// frame is a block that is open.
type frame struct {
	op      byte
	dead    bool  // nothing gets here
	reached bool  // something jumps to its end
	called  bool  // there is a call in it that may take long
	early   int32 // of the calls in the block around it
	base    int32 // the arm it began in
	body    int32 // the arm its body began with
	then    int32 // the first half of an if with else
	outer   int32 // the outermost frame that is jumped to from here
	ends    way   // by which a jump gets to its end
	begins  way
}

// A way is what is known of all the ways from a function's beginning to some place in it.
type way struct {
	checked int64 // the most that was paid since the last check, on those with one
	bare    int64 // the most that was paid on those without
}

// never stands for that there is no such way, whatever is added to it.
const never = -1 << 40

var (
	noWay   = way{never, never}
	started = way{never, 0}
)

// or joins two ways.
func (w way) or(o way) way { return way{max(w.checked, o.checked), max(w.bare, o.bare)} }

const noArm = -1

// change is a place where the code differs from the original.
type change struct {
	at, end int32 // the bytes that are replaced
	kind    changeKind
	arg     uint32 // an arm or a new index
}

type changeKind byte

const (
	charge changeKind = iota
	reindex
	callHelper
	chargeLength
	tableGrow
)

// planner decides what to change in one function.
type planner struct {
	decoder
	tuning  tuning
	learn   bool // about the module, too
	f       int
	arms    []arm
	frames  []frame
	changes []change
	arm     int32
	dead    bool
	way     way
	recent  int32 // arms from this on began after the last check or call
	aside   aside
	early   int32  // the same as of an arm, of the calls in this block
	left    callee // how the function can be left
	// doubtful tells that ways count as unchecked that may be checked.
	doubtful bool
	// How many loops there are around here, and the most of them and of blocks that there were.
	loops, mostLoops, deepest int
	scratch                   bool // two locals are needed for table.grow
}

// callee is what a caller has to know of a function.
type callee struct {
	unchecked int64 // the most that is paid on a way through without a check
	calls     bool  // it calls functions of the module
}

// plan walks through a function.
func (p *planner) plan(f int) *Error {
	targets := p.targets
	p.decoder = p.m.enter(f)
	p.targets = targets
	p.f = f
	p.arms, p.frames, p.changes = p.arms[:0], p.frames[:0], p.changes[:0]
	p.arm, p.dead, p.way, p.recent, p.aside, p.early, p.left, p.scratch, p.doubtful = noArm, false, started, 0, notAside, 0, callee{}, false, false
	p.loops, p.mostLoops, p.deepest = 0, 0, 0
	p.open(armFixed)
	p.frames = append(p.frames, frame{op: opBlock, base: noArm, body: 0, outer: 0, ends: noWay})
	p.depth = 1
	p.pay(int64(p.locals-p.m.params(f)), int64(p.locals-p.m.params(f)))
	p.check()
	for p.depth > 0 && p.next() {
		if p.learn {
			p.m.note(&p.decoder, f)
		}
		p.step()
	}
	if o := &p.m.options; p.deepest > int(o.MaxNesting) || p.mostLoops > int(o.MaxLoops) {
		return invalid("%s nests %d blocks, %d of them loops; the most is %d and %d", p.m.functionName(f), p.deepest, p.mostLoops, o.MaxNesting, o.MaxLoops)
	}
	return p.finish(f)
}

// open begins an arm here.
func (p *planner) open(kind armKind) {
	p.arms = append(p.arms, arm{parent: p.arm, kind: kind, began: small(p.way.checked)})
	p.arm = int32(len(p.arms) - 1)
	at := int32(p.at)
	p.changes = append(p.changes, change{at: at, end: at, kind: charge, arg: uint32(p.arm)})
}

// pay adds to what this stretch of code costs and how long it takes.
func (p *planner) pay(cost, delay int64) {
	if p.dead {
		return
	}
	a := &p.arms[p.arm]
	a.cost += cost
	a.delay = small(int64(a.delay) + delay)
	p.way.checked += delay
	p.way.bare += delay
}

// check puts a check where the last one is far behind, if possible where an arm began that is charged there.
func (p *planner) check() {
	switch {
	case p.dead:
	case p.way.bare > p.tuning.entry:
		if p.doubtful {
			p.left.unchecked = max(p.left.unchecked, p.tuning.entry+1) // 1 is that of the instruction that leaves
		}
		p.checkArm()
	case p.way.checked > p.tuning.stretch:
		bare := p.way.bare
		if !p.checkAside() && !p.checkRecent() {
			p.open(armFixed)
			p.arms[p.arm].check = true
			p.wasChecked(0)
		}
		if p.learn && bare >= 0 {
			// There may be no check here once more is known of what is called: what callers learn must not count on it, nor
			// on one further on that is needed only because there is none here.
			p.way.bare, p.doubtful = bare, true
		}
	}
}

// aside is a way with a call that has joined another: a check on it alone leaves the other as it is.
type aside struct {
	arm   int32
	saves int64
}

var notAside = aside{arm: noArm}

func (p *planner) checkAside() bool {
	if p.aside.arm == noArm || p.way.checked-p.aside.saves > p.tuning.stretch {
		return false
	}
	p.arms[p.aside.arm].check = true
	bare := p.way.bare // on the other way nothing was checked
	p.wasChecked(p.way.checked - p.aside.saves)
	p.way.bare = bare
	return true
}

// checkRecent puts a check where the arm began, if nothing was checked or called since.
func (p *planner) checkRecent() bool {
	a := &p.arms[p.arm]
	if p.arm < p.recent || p.way.checked-int64(a.began) > p.tuning.stretch/2 {
		return false
	}
	a.kind, a.check = armFixed, true
	p.wasChecked(p.way.checked - int64(a.began))
	return true
}

// wasChecked goes on from a check so far behind.
func (p *planner) wasChecked(delay int64) {
	p.way = way{delay, never}
	p.recent = int32(len(p.arms))
	p.aside = notAside
}

// checkArm makes sure that there was a check before here, at the latest where the arm began.
func (p *planner) checkArm() {
	if p.way.bare >= 0 {
		p.arms[p.arm].check = true
		p.way = way{max(p.way.checked, p.way.bare), never}
	}
}

// close ends all arms that were opened in the arm base.
func (p *planner) close(base int32) {
	for p.arm != base {
		a := &p.arms[p.arm]
		p.arm = a.parent
		p.settle(a)
	}
}

// settle charges an arm's cost with the arm around it, if it is little.
func (p *planner) settle(a *arm) {
	most, maybe := p.tuning.arm, a.cost
	back := a.kind == armBack || a.kind == armBackRest
	switch a.kind {
	case armFixed, armLoop:
		return
	case armTail:
		most = 4
	case armBack:
		maybe = int64(a.maybe)
	}
	up := &p.arms[a.parent]
	switch early := int64(a.early) + int64(a.delay); {
	case a.cost > most || int64(up.maybe)+maybe > p.tuning.arm:
		return
	case back && early > p.tuning.afterCall:
		return
	case back:
		p.early = max(p.early, small(early))
	}
	up.cost += a.cost
	up.delay = small(int64(up.delay) + int64(a.delay))
	up.maybe += int32(maybe)
	a.cost = 0
}

// small keeps a number that only matters while it is little in few bits.
func small(n int64) int32 { return int32(min(max(n, -1<<30), 1<<30)) }
