package services

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"
)

func TestAnswer(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	held := uint64(0)
	for range 200 {
		a := newAnswer(func(n uint64) error { held += n; return nil }, func(n uint64) { held -= n })
		var want []byte
		for range r.IntN(20) {
			b := bytes.Repeat([]byte{byte(r.Int())}, r.IntN(1<<r.IntN(22)))
			if n, err := a.Write(b); n != len(b) || err != nil {
				t.Fatal(n, err)
			}
			want = append(want, b...)
		}
		if got := a.bytes(); !bytes.Equal(got, want) {
			t.Fatalf("%d bytes came back of %d", len(got), len(want))
		}
		if uint64(len(want)) > held+firstPiece {
			t.Fatalf("%d bytes are reserved for %d", held, len(want))
		}
		a.free()
		if held != 0 {
			t.Fatalf("%d bytes are still reserved", held)
		}
	}
}

func TestAnswerWithoutMemory(t *testing.T) {
	t.Parallel()
	full, left := errors.New("full"), uint64(100_000)
	a := newAnswer(func(n uint64) error {
		if n > left {
			return full
		}
		left -= n
		return nil
	}, func(n uint64) { left += n })
	n, err := a.Write(make([]byte, 200_000))
	if !errors.Is(err, full) || n < 4096 || n != len(a.bytes()) {
		t.Errorf("%d, %v", n, err)
	}
	if a.free(); left != 100_000 {
		t.Errorf("%d bytes are left", left)
	}
}
