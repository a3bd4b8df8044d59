package main

import (
	"testing"

	"github.com/spf13/pflag"
)

func TestSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]uint64{
		"0": 0, "67108864": 64 << 20, "9223372036854775807": 1<<63 - 1, "7B": 7, "7 b": 7,
		"10MB": 10_000_000, "10mb": 10_000_000, "10M": 10_000_000, "1.5KB": 1500, "2gb": 2_000_000_000,
		"10MiB": 10 << 20, "10mib": 10 << 20, "64 KiB": 64 << 10, "0.5GiB": 512 << 20, "1Ti": 1 << 40,
	} {
		var signed int64
		var unsigned uint64
		if err := sizes(&signed, &unsigned).Parse([]string{"--signed", text, "--unsigned", text}); err != nil || unsigned != want || uint64(signed) != want {
			t.Errorf("%s: %d and %d, want %d: %v", text, signed, unsigned, want, err)
		}
	}
	for _, text := range []string{"", "MB", "-1", "-1MB", "10XB", "10MBit", "1,5GB", "1.000,5", "0.5", "0.0", "1e3", "x", "NaN", "17EiB"} {
		signed, unsigned := int64(5), uint64(5)
		f := sizes(&signed, &unsigned)
		if f.Parse([]string{"--signed", text}) == nil || f.Parse([]string{"--unsigned", text}) == nil || signed != 5 || unsigned != 5 {
			t.Errorf("%q is taken for %d and %d", text, signed, unsigned)
		}
	}
	// What only one of the two can hold.
	var signed int64
	var unsigned uint64
	if f := sizes(&signed, &unsigned); f.Parse([]string{"--unsigned", "18446744073709551615"}) != nil || unsigned != 1<<64-1 || f.Parse([]string{"--signed", "8EiB"}) == nil {
		t.Errorf("%d and %d", signed, unsigned)
	}
}

func sizes(signed *int64, unsigned *uint64) *pflag.FlagSet {
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	sizeVar(f, signed, "signed", "")
	sizeVar(f, unsigned, "unsigned", "")
	return f
}
