package main

import (
	"errors"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/spf13/pflag"
)

// size is the value of a flag for a number of bytes.
type size[T int64 | uint64] struct{ bytes *T }

// sizeVar registers one. Zero, which is the default of all of them, is not shown.
func sizeVar[T int64 | uint64](f *pflag.FlagSet, bytes *T, name, usage string) {
	f.Var(size[T]{bytes}, name, usage)
}

// sizesHelp is for the help of commands with such flags.
const sizesHelp = "A size is a number of bytes, or has a unit: KB, MB and GB are thousands, millions and so on; KiB, MiB and GiB are powers of 1,024."

var errSize = errors.New("want a size such as 64MiB, 64MB or 67108864")

// Set implements pflag.Value. pflag names the flag and what was given.
func (s size[T]) Set(text string) error {
	n, err := humanize.ParseBytes(text)
	switch {
	case err != nil, T(n) < 0: // what an int64 cannot hold turns negative
		return errSize
	case strings.Contains(text, ","): // thousands to some, a fraction to others
		return errSize
	case n == 0 && strings.Contains(text, "."): // a part of a byte; 0 would stand for the default
		return errSize
	}
	*s.bytes = T(n)
	return nil
}

// String implements pflag.Value.
func (s size[T]) String() string {
	if s.bytes == nil {
		return "0" // pflag asks values that nobody made for what they are when unset
	}
	return strconv.FormatUint(uint64(*s.bytes), 10)
}

// Type implements pflag.Value: the word in the help.
func (size[T]) Type() string { return "size" }
