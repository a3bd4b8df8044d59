package sim

import (
	"fmt"
	"math"
	"time"

	"github.com/anishathalye/porcupine"
	"google.golang.org/protobuf/proto"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/registry"
	"github.com/wattlehq/wattle/shard"
)

// pusher is a client that publishes versions of a service, points its alias at them and looks where that points. Each
// attempt is a request of its own: one without an answer may have counted, now or later.
type pusher struct {
	client
	pushed  int
	numbers map[uint64]string // versions it knows of, and their digests
}

const (
	service = "s"
	alias   = "live"
	// maxHistory bounds the time that checking takes.
	maxHistory = 150
)

// register is what an alias is to its users: what was written last is read.
var register = porcupine.Model{
	Init: func() any { return "" },
	Step: func(state, input, output any) (bool, any) {
		if v := input.(string); v != "" {
			return true, v
		}
		return output == state, state
	},
	DescribeOperation: func(input, output any) string {
		if v := input.(string); v != "" {
			return "points at " + v
		}
		return fmt.Sprintf("found %v", output)
	},
}

func (p *pusher) next() {
	if p.w.now >= p.w.cfg.Faults {
		p.idle = true
		return
	}
	n := p.w.pick()
	if !n.up() || len(p.w.audit.aliases) >= maxHistory {
		p.w.after(p.pause(), "push elsewhere", p.next)
		return
	}
	switch p.w.rng.IntN(4) {
	case 0, 1:
		p.look(n)
	case 2:
		if number, d := p.known(); d != "" {
			p.write(n, d, &storev1.RegistryCommand{Change: &storev1.RegistryCommand_SetAlias{SetAlias: &storev1.SetAlias{
				Service: service, Alias: alias, Number: number,
			}}})
			return
		}
		fallthrough
	default:
		p.pushed++
		d := digest.Of(fmt.Append(nil, p.id, p.pushed)).String()
		p.write(n, d, &storev1.RegistryCommand{Change: &storev1.RegistryCommand_CreateVersion{CreateVersion: &storev1.CreateVersion{
			Version: &wattlev1.Version{Service: service, Digest: d}, Aliases: []string{alias},
		}}})
	}
}

func (p *pusher) known() (number uint64, d string) {
	for n, of := range p.numbers {
		if n > number {
			number, d = n, of
		}
	}
	return number, d
}

func (p *pusher) write(n *node, d string, c *storev1.RegistryCommand) {
	body, err := proto.Marshal(c)
	p.w.must(err)
	p.request(n, "writes an alias", d, func(done func(string, error)) {
		n.drive.Propose(shard.Proposal{Slot: registry.Slot, Machine: machine.Registry, Body: body}, func(res machine.Result, err error) {
			if err == nil && res.Err != nil {
				p.w.find("alias refused: %w", res.Err)
			}
			r := &storev1.RegistryResult{}
			if err == nil {
				p.w.must(proto.Unmarshal(res.Value, r))
				p.numbers[r.Version.Number] = d
			}
			done("", err)
		})
	})
}

func (p *pusher) look(n *node) {
	p.request(n, "reads an alias", "", func(done func(string, error)) {
		var got string
		n.drive.Read(registry.Slot, machine.Registry, func(r machine.Reader) error {
			services, _ := registry.List(r)
			for _, s := range services {
				for _, v := range s.Versions {
					if v.Number == s.Aliases[alias] {
						got = v.Digest
					}
				}
			}
			return nil
		}, func(err error) { done(got, err) })
	})
}

// request makes one and keeps it in the history. What was not answered in time may happen at any later moment.
func (p *pusher) request(n *node, what, input string, do func(done func(string, error))) {
	p.turn++
	turn := p.turn
	i := len(p.w.audit.aliases)
	p.w.audit.aliases = append(p.w.audit.aliases, porcupine.Operation{ClientId: p.id, Input: input, Call: int64(p.w.now), Return: math.MaxInt64})
	on := func() {
		if p.turn == turn {
			p.turn++
			p.w.after(p.pause(), "push on", p.next)
		}
	}
	p.w.after(p.w.between(time.Second, 3*time.Second), what+" timeout", on)
	n.guard(func() {
		do(func(out string, err error) {
			op := &p.w.audit.aliases[i]
			switch reason := fault.Reason(err); {
			case err == nil:
				p.w.count("aliases")
				op.Output, op.Return = out, int64(p.w.now)
			case reason == "no_leader" || reason == "no_replica":
				op.Return = -1 // it never was
			}
			on()
		})
	})
	n.wake()
}

// checkAliases finds out whether there is an order of all requests that explains every answer.
func (a *auditor) checkAliases() {
	var history []porcupine.Operation
	for _, op := range a.aliases {
		if op.Return != -1 && (op.Return != math.MaxInt64 || op.Input != "") {
			history = append(history, op)
		}
	}
	switch porcupine.CheckOperationsTimeout(register, history, 5*time.Second) {
	case porcupine.Illegal:
		for _, op := range history {
			a.w.note(fmt.Sprintf("%v to %v: client %d %s", time.Duration(op.Call), time.Duration(op.Return), op.ClientId, register.DescribeOperation(op.Input, op.Output)))
		}
		a.w.find("the answers about the alias are in no order")
	case porcupine.Unknown:
		a.w.count("alias not decided")
	}
}
