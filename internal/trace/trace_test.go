package trace

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	for s, want := range map[string]string{
		good:                       good,
		"01" + good[2:] + "-later": good,
		good[:54] + "3":            good, // flags that nobody knows yet are dropped
		good + "-more":             "",
		"ff" + good[2:]:            "",
		"01" + good[2:] + "x":      "",
		strings.ToUpper(good):      "",
		good[:54]:                  "",
		"":                         "",
		"00-" + strings.Repeat("0", 32) + good[35:]:     "",
		good[:36] + strings.Repeat("0", 16) + good[52:]: "",
		strings.Replace(good, "f", "g", 1):              "",
		strings.Replace(good, "-", "_", 1):              "",
	} {
		c, ok := Parse(s)
		if ok != (want != "") || c.String() != want {
			t.Errorf("%q: %q, %v", s, c, ok)
		}
	}
}

func TestCalls(t *testing.T) {
	t.Parallel()
	a, b := New(), New()
	if a.Trace == b.Trace {
		t.Error("two traces have the same id")
	}
	if c := a.Child(); c.Trace != a.Trace || c.Call == a.Call {
		t.Errorf("%s, then %s", a, c)
	}
	if x, y := Of("job"), Of("job"); x.Trace != y.Trace || x.Call == y.Call {
		t.Errorf("%s, %s", x, y)
	}
	for _, c := range []Context{a, Of("job")} {
		if p, ok := Parse(c.String()); !ok || p != c {
			t.Errorf("%s comes back as %s", c, p)
		}
	}
	if got := From(With(t.Context(), a)); got != a {
		t.Error(got)
	}
	if got := From(t.Context()).String(); got != "" {
		t.Error(got)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
	f.Fuzz(func(t *testing.T, s string) {
		if c, ok := Parse(s); ok {
			if d, ok := Parse(c.String()); !ok || c != d {
				t.Errorf("%q: %s, then %s", s, c, d)
			}
		}
	})
}
