package registry

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/internal/machine/machinetest"
)

// TestScenarios runs testdata/*.txt; -rewrite writes down what happens. After every command the same command on a copy
// of the state must give the same, and a View fed with the effects must equal one loaded from the state.
func TestScenarios(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := newWorld(t)
		datadriven.RunTest(t, path, w.run)
	})
}

// world is a registry with a view, and the names of digests.
type world struct {
	t     *testing.T
	tx    machinetest.Tx
	view  *View
	index uint64
	names map[string]string
}

func newWorld(t *testing.T) *world {
	return &world{t: t, view: NewView(), names: map[string]string{}}
}

// digest makes a digest of a short name.
func (w *world) digest(name string) string {
	d := digest.Of([]byte(name)).String()
	w.names[d] = name
	return d
}

// short puts the names back.
func (w *world) short(s string) string {
	for d, name := range w.names {
		s = strings.ReplaceAll(s, d, "<"+name+">")
	}
	return s
}

func (w *world) run(t *testing.T, d *datadriven.TestData) string {
	args := map[string]string{}
	var words []string
	for _, a := range d.CmdArgs {
		if len(a.Vals) == 0 {
			words = append(words, a.Key)
		} else {
			args[a.Key] = strings.Join(a.Vals, ",")
		}
	}
	word := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	number := func(s string) uint64 {
		n, _ := strconv.ParseUint(s, 10, 64)
		return n
	}
	list := func(s string) []string { return strings.FieldsFunc(s, func(r rune) bool { return r == ',' }) }
	switch d.Cmd {
	case "push":
		v := &wattlev1.Version{Service: word(0), Number: number(args["number"]), Digest: args["raw"]}
		if n := args["digest"]; n != "" {
			v.Digest = w.digest(n)
		}
		for _, f := range list(args["functions"]) {
			v.Functions = append(v.Functions, &wattlev1.Function{Name: f})
		}
		if m := args["memory"]; m != "" {
			v.Limits = &wattlev1.Limits{MemoryBytes: number(m)}
		}
		if f, limit, ok := strings.Cut(args["flimit"], ":"); ok {
			v.FunctionLimits = map[string]*wattlev1.Limits{f: {Timeout: durationpb.New(time.Duration(number(limit)))}}
		}
		return w.do(&storev1.RegistryCommand{Change: &storev1.RegistryCommand_CreateVersion{
			CreateVersion: &storev1.CreateVersion{Version: v, Aliases: list(args["alias"])},
		}})
	case "alias":
		return w.do(&storev1.RegistryCommand{Change: &storev1.RegistryCommand_SetAlias{
			SetAlias: &storev1.SetAlias{Service: word(0), Alias: word(1), Number: number(word(2))},
		}})
	case "unalias":
		return w.do(&storev1.RegistryCommand{Change: &storev1.RegistryCommand_DeleteAlias{
			DeleteAlias: &storev1.DeleteAlias{Service: word(0), Alias: word(1)},
		}})
	case "rm":
		if word(1) == "" {
			return w.do(&storev1.RegistryCommand{Change: &storev1.RegistryCommand_DeleteService{DeleteService: &storev1.DeleteService{Name: word(0)}}})
		}
		return w.do(&storev1.RegistryCommand{Change: &storev1.RegistryCommand_DeleteVersion{
			DeleteVersion: &storev1.DeleteVersion{Service: word(0), Number: number(word(1))},
		}})
	case "balance":
		b := &wattlev1.Balance{Mode: wattlev1.BalanceMode(wattlev1.BalanceMode_value["BALANCE_MODE_"+strings.ToUpper(args["mode"])])}
		if n := args["number"]; n != "" {
			b.Mode = wattlev1.BalanceMode(number(n))
		}
		for _, x := range list(args["weights"]) {
			node, w, _ := strings.Cut(x, ":")
			if b.Weights == nil {
				b.Weights = map[string]uint32{}
			}
			b.Weights[node] = uint32(number(w))
		}
		return w.do(&storev1.RegistryCommand{Change: &storev1.RegistryCommand_SetBalance{SetBalance: &storev1.SetBalance{Service: word(0), Balance: b}}})
	case "empty":
		return w.do(&storev1.RegistryCommand{})
	case "garbage":
		return w.body([]byte{0xff})
	case "show":
		services, revision := List(&w.tx)
		w.tx.End()
		var b strings.Builder
		for _, s := range services {
			b.WriteString(w.show(s))
		}
		fmt.Fprintf(&b, "revision %d\n", revision)
		return b.String()
	case "refs":
		var refs []string
		Machine{}.Refs(&w.tx, func(d digest.Digest, _ bool) { refs = append(refs, w.short(d.String())) })
		w.tx.End()
		slices.Sort(refs)
		return fmt.Sprintf("%d refs %s\n", len(refs), strings.Join(refs, " "))
	case "resolve":
		ref := Ref{Service: word(0), Version: word(1), Function: args["function"]}
		if n := args["digest"]; n != "" {
			ref.Version = w.digest(n)
		}
		v, err := w.view.Resolve(ref)
		if err != nil {
			return w.err(fault.As(err))
		}
		return fmt.Sprintf("%s@%d %s\n", v.Service, v.Number, w.short(v.Digest))
	}
	t.Fatalf("unknown command %q", d.Cmd)
	return ""
}

