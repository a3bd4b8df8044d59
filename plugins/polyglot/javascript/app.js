// Echo and the word count, as plugins/echo and plugins/wordcount have them in Go.

export const echo = (input) => input.bytes();
echo.description = "answers the bytes it gets";

export function visit(input, ctx) {
  for (;;) {
    const before = ctx.cache.get("visits");
    const n = before ? before.json() + 1 : 1;
    if (ctx.cache.put("visits", String(n), { expect: before?.version ?? 0 }).set) return `${ctx.config("greeting")} ${n}`;
  }
}
visit.description = "greets with the setting greeting, and counts how often it did on this node";

// A word is a run of ASCII letters as long as can be, in lower case.
export function map(parts, emit) {
  for (const part of parts) {
    for (const word of part.text().match(/[A-Za-z]+/g) ?? []) emit.add(word.toLowerCase(), 1);
  }
}
map.kind = "map";
map.description = "emits each word with its count";

const total = (words, emit) => {
  for (const word of words) emit(word.key, word.sum());
};

export const sum = (words, emit) => total(words, emit);
sum.kind = "combine";
sum.description = "adds up the counts of a word";

export const reduce = (words, emit) => total(words, emit);
reduce.kind = "reduce";
reduce.description = "answers how often each word occurs";
