/* ---- Input ---- */

/* Has at least n bytes in in[r..w), unless the input ends before. */
WATTLE_API bool wattle_fill(wattle *w, size_t n) {
  while (w->w - w->r < n) {
    if (w->cap - w->r < n || w->w == w->cap) {
      if (w->r > 0) {
        memmove(w->in, w->in + w->r, w->w - w->r);
        w->w -= w->r;
        w->r = 0;
      }
      if (w->cap < n || w->w == w->cap) {
        w->cap = n + n / 2 > WATTLE_BLOCK ? n + n / 2 : WATTLE_BLOCK;
        w->in = wattle_resize(w->in, w->cap);
      }
    }
    size_t got = wattle_abi_input_read(w->in + w->w, w->cap - w->w, (int64_t)w->off);
    if (got == 0) {
      return false;
    }
    w->w += got;
    w->off += got;
  }
  return true;
}

/* Reads up to len bytes of the input to p and answers how many; 0 at its end. */
WATTLE_API size_t wattle_read(wattle *w, void *p, size_t len) {
  size_t have = w->w - w->r;
  if (have == 0) {
    len = wattle_abi_input_read(p, len, (int64_t)w->off);
    w->off += len;
    return len;
  }
  len = len < have ? len : have;
  memcpy(p, w->in + w->r, len);
  w->r += len;
  return len;
}

/* Answers all of the input that is not read yet, with a NUL behind it. */
WATTLE_API wattle_bytes wattle_input(wattle *w) {
  int64_t size = wattle_abi_input_len();
  size_t len = 0, cap = size < 0 ? WATTLE_BLOCK : (size_t)size + 1;
  char *p = wattle_alloc(w, cap);
  for (size_t got; (got = wattle_read(w, p + len, cap - len)) > 0;) {
    len += got;
    if (len == cap) {
      char *more = wattle_alloc(w, 2 * cap);
      memcpy(more, p, len);
      p = more;
      cap *= 2;
    }
  }
  p[len] = 0;
  return (wattle_bytes){p, len};
}

/* Only a fault of the host cuts its input. */
WATTLE_API bool wattle_cut(wattle *w) {
  wattle_broken(w, 1, "the input ends in the middle of a record");
  return false;
}

/* Reads a length; false at the end of the input, which is a fault but where a record may begin. */
WATTLE_API bool wattle_length(wattle *w, uint64_t *n, bool may_end) {
  *n = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (!wattle_fill(w, 1)) {
      return may_end && shift == 0 ? false : wattle_cut(w);
    }
    uint8_t c = (uint8_t)w->in[w->r++];
    *n |= (uint64_t)(c & 0x7f) << shift;
    if (c < 0x80) {
      return true;
    }
  }
  return wattle_cut(w);
}

/* Reads n bytes, which are valid until the next read. */
WATTLE_API bool wattle_take(wattle *w, uint64_t n, wattle_bytes *b) {
  if (n >= SIZE_MAX / 2 || !wattle_fill(w, (size_t)n)) {
    return wattle_cut(w);
  }
  *b = (wattle_bytes){n > 0 ? w->in + w->r : "", (size_t)n};
  w->r += (size_t)n;
  return true;
}

/* Passes over n bytes without asking the host for them. */
WATTLE_API void wattle_skip(wattle *w, uint64_t n) {
  size_t have = w->w - w->r;
  if (n < have) {
    w->r += (size_t)n;
  } else {
    w->r = w->w;
    w->off += n - have;
  }
}

/* Keeps bytes behind the first at of text. */
WATTLE_API void wattle_keep(wattle *w, size_t at, wattle_bytes b) {
  if (at + b.len + 1 > w->text_cap) {
    w->text_cap = 2 * (at + b.len) + 256;
    w->text = wattle_resize(w->text, w->text_cap);
  }
  memcpy(w->text + at, b.data, b.len);
  w->text[at + b.len] = 0;
}

static bool wattle_wants(wattle *w, const char *input);

