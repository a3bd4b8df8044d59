package guest

import (
	"encoding/json"
	"math"
	"reflect"
	"testing"
)

// same checks that the fast paths give and take what encoding/json does.
func same[V any](t *testing.T, values ...V) {
	t.Helper()
	for _, v := range values {
		want, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		got, err := encoderOf[V]()(nil, v)
		if err != nil || string(got) != string(want) {
			t.Errorf("%#v: got %s, want %s, %v", v, got, want, err)
		}
		back, err := decoderOf[V]()(got)
		if err != nil || !reflect.DeepEqual(back, v) {
			t.Errorf("%s was read as %#v, %v", got, back, err)
		}
	}
}

func TestCodecsAreJSON(t *testing.T) {
	t.Parallel()
	same(t, 0, 9, 10, -1, math.MaxInt, math.MinInt)
	same[int64](t, math.MaxInt64, math.MinInt64, 123456789012345678)
	same[uint64](t, 0, math.MaxUint64)
	same[uint32](t, 7)
	same[int32](t, -7)
	same(t, "", "plain", "é", "a\"b", "<&>", "\x7f", "\n", "\u2028")
	same(t, 1.5, 1e300)
	same(t, []string{"a"}, nil)
	same(t, struct{ A *int }{})
}

func TestReadIntRefusesWhatJSONRefuses(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"", "-", "01", "1.5", "x", "--1", "99999999999999999999", " ", "-x"} {
		if v, err := readInt([]byte(s)); err == nil {
			t.Errorf("%q was read as %d", s, v)
		}
	}
	if v, err := decoderOf[[]byte]()([]byte("raw")); err != nil || string(v) != "raw" {
		t.Error(v, err)
	}
}
