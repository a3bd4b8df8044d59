package e2e

import (
	"bytes"
	"io"
	"testing"

	wattlev1 "github.com/wattlehq/wattle/gen/wattle/v1"
)

// output reads what a stage put out, of all its tasks or of one.
func (n *target) output(t testing.TB, id, stage string, task int) string {
	t.Helper()
	var b bytes.Buffer
	if err := n.Result(t.Context(), id, stage, task, func(*wattlev1.ResultHeader) (io.Writer, error) { return &b, nil }); err != nil {
		t.Fatalf("result of %s: %v", stage, err)
	}
	return b.String()
}
