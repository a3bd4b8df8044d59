/*
 * wattle_test.h runs Wattle functions in plain tests, without WebAssembly: input goes in, output or records come out, log
 * lines go to stderr. Include the functions' source first, then this, and build it as a program of the machine.
 *
 * It does not bound time or memory. What a run answers is valid until the next one.
 */
#ifndef WATTLE_TEST_H
#define WATTLE_TEST_H

#include "wattle.h"

/* What a function can learn of its call: a JSON object of texts, or NULL. */
static const char *wattle_test_params;

/* The call's trace context, or NULL. */
static const char *wattle_test_traceparent;

/* The secrets that functions are granted: a JSON object of texts, or NULL where wattle_test_ask answers for them. */
static const char *wattle_test_secrets;

/* Answers what functions ask of the host, by the numbers of docs/abi.md, and whether it is granted; a refusal's reply is JSON with a
   reason and a message. Without it all else is denied. */
static bool (*wattle_test_ask)(int op, wattle_bytes request, wattle_bytes *reply);

typedef struct {
  int status;         /* 0 done, 1 failed, 2 failed for good */
  const char *output; /* what was written, with a NUL behind it */
  size_t output_len;
  const char *error;
  const char *records; /* what was emitted, a line of key, tab, value for each */
} wattle_test_result;

struct wattle_test_text {
  char *data;
  size_t len, cap;
};

static struct {
  const char *function, *input;
  struct wattle_test_text in, out, error, records, reply;
  bool stream;
} wattle_test_host;

static void wattle_test_append(struct wattle_test_text *t, const void *p, size_t len) {
  if (t->len + len + 1 > t->cap) {
    t->cap = 2 * (t->len + len + 1);
    t->data = wattle_resize(t->data, t->cap);
  }
  memcpy(t->data + t->len, p, len);
  t->len += len;
  t->data[t->len] = 0;
}

int64_t wattle_abi_input_len(void) { return wattle_test_host.stream ? -1 : (int64_t)wattle_test_host.in.len; }

uint32_t wattle_abi_input_read(void *to, size_t len, int64_t off) {
  size_t left = (uint64_t)off < wattle_test_host.in.len ? wattle_test_host.in.len - (size_t)off : 0;
  len = len < left ? len : left;
  memcpy(to, wattle_test_host.in.data + (left > 0 ? off : 0), len);
  return (uint32_t)len;
}

void wattle_abi_output_write(const void *p, size_t len) { wattle_test_append(&wattle_test_host.out, p, len); }

void wattle_abi_error_write(const void *p, size_t len) { wattle_test_append(&wattle_test_host.error, p, len); }

void wattle_abi_log(int32_t level, const void *p, size_t len) {
  static const char *const names[] = {"debug", "info", "warn", "error"};
  fprintf(stderr, "%s: %.*s\n", names[level & 3], (int)len, (const char *)p);
}

static size_t wattle_test_varint(const uint8_t *p, size_t *at) {
  size_t n = 0;
  for (int shift = 0;; shift += 7) {
    uint8_t c = p[(*at)++];
    n |= (size_t)(c & 0x7f) << shift;
    if (c < 0x80) {
      return n;
    }
  }
}

void wattle_abi_emit(const void *batch, size_t len) {
  for (size_t at = 0, i = 0; at < len; i++) {
    size_t n = wattle_test_varint(batch, &at);
    wattle_test_append(&wattle_test_host.records, (const char *)batch + at, n);
    wattle_test_append(&wattle_test_host.records, &"\t\n"[i % 2], 1);
    at += n;
  }
}

/* Answers a secret, and whether there is one. */
static bool wattle_test_secret(wattle *w, wattle_bytes name, wattle_bytes *reply) {
  wattle_bytes member = wattle_format(w, "%.*s", (int)name.len, name.data), all = {wattle_test_secrets, strlen(wattle_test_secrets)};
  wattle_bytes value = wattle_json_text(w, wattle_json_get(w, all, member.data));
  bool known = value.data != NULL;
  *reply = known ? value : wattle_format(w, "{\"reason\":\"unknown_secret\",\"message\":\"the test has no such secret\"}");
  return known;
}

