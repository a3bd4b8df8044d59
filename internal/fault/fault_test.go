package fault

import (
	"errors"
	"fmt"
	"io"
	"testing"
)

func TestError(t *testing.T) {
	t.Parallel()
	e := New(NotFound, "unknown_thing", "no thing %q: %w", "x", io.EOF).Hint("look %s", "there").With("thing", "x")
	err := fmt.Errorf("outer: %w", e)
	if KindOf(err) != NotFound || Reason(err) != "unknown_thing" || As(err).Help != "look there" || As(err).Fields["thing"] != "x" {
		t.Errorf("%+v", As(err))
	}
	if !errors.Is(err, io.EOF) || !errors.Is(err, &Error{Reason: "unknown_thing"}) || errors.Is(err, &Error{Reason: "other"}) {
		t.Error("errors.Is does not see through it")
	}
	if err.Error() != `outer: no thing "x": EOF` {
		t.Error(err)
	}
	if KindOf(io.EOF) != Internal || Reason(io.EOF) != "internal" || As(nil) != nil {
		t.Error("a foreign error has a meaning")
	}
}
