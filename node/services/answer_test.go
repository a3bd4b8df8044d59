package services

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

func TestAnswer(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		a := answers.Get().(*answer)
		var want []byte
		for range r.IntN(20) {
			b := bytes.Repeat([]byte{byte(r.Int())}, r.IntN(1<<r.IntN(18)))
			if n, err := a.Write(b); n != len(b) || err != nil {
				t.Fatal(n, err)
			}
			want = append(want, b...)
		}
		if got := a.bytes(); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes came back of %d", len(got), len(want))
		}
		a.free()
	}
}
