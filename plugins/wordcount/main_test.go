package main

import (
	"slices"
	"strings"
	"testing"

	"github.com/wattlehq/wattle/sdk-guest/go/guesttest"
)

func TestWordCount(t *testing.T) {
	t.Parallel()
	mapped := guesttest.Map(t, "map", guesttest.Text("The lake, the LAKE!\nÄpfel2go"), guesttest.Text("the"))
	got := guesttest.Reduce(t, "reduce", guesttest.Combine(t, "sum", mapped...)...)
	want := guesttest.Pairs("go", "1", "lake", "2", "pfel", "1", "the", "3")
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// Words that lie across the blocks a part is read in count once.
func TestLongParts(t *testing.T) {
	t.Parallel()
	const n = 100_000
	for shift := range 8 {
		text := strings.Repeat("x", shift) + strings.Repeat(" Lake", n)
		got := guesttest.Combine(t, "sum", guesttest.Map(t, "map", guesttest.Text(text))...)
		if len(got) != 1+min(shift, 1) || got[0].Value != "100000" {
			t.Errorf("shift %d: got %v", shift, got)
		}
	}
	long := strings.Repeat("a", 200_000)
	if got := guesttest.Map(t, "map", guesttest.Text(long)); len(got) != 1 || got[0].Key != long {
		t.Errorf("%d records", len(got))
	}
}
