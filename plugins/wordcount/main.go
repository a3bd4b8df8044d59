// Command wordcount counts words: map finds them, sum adds up on the way, reduce answers the total of each. A word is
// a run of ASCII letters as long as can be, in lower case.
package main

import (
	"encoding/binary"
	"iter"
	"math/bits"

	guest "github.com/wattlehq/wattle/sdk-guest/go"
)

func init() {
	guest.Map("map", words)
	guest.Combine("sum", sum)
	guest.Reduce("reduce", func(_ *guest.Context, word string, counts iter.Seq[int], emit guest.Emit[int]) error {
		emit(word, sum(word, counts))
		return nil
	})
	guest.Describe("map", "emits each word with the count 1")
	guest.Describe("sum", "adds up the counts of a word")
	guest.Describe("reduce", "answers how often each word occurs")
}

// words counts the words of a part. A word may begin in one block and end in the next: what there is of it is kept.
func words(ctx *guest.Context, part *guest.Part, _ guest.Emit[int]) error {
	word := make([]byte, 0, 64)
	for block := range part.Blocks() {
		word = scan(ctx, word, block)
	}
	if len(word) > 0 {
		ctx.Add(word, 1)
	}
	return nil
}

// scan counts the words that end in block, of which the first begins with word, and answers the start of the one that may go on. It is a
// function of its own because what the body of a loop over an iterator shares with the function around it lies in memory, which costs
// more than the counting.
func scan(ctx *guest.Context, word, block []byte) []byte {
	for len(block) >= 8 {
		x := binary.LittleEndian.Uint64(block)
		n := letters(x)
		if n == 0 && len(word) == 0 {
			block = block[1:]
			continue
		}
		word = binary.LittleEndian.AppendUint64(word, x|0x20*ones)
		word = word[:len(word)-8+n]
		if n == 8 {
			block = block[8:]
			continue
		}
		block = block[n+1:]
		ctx.Add(word, 1)
		word = word[:0]
	}
	for _, c := range block {
		if l := c | 0x20; 'a' <= l && l <= 'z' {
			word = append(word, l)
		} else if len(word) > 0 {
			ctx.Add(word, 1)
			word = word[:0]
		}
	}
	return word
}

const (
	ones = 0x0101010101010101
	high = 0x80 * ones
)

// letters answers how many of the 8 bytes of x, from the lowest on, are ASCII letters: byte for byte would take twice as long.
func letters(x uint64) int {
	small := (x | 0x20*ones) &^ high // additions then stay within their bytes
	is := (small + (0x80-'a')*ones) &^ (small + (0x7f-'z')*ones) &^ x & high
	return bits.TrailingZeros64(is^high) / 8
}

func sum(_ string, counts iter.Seq[int]) int {
	total := 0
	for n := range counts {
		total += n
	}
	return total
}

func main() {}
