/* Echo and the word count, as plugins/echo and plugins/wordcount have them in Go. */
#include "wattle/wattle.h"

WATTLE_CALL(echo, "answers the bytes it gets") {
  wattle_bytes in = wattle_input(w);
  wattle_write(w, in.data, in.len);
  return 0;
}

WATTLE_CALL(visit, "greets with the setting greeting, and counts how often it did on this node") {
  int64_t n;
  for (bool counted = false; !counted;) {
    wattle_bytes before;
    uint64_t version;
    if (!wattle_cache_get(w, "visits", &before, &version)) {
      return wattle_fail_for_good(w, "%s", w->refusal);
    }
    n = 0;
    if (before.data != NULL) {
      wattle_int(before, &n);
    }
    wattle_bytes now = wattle_format(w, "%lld", (long long)++n);
    counted = wattle_cache_put(w, "visits", now.data, now.len, 0, &version);
  }
  wattle_bytes greeting = wattle_config(w, "greeting");
  wattle_print(w, "%.*s %lld", (int)greeting.len, greeting.data, (long long)n);
  return 0;
}

/* Answers how many of the 8 bytes of x, from the lowest on, are ASCII letters: byte for byte would take twice as long. */
static size_t letters(uint64_t x) {
  const uint64_t ones = 0x0101010101010101, high = 0x80 * ones;
  uint64_t small = (x | 0x20 * ones) & ~high; /* additions then stay within their bytes */
  uint64_t is = (small + (0x80 - 'a') * ones) & ~(small + (0x7f - 'z') * ones) & ~x & high;
  return is == high ? 8 : (size_t)__builtin_ctzll(~is & high) / 8;
}

/* A word is a run of ASCII letters as long as can be, in lower case; it may begin in one block and end in the next. */
WATTLE_MAP(map, "emits each word with its count") {
  size_t len = 0, cap = 256;
  char *word = wattle_alloc(w, cap);
  while (wattle_next_part(w) != NULL) {
    for (wattle_bytes block; (block = wattle_block(w)).len > 0;) {
      for (const char *p = block.data, *end = p + block.len; p < end;) {
        uint64_t x = 0;
        if (end - p >= 8) {
          memcpy(&x, p, 8);
        } else {
          memcpy(&x, p, (size_t)(end - p));
        }
        size_t n = letters(x);
        if (n == 0 && len == 0) {
          p++;
          continue;
        }
        if (len + 8 > cap) {
          char *more = wattle_alloc(w, 2 * cap);
          word = memcpy(more, word, len);
          cap *= 2;
        }
        x |= 0x2020202020202020;
        memcpy(word + len, &x, 8);
        len += n;
        p += n;
        if (n < 8 && p < end) {
          wattle_add(w, word, len, 1);
          len = 0;
          p++;
        }
      }
    }
    if (len > 0) {
      wattle_add(w, word, len, 1);
      len = 0;
    }
  }
  return 0;
}

static int total(wattle *w) {
  for (wattle_bytes word; wattle_next_group(w, &word);) {
    wattle_emit_int(w, word.data, word.len, wattle_sum_values(w));
  }
  return 0;
}

WATTLE_COMBINE(sum, "adds up the counts of a word") { return total(w); }

WATTLE_REDUCE(reduce, "answers how often each word occurs") { return total(w); }
