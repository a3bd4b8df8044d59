package sim

import (
	"encoding/binary"

	"github.com/wattlehq/wattle/dag"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/registry"
)

// lists is a machine whose every mistake shows: each slot has a list of numbers, to which a command adds one, once.
const listsID machine.ID = 200

var machines = map[machine.ID]machine.Machine{listsID: lists{}, machine.Jobs: dag.Machine{}, machine.Registry: registry.Machine{}}

type lists struct{}

var (
	lengthKey = []byte("n")
	itemKey   = func(i uint64) []byte { return binary.BigEndian.AppendUint64([]byte("i"), i) }
	seenKey   = func(v uint64) []byte { return binary.BigEndian.AppendUint64([]byte("s"), v) }
)

func number(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}

// Apply adds the number in the command, if it is not there yet, and answers its place, from 1.
func (lists) Apply(tx machine.Tx, c machine.Command) (machine.Result, []machine.Effect) {
	v := number(c.Body)
	if v == 0 {
		return machine.Result{Err: fault.New(fault.Invalid, "bad", "not a number")}, nil
	}
	if at, ok := tx.Get(seenKey(v)); ok {
		return machine.Result{Value: at}, nil
	}
	b, _ := tx.Get(lengthKey)
	n := number(b) + 1
	at := binary.BigEndian.AppendUint64(nil, n)
	tx.Set(lengthKey, at)
	tx.Set(itemKey(n), c.Body)
	tx.Set(seenKey(v), at)
	return machine.Result{Value: at}, nil
}

func (lists) Resume(machine.Reader) []machine.Effect { return nil }

func (lists) Refs(machine.Reader, func(digest.Digest, bool)) {}

// list reads all of one.
func list(r machine.Reader) (all []uint64) {
	b, _ := r.Get(lengthKey)
	for i := range number(b) {
		v, _ := r.Get(itemKey(i + 1))
		all = append(all, number(v))
	}
	return all
}
