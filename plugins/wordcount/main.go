// Command wordcount counts words: map finds them, sum adds up on the way, reduce answers the total of each. A word is
// a run of ASCII letters as long as can be, in lower case.
package main

import (
	"iter"

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

// lower has the small letter for each letter, and 0 for all that is none.
var lower = func() (table [256]byte) {
	for c := byte('a'); c <= 'z'; c++ {
		table[c], table[c-'a'+'A'] = c, c
	}
	return table
}()

// words emits each word of a part. A word may begin in one block and end in the next: what there is of it is kept in
// word, which is used again and again, so that no word costs an allocation.
func words(_ *guest.Context, part *guest.Part, emit guest.Emit[int]) error {
	var word []byte
	for block := range part.Blocks() {
		for _, c := range block {
			if l := lower[c]; l != 0 {
				word = append(word, l)
			} else if len(word) > 0 {
				emit.Bytes(word, 1)
				word = word[:0]
			}
		}
	}
	if len(word) > 0 {
		emit.Bytes(word, 1)
	}
	return nil
}

func sum(_ string, counts iter.Seq[int]) int {
	total := 0
	for n := range counts {
		total += n
	}
	return total
}

func main() {}
