package secret

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"google.golang.org/protobuf/proto"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
	"github.com/wattlehq/wattle/internal/machine"
	"github.com/wattlehq/wattle/internal/machine/machinetest"
)

// TestScenarios runs testdata/*.txt; -rewrite writes down what happens. After every command the same command on a copy of the state must
// give the same, and a View fed with the effects, also late and twice, must equal one loaded from the state.
func TestScenarios(t *testing.T) {
	t.Parallel()
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := &world{view: NewView(), late: NewView()}
		datadriven.RunTest(t, path, w.run)
	})
}

type world struct {
	tx         machinetest.Tx
	view, late *View
	effects    []Changed
	index      uint64
}

func (w *world) run(t *testing.T, d *datadriven.TestData) string {
	word := ""
	if len(d.CmdArgs) > 0 {
		word = d.CmdArgs[0].Key
	}
	switch d.Cmd {
	case "set":
		return w.apply(t, &storev1.SecretCommand{Change: &storev1.SecretCommand_Set{Set: &storev1.SecretRecord{
			Secret: &wattlev1.Secret{Name: word, KeyId: "k"}, Sealed: []byte(d.Input),
		}}})
	case "rm":
		return w.apply(t, &storev1.SecretCommand{Change: &storev1.SecretCommand_Delete{Delete: word}})
	case "nothing":
		return w.apply(t, &storev1.SecretCommand{Change: &storev1.SecretCommand_Set{}})
	case "empty":
		return w.apply(t, &storev1.SecretCommand{})
	case "fill":
		revision, _ := counts(&w.tx)
		setCounts(&w.tx, revision, MaxSecrets)
		w.tx.End()
		return ""
	}
	t.Fatalf("unknown command %q", d.Cmd)
	return ""
}

func (w *world) apply(t *testing.T, c *storev1.SecretCommand) string {
	body, err := proto.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	w.index++
	cmd := machine.Command{Index: w.index, Time: time.Unix(int64(w.index), 0).UTC(), Body: body}
	copied := w.tx.Clone()
	res, effects := w.tx.Apply(Machine{}, cmd)
	again, _ := copied.Apply(Machine{}, cmd)
	if string(again.Value) != string(res.Value) || !w.tx.Equal(copied) {
		t.Error("the same command on the same state gives something else")
	}
	if res.Err != nil {
		return fmt.Sprintf("error %s: %s\nhint: %s\n", res.Err.Reason, res.Err.Message, res.Err.Help)
	}
	for _, e := range effects {
		w.view.Apply(e.(Changed))
		w.effects = append(w.effects, e.(Changed))
	}
	records, revision := List(&w.tx)
	w.tx.End()
	loaded := NewView()
	loaded.Load(records, revision)
	for _, e := range slices.Backward(w.effects) { // all that was, in the wrong order and again
		w.late.Apply(e)
		loaded.Apply(e)
	}
	want := show(records)
	for name, v := range map[string]*View{"fed": w.view, "loaded": loaded, "late": w.late} {
		if got := show(v.List()); got != want {
			t.Errorf("the %s view has\n%swant\n%s", name, got, want)
		}
	}
	resumed := NewView()
	for _, e := range (Machine{}).Resume(&w.tx) {
		resumed.Apply(e.(Changed))
	}
	w.tx.End()
	if got := show(resumed.List()); got != want {
		t.Errorf("resumed:\n%swant\n%s", got, want)
	}
	return want
}

func show(records []*storev1.SecretRecord) string {
	var b strings.Builder
	for _, r := range records {
		fmt.Fprintf(&b, "%s r%d at %d: %s\n", r.Secret.Name, r.Revision, r.Secret.SetAt.AsTime().Unix(), r.Sealed)
	}
	if b.Len() == 0 {
		return "none\n"
	}
	return b.String()
}

// A change that came before the snapshot was loaded, and is newer, stays.
func TestLoadKeepsNewerChanges(t *testing.T) {
	t.Parallel()
	rec := func(name string, revision uint64) *storev1.SecretRecord {
		return &storev1.SecretRecord{Secret: &wattlev1.Secret{Name: name}, Revision: revision}
	}
	v := NewView()
	v.Apply(Changed{Name: "new", Record: rec("new", 5), Revision: 5})
	v.Apply(Changed{Name: "gone", Revision: 6})
	v.Load([]*storev1.SecretRecord{rec("gone", 3), rec("old", 4)}, 4)
	v.Load([]*storev1.SecretRecord{rec("older", 1)}, 1)
	names := map[string]bool{}
	for _, r := range v.List() {
		names[r.Secret.Name] = true
	}
	if got := slices.Sorted(maps.Keys(names)); !slices.Equal(got, []string{"new", "old"}) {
		t.Error(got)
	}
	if _, err := v.Get("gone"); err == nil {
		t.Error("an old snapshot brought a deleted secret back")
	}
}
