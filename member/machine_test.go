package member

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/proto"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/internal/machine/machinetest"
)

// TestScenarios runs testdata/*.txt; -rewrite writes down what happens. After every command the same command on a copy of the state must
// give the same, and a View fed with the effects, also late and twice, must equal one loaded from the state.
func TestScenarios(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := &world{}
		datadriven.RunTest(t, path, w.run)
	})
}

type world struct {
	tx      machinetest.Tx
	view    View
	effects []Changed
	index   uint64
}

func (w *world) run(t *testing.T, d *datadriven.TestData) string {
	node := ""
	if len(d.CmdArgs) > 0 {
		node = d.CmdArgs[0].Key
	}
	c := &storev1.MemberCommand{Node: node}
	if d.HasArg("revision") {
		var at uint64
		d.ScanArgs(t, "revision", &at)
		c.Revision = &at
	}
	switch d.Cmd {
	case "drain":
		c.Change = &storev1.MemberCommand_Drain{Drain: true}
	case "undo":
		c.Change = &storev1.MemberCommand_Drain{}
	case "remove":
		c.Change = &storev1.MemberCommand_Remove{Remove: true}
	case "nothing":
	case "long":
		c = &storev1.MemberCommand{Node: strings.Repeat("n", maxName+1), Change: &storev1.MemberCommand_Drain{Drain: true}}
	case "garbage":
		return w.apply(t, []byte("garbage"))
	default:
		t.Fatalf("unknown command %q", d.Cmd)
	}
	body, err := proto.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return w.apply(t, body)
}

func (w *world) apply(t *testing.T, body []byte) string {
	w.index++
	cmd := machine.Command{Index: w.index, Time: time.Unix(0, int64(w.index)), Body: body}
	copied := w.tx.Clone()
	res, effects := w.tx.Apply(Machine{}, cmd)
	w.tx.End()
	if again, _ := copied.Apply(Machine{}, cmd); string(again.Value) != string(res.Value) || !w.tx.Equal(copied) {
		t.Error("the same command on the same state gives something else")
	}
	if res.Err != nil {
		return fmt.Sprintf("error %s: %s\nhint: %s\n", res.Err.Reason, res.Err.Message, res.Err.Help)
	}
	for _, e := range effects {
		w.effects = append(w.effects, e.(Changed))
		w.view.Load(e.(Changed).Records, e.(Changed).Revision)
	}
	records, revision := List(&w.tx)
	var late, resumed View
	for _, e := range slices.Backward(w.effects) {
		late.Load(e.Records, e.Revision)
	}
	for _, e := range (Machine{}).Resume(&w.tx) {
		resumed.Load(e.(Changed).Records, e.(Changed).Revision)
	}
	w.tx.End()
	want := fmt.Sprintf("revision %d\n", revision)
	for _, r := range records {
		want += fmt.Sprintf("%s draining=%v removed=%v at %d r%d\n", r.Node, r.Draining, r.Removed, r.DecidedAt, r.Revision)
	}
	for name, v := range map[string]*View{"fed": &w.view, "late": &late, "resumed": &resumed} {
		for _, n := range []string{"a", "b", "c"} {
			i := slices.IndexFunc(records, func(r *storev1.MemberRecord) bool { return r.Node == n })
			draining, removed := i >= 0 && records[i].Draining, i >= 0 && records[i].Removed
			if v.Draining(n) != draining || v.Removed(n) != removed {
				t.Errorf("the %s view has %s as draining=%v removed=%v, want %v %v", name, n, v.Draining(n), v.Removed(n), draining, removed)
			}
		}
	}
	return want
}

// So many nodes are never removed that the first of them would matter still; those that drain are not forgotten.
func TestForgetsTheOldest(t *testing.T) {
	t.Parallel()
	var tx machinetest.Tx
	put := func(i uint64, node string, draining bool) {
		b, err := proto.Marshal(&storev1.MemberRecord{Node: node, Draining: draining, Removed: !draining, Revision: i})
		if err != nil {
			t.Fatal(err)
		}
		tx.Set(keyOf(node), b)
	}
	put(1, "drains", true)
	for i := range uint64(MaxRecords - 1) {
		put(i+2, fmt.Sprintf("n%05d", (i+5000)%(MaxRecords-1)), false)
	}
	tx.Set(revisionKey, binary.BigEndian.AppendUint64(nil, MaxRecords))
	tx.End()
	body, err := proto.Marshal(&storev1.MemberCommand{Node: "new", Change: &storev1.MemberCommand_Remove{Remove: true}})
	if err != nil {
		t.Fatal(err)
	}
	_, effects := tx.Apply(Machine{}, machine.Command{Body: body})
	var v View
	v.Load(effects[0].(Changed).Records, effects[0].(Changed).Revision)
	records, _ := List(&tx)
	if len(records) != MaxRecords || v.Removed("n05000") || !v.Removed("n05001") || !v.Removed("new") || !v.Draining("drains") {
		t.Errorf("%d records, first removed %v, next %v, new %v, draining %v", len(records), v.Removed("n05000"), v.Removed("n05001"), v.Removed("new"), v.Draining("drains"))
	}
	tx.End()
}
