// Package machine is the contract between a shard and the state machines it hosts.
//
// A machine is pure: it has no goroutine, clock, randomness or I/O of its own, so that the same
// commands give the same state on every replica, after every crash and in the simulator. What it
// knows of the world arrives in the Command; what it wants done leaves as an Effect.
//
// The package holds no code that runs. Machines (dag, registry) and the shard that drives them
// meet here without importing each other.
package machine

import (
	"iter"
	"time"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
)

// ID names a machine within a shard. It is part of every key on disk: never change or reuse one.
type ID uint8

// The machines there are.
const (
	Registry ID = 1
	Jobs     ID = 2
	Secrets  ID = 3
	Members  ID = 4
)

// Slots is how many slots the state is divided into. It is fixed for good: a slot is part of every key.
const Slots = 4096

// Slot is a division of the state, below Slots. Whatever a command touches lies within one slot;
// a shard holds many, and can be split between them.
type Slot uint16

// Command is one entry of the log, as a machine sees it.
type Command struct {
	// Index is the place in the shard's log: it only grows. Commands proposed together share one.
	Index uint64
	// Term is the leader's term in which the command was proposed.
	Term uint64
	// Time is the proposing leader's clock. It may step back when leaders change.
	Time time.Time
	// Body is the machine's own encoding.
	Body []byte
}

// Result is what the proposer of a command is told. Err is a refusal, an ordinary answer: the
// command was applied and changed nothing.
type Result struct {
	Value []byte
	Err   *fault.Error
}

// Effect is something a machine wants done outside, of a type the machine defines. Effects are hints:
// only a leader carries them out, and any of them may be lost. Resume derives them again.
type Effect any

// Reader is the machine's own part of one slot. Keys are the machine's own; slices handed
// out are valid until the call that got the Reader returns and must not be changed.
//
// A disk that fails is not the machine's business: the implementation panics with a *Broken, which
// the shard recovers.
type Reader interface {
	// Get returns the value of key, and whether it is there.
	Get(key []byte) ([]byte, bool)
	// Scan yields the pairs with lower <= key < upper in order of keys. A nil upper means no bound.
	Scan(lower, upper []byte) iter.Seq2[[]byte, []byte]
}

// Tx is a Reader that can write. What is written is seen by later reads at once and becomes durable
// together with everything else the command did.
type Tx interface {
	Reader
	Set(key, value []byte)
	Delete(key []byte)
	// DeleteRange removes the keys with lower <= key < upper.
	DeleteRange(lower, upper []byte)
}

// Machine is one kind of replicated state.
type Machine interface {
	// Apply carries out one command. It must be deterministic and must not fail: a command that
	// cannot be decoded or is not allowed gives a Result with an error, on every replica alike.
	Apply(tx Tx, cmd Command) (Result, []Effect)
	// Resume derives the effects that a slot's state still calls for. A new leader asks for it, and
	// so may anyone at any time; doing an effect again must be harmless.
	Resume(r Reader) []Effect
	// Refs yields the digest of every blob that the slot's state refers to. Those blobs are kept where they are; of those that cannot
	// be made again there are to be copies.
	Refs(r Reader, yield func(d digest.Digest, copies bool))
}

// Broken is what a Reader panics with when the store below it fails.
type Broken struct{ Err error }

func (b *Broken) Error() string { return "state store: " + b.Err.Error() }

func (b *Broken) Unwrap() error { return b.Err }
