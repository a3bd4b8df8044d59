package shard

import (
	"testing"

	"github.com/wattlehq/wattle/internal/machine"
)

func TestTable(t *testing.T) {
	t.Parallel()
	for _, shards := range []uint32{1, 2, 3, 16, 64, 100, machine.Slots} {
		table, err := NewTable(shards)
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for id := range ID(shards) {
			slots := table.Slots(id)
			total += len(slots)
			if n := uint32(len(slots)); n < machine.Slots/shards || n > machine.Slots/shards+1 {
				t.Errorf("%d shards: shard %d has %d slots", shards, id, n)
			}
			for _, s := range slots {
				if table.Of(s) != id {
					t.Errorf("slot %d is in two shards", s)
				}
			}
		}
		if total != machine.Slots {
			t.Errorf("%d shards hold %d slots", shards, total)
		}
		b, err := table.encode()
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decodeTable(b); err != nil || *again != *table {
			t.Errorf("%d shards: read back differently: %v", shards, err)
		}
	}
	for _, shards := range []uint32{0, machine.Slots + 1} {
		if _, err := NewTable(shards); err == nil {
			t.Errorf("%d shards are allowed", shards)
		}
	}
}

// SlotOf is part of the format: keys on disk are found by it.
func TestSlotOfStays(t *testing.T) {
	t.Parallel()
	for key, want := range map[string]machine.Slot{"": 0xe3b0 % machine.Slots, "abc": 0xba78 % machine.Slots} {
		if got := SlotOf(key); got != want {
			t.Errorf("%q: slot %d, want %d", key, got, want)
		}
	}
}

func FuzzDecodeTable(f *testing.F) {
	table, err := NewTable(4)
	if err != nil {
		f.Fatal(err)
	}
	b, err := table.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		table, err := decodeTable(b)
		if err != nil {
			return
		}
		for s := range machine.Slot(machine.Slots) {
			if uint32(table.Of(s)) >= table.Shards {
				t.Fatalf("slot %d is in shard %d of %d", s, table.Of(s), table.Shards)
			}
		}
	})
}
