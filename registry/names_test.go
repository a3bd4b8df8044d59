package registry

import (
	"strings"
	"testing"

	"github.com/wattlehq/wattle/internal/digest"
	"github.com/wattlehq/wattle/internal/fault"
)

func TestNames(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", MaxName)
	for _, c := range []struct {
		check func(string) error
		good  []string
		bad   []string
	}{
		{ValidateService, []string{"a", "0", "a-b", "a.b_c", "7", long}, []string{"", "A", "-a", "a-", ".a", "a b", "a/b", "a@b", "ä", long + "a", "a\n"}},
		{ValidateAlias, []string{"prod", "v1", "1.2", "1a", "default", "sha"}, []string{"", "1", "007", "sha256-ab", "sha256:x", "sha256", "Prod", long + "a"}},
		{ValidateFunction, []string{"f", "a/b", "Größe", "_x.y$", strings.Repeat("f", MaxFunction)}, []string{"", "a b", "a\n", "\x00", "\xff", strings.Repeat("f", MaxFunction+1)}},
	} {
		for _, s := range c.good {
			if err := c.check(s); err != nil {
				t.Errorf("%q: %v", s, err)
			}
		}
		for _, s := range c.bad {
			if err := c.check(s); fault.KindOf(err) != fault.Invalid || fault.As(err).Help == "" {
				t.Errorf("%q passed, or without help: %v", s, err)
			}
		}
	}
}

func TestParseRef(t *testing.T) {
	t.Parallel()
	d := digest.Of([]byte("x"))
	for in, want := range map[string]Ref{
		"echo/main":                            {"echo", "", "main"},
		"echo@3/main":                          {"echo", "3", "main"},
		"echo@003/main":                        {"echo", "3", "main"},
		"echo@prod/a/b":                        {"echo", "prod", "a/b"},
		"echo/f@x":                             {"echo", "", "f@x"},
		"echo@" + d.String() + "/main":         {"echo", d.String(), "main"},
		"echo@sha256:" + d.Hex() + "/main":     {"echo", d.String(), "main"},
		"a.b-c_d@9007199254740992/wordcount.2": {"a.b-c_d", "9007199254740992", "wordcount.2"},
	} {
		got, err := ParseRef(in)
		if err != nil || got != want {
			t.Errorf("%q: %+v, %v", in, got, err)
		}
	}
	for in, reason := range map[string]string{
		"":                               "bad_ref",
		"echo":                           "bad_ref",
		"echo/":                          "bad_ref",
		"/main":                          "bad_ref",
		"@1/main":                        "bad_ref",
		"echo@/main":                     "bad_ref",
		"Echo/main":                      "bad_service",
		"echo/a b":                       "bad_function",
		"echo@0/main":                    "bad_version",
		"echo@-1/main":                   "bad_version",
		"echo@sha256-zz/main":            "bad_version",
		"echo@9007199254740993/main":     "bad_version",
		"echo@99999999999999999999/main": "bad_version",
	} {
		if _, err := ParseRef(in); fault.Reason(err) != reason {
			t.Errorf("%q: %v, want %s", in, err, reason)
		}
	}
	_, err := ParseRef("echo")
	if !strings.Contains(fault.As(err).Help, "SERVICE@VERSION/FUNCTION") {
		t.Errorf("no form in %q", fault.As(err).Help)
	}
}

func FuzzParseRef(f *testing.F) {
	for _, s := range []string{"echo/main", "echo@01/main", "echo@prod/a/b@c", "a@sha256:" + digest.Of(nil).Hex() + "/f", "x@/"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := ParseRef(s)
		if err != nil {
			if fault.KindOf(err) != fault.Invalid {
				t.Fatal(err)
			}
			return
		}
		again, err := ParseRef(r.String())
		if err != nil || again != r {
			t.Fatalf("%q became %+v, then %+v, %v", s, r, again, err)
		}
	})
}
