package digest

import (
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	t.Parallel()
	d := Of([]byte("abc"))
	const want = "sha256-ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	if d.String() != want {
		t.Error(d)
	}
	for _, s := range []string{want, strings.Replace(want, "-", ":", 1)} {
		if got, err := Parse(s); err != nil || got != d {
			t.Errorf("%s: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "sha256-", want[7:], want + "0", want[:70], strings.ToUpper(want), "sha256-" + strings.Repeat("g", 64), "md5-" + want[7:]} {
		if _, err := Parse(s); err == nil {
			t.Errorf("%q is taken for a digest", s)
		}
	}
	if (Digest{}).String() != "" || !(Digest{}).IsZero() {
		t.Error("the zero value names something")
	}
}