int64_t wattle_abi_host_call(int32_t op, void *p, size_t len) {
  struct wattle_test_text *reply = &wattle_test_host.reply;
  if (op == 0) {
    len = len < reply->len ? len : reply->len;
    memcpy(p, reply->data, len);
    return (int64_t)len;
  }
  if (op != 1) {
    const char *denied = "{\"reason\":\"capability_denied\",\"message\":\"the test does not grant it\"}";
    wattle_bytes request = {p, len}, answer = {denied, strlen(denied)};
    wattle w = {0};
    bool granted = op == 6 && wattle_test_secrets != NULL ? wattle_test_secret(&w, request, &answer)
                                                          : wattle_test_ask != NULL && wattle_test_ask(op, request, &answer);
    reply->len = 0;
    wattle_test_append(reply, answer.data, answer.len);
    wattle_end(&w);
    return granted ? (int64_t)answer.len : -2 - (int64_t)answer.len;
  }
  const char *texts[] = {"{\"service\":\"test\",\"function\":\"", wattle_test_host.function, "\",\"input\":\"", wattle_test_host.input,
                         "\",\"traceparent\":\"", wattle_test_traceparent ? wattle_test_traceparent : "",
                         "\",\"params\":", wattle_test_params ? wattle_test_params : "null", "}"};
  reply->len = 0;
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    wattle_test_append(reply, texts[i], strlen(texts[i]));
  }
  return (int64_t)reply->len;
}

/* Puts a length, that of the text or one more, and the text into the input. */
static void wattle_test_put(const char *text, size_t len, size_t more) {
  char varint[10];
  wattle_test_append(&wattle_test_host.in, varint, (size_t)(wattle_varint(varint, len + more) - varint));
  wattle_test_append(&wattle_test_host.in, text, len);
}

static wattle_test_result wattle_test_run(const char *function, const char *input) {
  wattle_test_result r = {.status = -1, .error = "there is no function of that name"};
  for (const struct wattle_function *f = wattle_functions; f != NULL; f = f->next) {
    if (strcmp(f->name, function) == 0) {
      wattle_test_host.function = function;
      wattle_test_host.input = input;
      wattle_test_host.out.len = wattle_test_host.error.len = wattle_test_host.records.len = 0;
      wattle_test_append(&wattle_test_host.out, "", 0);
      wattle_test_append(&wattle_test_host.error, "", 0);
      wattle_test_append(&wattle_test_host.records, "", 0);
      r.status = wattle_run(f);
      r.output = wattle_test_host.out.data;
      r.output_len = wattle_test_host.out.len;
      r.error = wattle_test_host.error.data;
      r.records = wattle_test_host.records.data;
    }
  }
  wattle_test_host.in.len = 0;
  return r;
}

/* Runs a function from bytes to bytes. */
static inline wattle_test_result wattle_test_call(const char *function, const char *input) {
  wattle_test_host.stream = false;
  wattle_test_append(&wattle_test_host.in, input, strlen(input));
  return wattle_test_run(function, "bytes");
}

/* Runs a mapper on one part with the text. */
static inline wattle_test_result wattle_test_map(const char *function, const char *text) {
  wattle_test_host.stream = false;
  wattle_test_put("test.txt", 8, 0);
  wattle_test_append(&wattle_test_host.in, "\0\0", 2);
  wattle_test_put(text, strlen(text), 0);
  return wattle_test_run(function, "split");
}

/* Runs a combiner or reducer on records, written as a result has them and sorted by key. */
static inline wattle_test_result wattle_test_reduce(const char *function, const char *records) {
  wattle_test_host.stream = true;
  const char *key = NULL;
  size_t key_len = 0;
  for (const char *p = records; *p != 0;) {
    size_t len = strcspn(p, "\t"), value_len;
    if (key == NULL || len != key_len || memcmp(p, key, len) != 0) {
      if (key != NULL) {
        wattle_test_append(&wattle_test_host.in, "", 1);
      }
      wattle_test_put(p, len, 0);
      key = p;
      key_len = len;
    }
    p += len + (p[len] == '\t');
    value_len = strcspn(p, "\n");
    wattle_test_put(p, value_len, 1);
    p += value_len + (p[value_len] == '\n');
  }
  if (key != NULL) {
    wattle_test_append(&wattle_test_host.in, "", 1);
  }
  return wattle_test_run(function, "groups");
}

/* Ends the program unless a condition holds. */
#define WATTLE_EXPECT(condition)                                                   \
  do {                                                                             \
    if (!(condition)) {                                                            \
      fprintf(stderr, "%s:%d: expected %s\n", __FILE__, __LINE__, #condition);     \
      exit(1);                                                                     \
    }                                                                              \
  } while (0)

#endif
