package secret

import (
	"bytes"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	storev1 "github.com/wattlehq/wattle/gen/wattle/store/v1"
	"github.com/wattlehq/wattle/internal/fault"
)

func ring(t testing.TB, text string) *Keyring {
	t.Helper()
	k, err := ParseKeyring(text)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestKeyring(t *testing.T) {
	t.Parallel()
	one, two := NewKey(), NewKey()
	k := ring(t, one)
	value := []byte("hunter2")
	r := k.Seal("name", value)
	if bytes.Contains(r.Sealed, value) || bytes.Equal(r.Sealed, k.Seal("name", value).Sealed) {
		t.Error("the value is not encrypted, or twice the same")
	}
	for what, keys := range map[string]string{"the same key": one, "an older key": "# since today\n" + two + "\n" + one, "a key without line end": strings.TrimSpace(one)} {
		if got, err := ring(t, keys).Open(r); err != nil || !bytes.Equal(got, value) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	wants := func(what, reason string, k *Keyring, r *storev1.SecretRecord) {
		t.Helper()
		if got, err := k.Open(r); fault.Reason(err) != reason || got != nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %q, %v", what, got, err)
		}
	}
	wants("another key", "secret_key_missing", ring(t, two), r)
	for i := range r.Sealed {
		bad := proto.CloneOf(r)
		bad.Sealed[i] ^= 1
		wants("a flipped bit", "damaged_secret", k, bad)
	}
	bad := proto.CloneOf(r)
	bad.Sealed = bad.Sealed[:3]
	wants("a cut value", "damaged_secret", k, bad)
	bad = proto.CloneOf(r)
	bad.Secret.Name = "other"
	wants("the value of another secret", "damaged_secret", k, bad)
	if r := k.Seal("empty", nil); len(r.Sealed) == 0 {
		t.Error("nothing stored")
	} else if got, err := k.Open(r); err != nil || len(got) != 0 {
		t.Errorf("%q, %v", got, err)
	}
	for _, text := range []string{"", "# nothing\n", "short\n", one + "x", strings.Repeat("A", 100)} {
		if _, err := ParseKeyring(text); fault.Reason(err) != "bad_secret_key" {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func FuzzParseKeyring(f *testing.F) {
	f.Add("# comment\n" + NewKey())
	f.Fuzz(func(t *testing.T, text string) {
		if k, err := ParseKeyring(text); err == nil {
			if got, err := k.Open(k.Seal("n", []byte("v"))); string(got) != "v" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		}
	})
}