func (w *world) err(e *fault.Error) string {
	s := fmt.Sprintf("error %s: %s\n", e.Reason, e.Message)
	if e.Help != "" {
		s += "hint: " + e.Help + "\n"
	}
	return w.short(s)
}

func (w *world) do(c *storev1.RegistryCommand) string {
	body, err := proto.Marshal(c)
	if err != nil {
		w.t.Fatal(err)
	}
	return w.body(body)
}

func (w *world) body(body []byte) string {
	w.index++
	cmd := machine.Command{Index: w.index, Term: 1, Time: time.Unix(1_700_000_000+int64(w.index), 0), Body: body}
	before := w.tx.Clone()
	twin := w.tx.Clone()
	res, effects := w.tx.Apply(Machine{}, cmd)
	again, _ := twin.Apply(Machine{}, cmd)
	if !w.tx.Equal(twin) || string(res.Value) != string(again.Value) {
		w.t.Fatal("the same command gave something else")
	}
	if len(effects) == 0 && !w.tx.Equal(before) {
		w.t.Fatal("a change without an effect")
	}
	var b strings.Builder
	for _, e := range effects {
		c := e.(Changed)
		w.view.Apply(c)
		if c.Service != nil {
			fmt.Fprintf(&b, "changed %s r%d\n", c.Service.Name, c.Revision)
		} else {
			fmt.Fprintf(&b, "deleted %s r%d\n", c.Deleted, c.Revision)
		}
	}
	w.compare()
	if res.Err != nil {
		if len(effects) > 0 || !w.tx.Equal(before) {
			w.t.Fatal("a refusal changed something")
		}
		return w.err(res.Err)
	}
	r := &storev1.RegistryResult{}
	if err := proto.Unmarshal(res.Value, r); err != nil {
		w.t.Fatal(err)
	}
	if r.Version != nil {
		fmt.Fprintf(&b, "version %d created=%v\n", r.Version.Number, r.Created)
	}
	if r.Service != nil {
		b.WriteString(w.show(r.Service))
	}
	return b.String()
}

// compare checks the view against the state, and Resume against both.
func (w *world) compare() {
	services, revision := List(&w.tx)
	loaded, resumed := NewView(), NewView()
	loaded.Load(services, revision)
	for _, e := range (Machine{}).Resume(&w.tx) {
		resumed.Apply(e.(Changed))
	}
	w.tx.End()
	for _, v := range []*View{w.view, resumed} {
		got := v.Services()
		if v.Revision() != revision || !slices.EqualFunc(got, services, func(a, b *wattlev1.Service) bool { return proto.Equal(a, b) }) {
			w.t.Fatalf("the view has revision %d and %v, the state %d and %v", v.Revision(), got, revision, services)
		}
	}
}

func (w *world) show(s *wattlev1.Service) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s r%d", s.Name, s.Revision)
	for _, v := range s.Versions {
		fmt.Fprintf(&b, " %d:%s", v.Number, w.short(v.Digest))
		if v.CreatedAt.AsTime().Before(time.Unix(1_700_000_000, 0)) {
			w.t.Fatal("no time of creation")
		}
	}
	for _, a := range slices.Sorted(maps.Keys(s.Aliases)) {
		fmt.Fprintf(&b, " %s=%d", a, s.Aliases[a])
	}
	if l := s.Balance; l != nil {
		fmt.Fprintf(&b, " %v%v", l.Mode, l.Weights)
	}
	return b.String() + "\n"
}

func TestSameIgnoresEmptyLimits(t *testing.T) {
	t.Parallel()
	a := &wattlev1.Version{Digest: "d", FunctionLimits: map[string]*wattlev1.Limits{"f": {}}}
	b := &wattlev1.Version{Digest: "d", Limits: &wattlev1.Limits{}}
	if !same(a, b) {
		t.Fatal("limits of zero are not the same as none")
	}
	b.FunctionLimits = map[string]*wattlev1.Limits{"f": {LogBytes: 1}}
	if same(a, b) || same(b, a) {
		t.Fatal("other limits are the same")
	}
}

func FuzzApply(f *testing.F) {
	for _, c := range []*storev1.RegistryCommand{
		{Change: &storev1.RegistryCommand_CreateVersion{CreateVersion: &storev1.CreateVersion{
			Version: &wattlev1.Version{Service: "a", Digest: digest.Of(nil).String()}, Aliases: []string{"prod"},
		}}},
		{Change: &storev1.RegistryCommand_DeleteService{DeleteService: &storev1.DeleteService{Name: "a"}}},
		{Change: &storev1.RegistryCommand_SetAlias{SetAlias: &storev1.SetAlias{Service: "a", Alias: "b", Number: 1}}},
	} {
		b, _ := proto.Marshal(c)
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var tx machinetest.Tx
		for range 2 {
			res, _ := tx.Apply(Machine{}, machine.Command{Time: time.Unix(1, 0), Body: body})
			if res.Err == nil {
				if err := proto.Unmarshal(res.Value, &storev1.RegistryResult{}); err != nil {
					t.Fatal(err)
				}
			}
			List(&tx)
			tx.End()
		}
	})
}
