// Echo and the word count, as plugins/echo and plugins/wordcount have them in Go.
import { Call, Emit, Groups, Parts, bytes, call, combine, map, parseInt64, reduce } from "./wattle";
export { wattle_call, wattle_describe } from "./wattle";

call("echo", "answers the bytes it gets", (c: Call, input: Uint8Array): Uint8Array => input);

call("visit", "greets with the setting greeting, and counts how often it did on this node", (c: Call, input: Uint8Array): Uint8Array => {
  for (;;) {
    const entry = c.cacheGet("visits");
    if (!entry) return c.failForGood(c.refusal);
    const n = entry.version == 0 ? 1 : parseInt64(c, entry.value) + 1;
    if (c.cacheSwap("visits", bytes(n.toString()), 0, entry)) return bytes(`${c.config("greeting")} ${n}`);
  }
  return input;
});

// A word is a run of ASCII letters as long as can be, in lower case; it may begin in one block and end in the next.
map("map", "emits each word with its count", (c: Call, parts: Parts, emit: Emit): void => {
  let word = new StaticArray<u8>(256);
  let len = 0;
  for (let part = parts.next(); part; part = parts.next()) {
    for (let size = part.blockSize(); size > 0; size = part.blockSize()) {
      const block = part.blockAt(size);
      for (let i = 0; i < size; i++) {
        const letter = load<u8>(block + i) | 0x20;
        if (letter - 0x61 < 26) {
          if (len == word.length) word = StaticArray.concat(word, word);
          unchecked((word[len++] = letter));
        } else if (len > 0) {
          emit.addAt(changetype<usize>(word), len, 1);
          len = 0;
        }
      }
    }
    if (len > 0) emit.addAt(changetype<usize>(word), len, 1);
    len = 0;
  }
});

function total(c: Call, words: Groups, emit: Emit): void {
  while (words.next()) emit.int(words.keyBytes, words.sum());
}

combine("sum", "adds up the counts of a word", total);
reduce("reduce", "answers how often each word occurs", total);
