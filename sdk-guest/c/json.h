/* ---- JSON, as much as a context and small requests need ---- */

WATTLE_API const char *wattle_json_space(const char *p, const char *end) {
  while (p < end && (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r')) {
    p++;
  }
  return p;
}

/* Answers where the value at p ends. */
WATTLE_API const char *wattle_json_end(const char *p, const char *end) {
  int depth = 0;
  do {
    if (p < end && *p == '"') {
      for (p++; p < end && *p != '"'; p++) {
        p += *p == '\\' && end - p > 1;
      }
      p += p < end;
    } else if (p < end && (*p == '{' || *p == '[')) {
      depth++;
      p++;
    } else if (p < end && (*p == '}' || *p == ']')) {
      if (depth == 0) {
        return p;
      }
      depth--;
      p++;
    } else if (depth > 0) {
      p += p < end;
    } else {
      while (p < end && strchr(",]} \t\n\r", *p) == NULL) {
        p++;
      }
    }
  } while (depth > 0 && p < end);
  return p;
}

WATTLE_API int32_t wattle_json_hex(const char *p, const char *end) {
  int32_t v = 0;
  for (int i = 0; i < 4; i++, p++) {
    const char *digits = "0123456789abcdef", *d = p < end && *p != 0 ? strchr(digits, *p | 0x20) : NULL;
    if (d == NULL) {
      return -1;
    }
    v = v * 16 + (int32_t)(d - digits);
  }
  return v;
}

/* Answers the text of a JSON string, with a NUL behind it; no data where json is none. */
WATTLE_API wattle_bytes wattle_json_text(wattle *w, wattle_bytes json) {
  const char *p = json.data, *end = p + json.len;
  if (json.len < 2 || *p != '"' || end[-1] != '"') {
    return (wattle_bytes){NULL, 0};
  }
  char *text = wattle_alloc(w, json.len), *to = text;
  for (p++, end--; p < end; p++) {
    if (*p != '\\' || end - p < 2) {
      *to++ = *p;
      continue;
    }
    static const char from[] = "bfnrt", escaped[] = "\b\f\n\r\t";
    const char *known = strchr(from, *++p);
    if (*p != 'u') {
      *to++ = known != NULL && *p != 0 ? escaped[known - from] : *p;
      continue;
    }
    int32_t c = wattle_json_hex(p + 1, end), low;
    p += c < 0 ? 0 : 4;
    if (c >= 0xd800 && c < 0xdc00 && end - p > 6 && p[1] == '\\' && p[2] == 'u' && (low = wattle_json_hex(p + 3, end)) >= 0xdc00 && low < 0xe000) {
      c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
      p += 6;
    }
    if (c < 0 || (c >= 0xd800 && c < 0xe000)) {
      c = 0xfffd;
    }
    if (c < 0x80) {
      *to++ = (char)c;
      continue;
    }
    int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    *to++ = (char)((0xff00 >> (more + 1) & 0xff) | c >> 6 * more);
    while (more-- > 0) {
      *to++ = (char)(0x80 | (c >> 6 * more & 0x3f));
    }
  }
  *to = 0;
  return (wattle_bytes){text, (size_t)(to - text)};
}

/* Answers the JSON of a member of a JSON object; no data where there is none. It does not check that all is JSON. */
WATTLE_API wattle_bytes wattle_json_get(wattle *w, wattle_bytes object, const char *member) {
  const char *end = object.data + object.len, *p = wattle_json_space(object.data, end);
  if (p < end && *p == '{') {
    for (p = wattle_json_space(p + 1, end); p < end && *p == '"';) {
      const char *name_end = wattle_json_end(p, end);
      wattle_bytes name = wattle_json_text(w, (wattle_bytes){p, (size_t)(name_end - p)});
      p = wattle_json_space(name_end, end);
      if (p == end || *p != ':') {
        break;
      }
      p = wattle_json_space(p + 1, end);
      const char *value_end = wattle_json_end(p, end);
      if (name.data != NULL && strlen(member) == name.len && memcmp(name.data, member, name.len) == 0) {
        return (wattle_bytes){p, (size_t)(value_end - p)};
      }
      p = wattle_json_space(value_end, end);
      p = wattle_json_space(p < end && *p == ',' ? p + 1 : end, end);
    }
  }
  return (wattle_bytes){NULL, 0};
}

/* Answers a text as a JSON string, with a NUL behind it. */
WATTLE_API wattle_bytes wattle_json_quote(wattle *w, const char *text, size_t len) {
  char *json = wattle_alloc(w, 6 * len + 3), *to = json;
  *to++ = '"';
  for (size_t i = 0; i < len; i++) {
    uint8_t c = (uint8_t)text[i];
    static const char controls[] = "\b\f\n\r\t", letters[] = "bfnrt";
    const char *control = c > 0 ? strchr(controls, c) : NULL;
    if (control != NULL) {
      *to++ = '\\';
      c = (uint8_t)letters[control - controls];
    } else if (c < 0x20) {
      memcpy(to, "\\u00", 4);
      to[4] = (char)('0' + (c >> 4));
      to[5] = "0123456789abcdef"[c & 15];
      to += 6;
      continue;
    } else if (c == '"' || c == '\\') {
      *to++ = '\\';
    }
    *to++ = (char)c;
  }
  *to++ = '"';
  *to = 0;
  return (wattle_bytes){json, (size_t)(to - json)};
}

/* Writes a text as a JSON string. */
WATTLE_API void wattle_write_json(wattle *w, const char *text, size_t len) {
  wattle_bytes json = wattle_json_quote(w, text, len);
  wattle_write(w, json.data, json.len);
}

/* ---- The call ---- */

/* What the host tells of the call, a JSON object: service, version, function, job, stage, task, attempt, deadline_unix_ms, traceparent,
   params. */
WATTLE_API wattle_bytes wattle_context(wattle *w) {
  if (w->context.data == NULL) {
    int64_t n = wattle_abi_host_call(1, NULL, 0);
    char *p = wattle_alloc(w, n > 0 ? (size_t)n : 1);
    w->context = (wattle_bytes){p, n > 0 ? (size_t)wattle_abi_host_call(0, p, (size_t)n) : 0};
  }
  return w->context;
}

/* Answers the call's W3C trace context; no data where there is none. Pass it on as the header or field "traceparent" to what is called other
   than by the host; calls and HTTP requests made through the host carry it already. */
WATTLE_API wattle_bytes wattle_traceparent(wattle *w) { return wattle_json_text(w, wattle_json_get(w, wattle_context(w), "traceparent")); }

/* Answers a parameter of the job's stage; no data where there is none. */
WATTLE_API wattle_bytes wattle_param(wattle *w, const char *name) {
  return wattle_json_text(w, wattle_json_get(w, wattle_json_get(w, wattle_context(w), "params"), name));
}

/* Checks that the function runs where it can: the input of another kind would be read as nonsense. */
static inline bool wattle_wants(wattle *w, const char *input) {
  if (!w->checked) {
    w->checked = true;
    wattle_bytes got = wattle_json_text(w, wattle_json_get(w, wattle_context(w), "input"));
    if (got.len > 0 && strcmp(got.data, input) != 0) {
      wattle_broken(w, 2, *input == 's' ? "the function reads parts of files, but was not given a split: run it in a stage of a job that fits its kind"
                                        : "the function reads groups, but was not given any: run it in a stage of a job that fits its kind");
    }
  }
  return w->fault == NULL;
}
