/* ---- Records ---- */

WATTLE_API void wattle_flush_batch(wattle *w) {
  if (w->batch_len > 0) {
    w->emitted = true;
    wattle_abi_emit(w->batch, w->batch_len);
    w->batch_len = 0;
  }
}

WATTLE_API char *wattle_varint(char *to, size_t n) {
  for (; n >= 0x80; n >>= 7) {
    *to++ = (char)(n | 0x80);
  }
  *to++ = (char)n;
  return to;
}

/* Passes a record on. In the next stage all values of one key are seen together. Records travel in batches. */
WATTLE_API void wattle_emit(wattle *w, const void *key, size_t key_len, const void *value, size_t value_len) {
  size_t most = key_len + value_len + 10;
  if (w->batch_len + most > w->batch_cap) {
    wattle_flush_batch(w);
    if (most > w->batch_cap) {
      w->batch_cap = most > 2 * WATTLE_BLOCK ? most : 2 * WATTLE_BLOCK;
      w->batch = wattle_resize(w->batch, w->batch_cap);
    }
  }
  char *to = wattle_varint(w->batch + w->batch_len, key_len);
  memcpy(to, key, key_len);
  to = wattle_varint(to + key_len, value_len);
  memcpy(to, value, value_len);
  w->batch_len = (size_t)(to + value_len - w->batch);
}

/* Emits a number, written as JSON has it: the other SDKs read it, too. */
WATTLE_API void wattle_emit_int(wattle *w, const void *key, size_t key_len, int64_t n) {
  char digits[20], *p = digits + sizeof digits;
  uint64_t u = n < 0 ? -(uint64_t)n : (uint64_t)n;
  do {
    *--p = (char)('0' + u % 10);
  } while (u /= 10);
  if (n < 0) {
    *--p = '-';
  }
  wattle_emit(w, key, key_len, p, (size_t)(digits + sizeof digits - p));
}

/* A sum by key: an open-addressing table, since emitting every word of a text costs far more than adding it up here. */
struct wattle_sum {
  uint64_t print; /* tells keys of one length up to 8 apart; longer ones are compared in keys */
  int64_t n;
  uint32_t len_plus_1, at;
};

enum { WATTLE_SUMS_BITS = 17, WATTLE_KEYS_MOST = 4 << 20 };

WATTLE_API uint64_t wattle_load(const char *p, size_t n) {
  uint64_t v = 0;
  memcpy(&v, p, n);
  return v;
}

WATTLE_API uint64_t wattle_print_of(const char *key, size_t len) {
  const uint64_t mix = 0x9e3779b97f4a7c15;
  if (len > 8) {
    uint64_t h = wattle_load(key, 8) * mix;
    for (size_t i = 8; i + 8 < len; i += 8) {
      h = (h ^ h >> 29 ^ wattle_load(key + i, 8)) * mix;
    }
    return (h ^ h >> 29 ^ wattle_load(key + len - 8, 8)) * mix;
  }
  if (len >= 4) {
    return wattle_load(key, 4) | wattle_load(key + len - 4, 4) << 32;
  }
  return len == 0 ? 0 : (uint64_t)(uint8_t)key[0] | (uint64_t)(uint8_t)key[len / 2] << 8 | (uint64_t)(uint8_t)key[len - 1] << 16;
}

WATTLE_API size_t wattle_slot(const wattle *w, uint64_t print, size_t len) {
  return (size_t)((print + len) * 0x9e3779b97f4a7c15 >> (64 - w->sums_bits));
}

/* Emits what wattle_add has added up, and forgets it. */
WATTLE_API void wattle_flush_sums(wattle *w) {
  for (size_t i = 0; w->sums_used > 0 && i < (size_t)1 << w->sums_bits; i++) {
    const struct wattle_sum *s = &w->sums[i];
    if (s->len_plus_1 > 0) {
      wattle_emit_int(w, w->keys + s->at, s->len_plus_1 - 1, s->n);
    }
  }
  if (w->sums_used > 0) {
    memset(w->sums, 0, sizeof *w->sums << w->sums_bits);
  }
  w->sums_used = w->keys_len = 0;
}

/* Makes room for more sums, or emits them where there are enough of them. */
static __attribute__((unused, noinline)) void wattle_more_sums(wattle *w) {
  struct wattle_sum *old = w->sums;
  size_t had = old == NULL ? 0 : (size_t)1 << w->sums_bits;
  if (w->sums_bits == WATTLE_SUMS_BITS || w->keys_len > WATTLE_KEYS_MOST) {
    wattle_flush_sums(w);
    return;
  }
  w->sums_bits = had == 0 ? 12 : w->sums_bits + 1;
  w->sums = calloc((size_t)1 << w->sums_bits, sizeof *w->sums);
  if (w->sums == NULL) {
    abort();
  }
  size_t mask = ((size_t)1 << w->sums_bits) - 1;
  for (size_t i = 0; i < had; i++) {
    if (old[i].len_plus_1 > 0) {
      size_t at = wattle_slot(w, old[i].print, old[i].len_plus_1 - 1);
      while (w->sums[at].len_plus_1 > 0) {
        at = (at + 1) & mask;
      }
      w->sums[at] = old[i];
    }
  }
  free(old);
}

/* Adds n to the sum of key. Sums are emitted at the end of the call, or before where there are many: a key may be emitted
   more than once, for a combiner and a reducer that add up. It is far faster than emitting each n by itself. */
WATTLE_API void wattle_add(wattle *w, const void *key, size_t len, int64_t n) {
  if (w->sums == NULL || w->sums_used >= (size_t)1 << (w->sums_bits - 1) || w->keys_len > WATTLE_KEYS_MOST) {
    wattle_more_sums(w);
  }
  uint64_t print = wattle_print_of(key, len);
  size_t mask = ((size_t)1 << w->sums_bits) - 1;
  for (size_t at = wattle_slot(w, print, len);; at = (at + 1) & mask) {
    struct wattle_sum *s = &w->sums[at];
    if (s->print == print && s->len_plus_1 == len + 1 && (len <= 8 || memcmp(w->keys + s->at, key, len) == 0)) {
      s->n += n;
      return;
    }
    if (s->len_plus_1 == 0) {
      if (w->keys_len + len > w->keys_cap) {
        w->keys_cap = 2 * (w->keys_cap + len) + WATTLE_BLOCK;
        w->keys = wattle_resize(w->keys, w->keys_cap);
      }
      memcpy(w->keys + w->keys_len, key, len);
      *s = (struct wattle_sum){print, n, (uint32_t)len + 1, (uint32_t)w->keys_len};
      w->keys_len += len;
      w->sums_used++;
      return;
    }
  }
}

/* Reads a whole number as JSON has it; false where b is none, or does not fit. */
WATTLE_API bool wattle_int(wattle_bytes b, int64_t *n) {
  size_t at = b.len > 0 && *b.data == '-';
  uint64_t u = 0, most = (uint64_t)INT64_MAX + at;
  if (at == b.len || (b.data[at] == '0' && b.len > at + 1)) {
    return false;
  }
  for (size_t i = at; i < b.len; i++) {
    unsigned digit = (unsigned)(uint8_t)b.data[i] - '0';
    if (digit > 9 || u > (most - digit) / 10) {
      return false;
    }
    u = u * 10 + digit;
  }
  *n = at ? (int64_t)-u : (int64_t)u;
  return true;
}
