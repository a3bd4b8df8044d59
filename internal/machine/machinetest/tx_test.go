package machinetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

func TestTxAgainstMap(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	var tx Tx
	want := map[string]string{}
	key := func() string { return fmt.Sprintf("%02d", rng.IntN(40)) }
	for range 5000 {
		switch k := key(); rng.IntN(5) {
		case 0:
			tx.Delete([]byte(k))
			delete(want, k)
		case 1:
			to := key()
			tx.DeleteRange([]byte(k), []byte(to))
			for w := range want {
				if w >= k && w < to {
					delete(want, w)
				}
			}
		default:
			v := fmt.Sprint(rng.Uint32())
			tx.Set([]byte(k), []byte(v))
			want[k] = v
		}
		lower, upper := key(), key()
		var got, expect []string
		for k, v := range tx.Scan([]byte(lower), []byte(upper)) {
			got = append(got, string(k)+"="+string(v))
		}
		for k, v := range want {
			if k >= lower && k < upper {
				expect = append(expect, k+"="+v)
			}
		}
		slices.Sort(expect)
		if !slices.Equal(got, expect) {
			t.Fatalf("scan %s-%s = %v, want %v", lower, upper, got, expect)
		}
		k := key()
		v, ok := tx.Get([]byte(k))
		if w, wok := want[k]; ok != wok || string(v) != w {
			t.Fatalf("get %s = %q %v, want %q %v", k, v, ok, w, wok)
		}
		tx.End()
	}
	if !tx.Equal(tx.Clone()) {
		t.Fatal("a clone differs")
	}
}

func TestScanSeesTheStart(t *testing.T) {
	t.Parallel()
	var tx Tx
	tx.Set([]byte("a"), nil)
	tx.Set([]byte("b"), nil)
	var seen []string
	for k := range tx.Scan(nil, nil) {
		seen = append(seen, string(k))
		tx.Delete([]byte("b"))
		tx.Set([]byte("c"), nil)
	}
	if s := strings.Join(seen, ""); s != "ab" {
		t.Fatalf("saw %q", s)
	}
}

func TestEndSpoilsAndChecks(t *testing.T) {
	t.Parallel()
	var tx Tx
	tx.Set([]byte("k"), []byte("value"))
	v, _ := tx.Get([]byte("k"))
	tx.End()
	if bytes.Equal(v, []byte("value")) {
		t.Fatal("a slice outlived its call")
	}
	v, _ = tx.Get([]byte("k"))
	v[0] = 'x'
	defer func() {
		if recover() == nil {
			t.Fatal("a changed slice went unnoticed")
		}
	}()
	tx.End()
}