/* Answers the next part of a split, and NULL after the last. What is left of the part before is skipped. */
WATTLE_API const wattle_part *wattle_next_part(wattle *w) {
  if (w->fault != NULL || !wattle_wants(w, "split")) {
    return NULL;
  }
  wattle_skip(w, w->part.left);
  w->part.left = 0;
  uint64_t name, header;
  wattle_bytes b;
  if (!wattle_length(w, &name, true) || !wattle_take(w, name, &b)) {
    return NULL;
  }
  wattle_keep(w, 0, b);
  if (!wattle_length(w, &w->part.offset, false) || !wattle_length(w, &header, false) || !wattle_take(w, header, &b)) {
    return NULL;
  }
  wattle_keep(w, (size_t)name + 1, b);
  if (!wattle_length(w, &w->part.left, false)) {
    return NULL;
  }
  w->part.name = (wattle_bytes){w->text, (size_t)name};
  w->part.header = (wattle_bytes){w->text + name + 1, (size_t)header};
  return &w->part;
}

/* Answers the next piece of the part, cut anywhere, valid until the next read; its len is 0 at the end. It is the fastest way to
   read a part. */
WATTLE_API wattle_bytes wattle_block(wattle *w) {
  if (w->part.left == 0 || w->fault != NULL) {
    return (wattle_bytes){NULL, 0};
  }
  if (!wattle_fill(w, 1)) {
    wattle_cut(w);
    return (wattle_bytes){NULL, 0};
  }
  size_t n = w->w - w->r;
  n = n < w->part.left ? n : (size_t)w->part.left;
  wattle_bytes b = {w->in + w->r, n};
  w->r += n;
  w->part.left -= n;
  return b;
}

/* Reads the next line of the part, without its end ("\n" or "\r\n"), valid until the next read. */
WATTLE_API bool wattle_line(wattle *w, wattle_bytes *line) {
  for (size_t seen = 0; w->part.left > 0 && w->fault == NULL;) {
    size_t have = w->w - w->r;
    have = have < w->part.left ? have : (size_t)w->part.left;
    const char *from = w->in + w->r, *end = have > seen ? memchr(from + seen, '\n', have - seen) : NULL;
    if (end == NULL && have < w->part.left) {
      seen = have;
      if (!wattle_fill(w, have + 1)) {
        return wattle_cut(w);
      }
      continue;
    }
    size_t n = end == NULL ? have : (size_t)(end - from), used = end == NULL ? n : n + 1;
    w->r += used;
    w->part.left -= used;
    *line = (wattle_bytes){from, end != NULL && n > 0 && from[n - 1] == '\r' ? n - 1 : n};
    return true;
  }
  return false;
}

/* Reads the next key of groups, valid until the next key; keys come in ascending order of their bytes, each once. Values that
   are left of the key before are skipped. */
WATTLE_API bool wattle_next_group(wattle *w, wattle_bytes *key) {
  uint64_t n;
  while (w->in_group && w->fault == NULL && wattle_length(w, &n, false)) {
    w->in_group = n > 0;
    wattle_skip(w, n > 0 ? n - 1 : 0);
  }
  wattle_bytes b;
  if (w->fault != NULL || !wattle_wants(w, "groups") || !wattle_length(w, &n, true) || !wattle_take(w, n, &b)) {
    return false;
  }
  wattle_keep(w, 0, b);
  *key = (wattle_bytes){w->text, (size_t)n};
  w->in_group = true;
  return true;
}

/* Reads the next value of the key, valid until the next read. */
WATTLE_API bool wattle_next_value(wattle *w, wattle_bytes *value) {
  uint64_t n;
  if (!w->in_group || w->fault != NULL || !wattle_length(w, &n, false)) {
    return false;
  }
  w->in_group = n > 0;
  return n > 0 && wattle_take(w, n - 1, value);
}

/* Adds up the values that are left of the key, numbers as wattle_emit_int writes them. */
WATTLE_API int64_t wattle_sum_values(wattle *w) {
  int64_t sum = 0, n;
  for (wattle_bytes v; wattle_next_value(w, &v); sum += n) {
    if (!wattle_int(v, &n)) {
      wattle_broken(w, 2, "a value is not the whole number that the function takes");
      break;
    }
  }
  return sum;
}
