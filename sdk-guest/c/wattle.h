/*
 * wattle.h is for writing Wattle functions in C. It needs clang with wasi-libc and nothing else:
 *
 *   clang --target=wasm32-wasi -O2 -mexec-model=reactor -Wl,--strip-all -o functions.wasm functions.c
 *
 * A function is defined by one of
 *
 *   WATTLE_CALL(name, "what it does")    { ... }   bytes to bytes
 *   WATTLE_MAP(name, "what it does")     { ... }   parts of files to records, each a key and a value
 *   WATTLE_COMBINE(name, "what it does") { ... }   values of a key to one value, so that less has to travel
 *   WATTLE_REDUCE(name, "what it does")  { ... }   keys with all their values to records, or to bytes
 *
 * and finds its call in w. It answers 0, or what wattle_fail or wattle_fail_for_good answer. It reaches no network and no
 * files. Each call runs in an instance of its own: what a function leaves in variables is gone at the next call. Outside of
 * WebAssembly functions do nothing by themselves; wattle_test.h runs them in plain tests.
 *
 * What functions of this header answer is valid until the call ends, where nothing else is said.
 */
#ifndef WATTLE_H
#define WATTLE_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Bytes. data is NULL where there are none to speak of, as opposed to an empty run of them. */
typedef struct {
  const char *data;
  size_t len;
} wattle_bytes;

/* A piece of a file, cut where a line ends. The header is the file's first line, where the job says that files have one. */
typedef struct {
  wattle_bytes name, header;
  uint64_t offset; /* where the part begins in its file */
  uint64_t left;   /* bytes that are not read yet */
} wattle_part;

enum { WATTLE_DEBUG, WATTLE_INFO, WATTLE_WARN, WATTLE_ERROR };

enum { WATTLE_BLOCK = 64 << 10 };

/* A call. All but the function's name and the refusal belongs to this header. */
typedef struct {
  const char *function;
  const char *refusal; /* why the host refused what it was asked for last, NULL where it did not */
  const char *fault; /* what went wrong below the function, which may not have noticed */
  int fault_status;
  char *in; /* in[r..w) is read from the host and not used yet */
  size_t r, w, cap;
  uint64_t off; /* of in[w] in the input */
  bool checked, in_group, wrote, emitted;
  wattle_part part;
  char *text; /* the part's name and header, or the group's key */
  size_t text_cap;
  char *batch; /* records on their way to the host */
  size_t batch_len, batch_cap;
  struct wattle_sum *sums; /* what wattle_add has seen */
  size_t sums_used;
  int sums_bits;
  char *keys;
  size_t keys_len, keys_cap;
  wattle_bytes context;
  struct wattle_owned *owned;
} wattle;

/* ---- The host. docs/abi.md of Wattle says what these do. ---- */

#ifdef __wasm__
#define WATTLE_IMPORT(name) __attribute__((import_module("wattle"), import_name(name)))
#define WATTLE_EXPORT(name) __attribute__((export_name(name)))
#else
#define WATTLE_IMPORT(name)
#define WATTLE_EXPORT(name)
#endif
#define WATTLE_API static inline __attribute__((unused))
#define WATTLE_FORMAT __attribute__((unused, format(printf, 2, 3)))

WATTLE_IMPORT("input_len") int64_t wattle_abi_input_len(void);
WATTLE_IMPORT("input_read") uint32_t wattle_abi_input_read(void *to, size_t len, int64_t off);
WATTLE_IMPORT("output_write") void wattle_abi_output_write(const void *p, size_t len);
WATTLE_IMPORT("error_write") void wattle_abi_error_write(const void *p, size_t len);
WATTLE_IMPORT("log") void wattle_abi_log(int32_t level, const void *p, size_t len);
WATTLE_IMPORT("emit") void wattle_abi_emit(const void *p, size_t len);
WATTLE_IMPORT("host_call") int64_t wattle_abi_host_call(int32_t op, void *p, size_t len);

/* ---- Memory ---- */

struct wattle_owned {
  struct wattle_owned *next;
  max_align_t bytes[];
};

/* realloc that does not fail: out of memory is a crash, which the host explains better than a function can. */
WATTLE_API void *wattle_resize(void *p, size_t n) {
  p = realloc(p, n ? n : 1);
  if (p == NULL) {
    abort();
  }
  return p;
}

/* Answers n bytes that are freed when the call ends. */
WATTLE_API void *wattle_alloc(wattle *w, size_t n) {
  struct wattle_owned *o = wattle_resize(NULL, sizeof *o + n);
  o->next = w->owned;
  w->owned = o;
  return o->bytes;
}

/* ---- Errors, log, output ---- */

WATTLE_API wattle_bytes wattle_vformat(wattle *w, const char *format, va_list args) {
  va_list again;
  va_copy(again, args);
  int n = vsnprintf(NULL, 0, format, again);
  va_end(again);
  n = n < 0 ? 0 : n;
  char *text = wattle_alloc(w, (size_t)n + 1);
  *text = 0;
  vsnprintf(text, (size_t)n + 1, format, args);
  return (wattle_bytes){text, (size_t)n};
}

#define WATTLE_FORMATTED(text)                         \
  va_list args;                                        \
  va_start(args, format);                              \
  wattle_bytes text = wattle_vformat(w, format, args); \
  va_end(args)

/* Formats like printf; the text has a NUL behind it. */
WATTLE_FORMAT static wattle_bytes wattle_format(wattle *w, const char *format, ...) {
  WATTLE_FORMATTED(text);
  return text;
}

/* Answers the status of a function that failed; a job tries again. */
WATTLE_FORMAT static int wattle_fail(wattle *w, const char *format, ...) {
  WATTLE_FORMATTED(text);
  wattle_abi_error_write(text.data, text.len);
  return 1;
}

/* Answers the status of a function that failed and would fail again; a job does not retry. */
WATTLE_FORMAT static int wattle_fail_for_good(wattle *w, const char *format, ...) {
  WATTLE_FORMATTED(text);
  wattle_abi_error_write(text.data, text.len);
  return 2;
}

/* Logs one line. */
__attribute__((unused, format(printf, 3, 4))) static void wattle_log(wattle *w, int level, const char *format, ...) {
  WATTLE_FORMATTED(text);
  wattle_abi_log(level, text.data, text.len);
}

/* Appends to the output. A reducer writes or emits, not both; mappers and combiners emit. */
WATTLE_API void wattle_write(wattle *w, const void *p, size_t len) {
  w->wrote = true;
  wattle_abi_output_write(p, len);
}

WATTLE_FORMAT static void wattle_print(wattle *w, const char *format, ...) {
  WATTLE_FORMATTED(text);
  wattle_write(w, text.data, text.len);
}

/* Remembers what went wrong first; the call fails with it whatever the function answers. */
WATTLE_API void wattle_broken(wattle *w, int status, const char *why) {
  if (w->fault == NULL) {
    w->fault = why;
    w->fault_status = status;
  }
}

#include "records.h"
#include "input.h"
#include "json.h"
#include "capabilities.h"

/* ---- Registration ---- */

struct wattle_function {
  const char *name, *kind, *description;
  int (*run)(wattle *w);
  struct wattle_function *next;
};

/* Weak, so that a program of several files has one list. */
__attribute__((weak)) struct wattle_function *wattle_functions;

WATTLE_API void wattle_end(wattle *w) {
  free(w->in);
  free(w->text);
  free(w->batch);
  free(w->sums);
  free(w->keys);
  for (struct wattle_owned *o = w->owned, *next; o != NULL; o = next) {
    next = o->next;
    free(o);
  }
}

WATTLE_API int wattle_run(const struct wattle_function *f) {
  wattle w = {.function = f->name};
  int status = f->run(&w);
  if (status == 0 && w.fault == NULL) {
    wattle_flush_sums(&w);
    wattle_flush_batch(&w);
    if (w.emitted && w.wrote) {
      wattle_broken(&w, 2, "the function emitted records and wrote to its output; it may do one of them only");
    }
  }
  if (w.fault != NULL) {
    wattle_abi_error_write(w.fault, strlen(w.fault));
    status = w.fault_status;
  }
  wattle_end(&w);
  return status;
}

WATTLE_EXPORT("wattle_describe") __attribute__((weak)) int wattle_describe(void) {
  wattle w = {.function = "wattle_describe"};
  const char *before = "{\"abi\":1,\"functions\":[";
  for (const struct wattle_function *f = wattle_functions; f != NULL; f = f->next) {
    wattle_write(&w, before, strlen(before));
    before = ",";
    const char *members[] = {"{\"name\":", f->name, ",\"kind\":", f->kind, ",\"description\":", f->description};
    for (int i = 0; i < 6; i += 2) {
      wattle_write(&w, members[i], strlen(members[i]));
      wattle_write_json(&w, members[i + 1], strlen(members[i + 1]));
    }
    wattle_write(&w, "}", 1);
  }
  wattle_write(&w, "]}", 2);
  wattle_end(&w);
  return 0;
}

#define WATTLE_DEFINE(name, kind, description)                                                                        \
  static int wattle_body_##name(wattle *w);                                                                           \
  static struct wattle_function wattle_function_##name = {#name, kind, description, wattle_body_##name, NULL};        \
  __attribute__((constructor)) static void wattle_register_##name(void) {                                             \
    wattle_function_##name.next = wattle_functions;                                                                   \
    wattle_functions = &wattle_function_##name;                                                                       \
  }                                                                                                                   \
  int wattle_export_##name(void);                                                                                     \
  WATTLE_EXPORT(#name) int wattle_export_##name(void) { return wattle_run(&wattle_function_##name); }                 \
  static int wattle_body_##name(wattle *w)

#define WATTLE_CALL(name, description) WATTLE_DEFINE(name, "call", description)
#define WATTLE_MAP(name, description) WATTLE_DEFINE(name, "map", description)
#define WATTLE_COMBINE(name, description) WATTLE_DEFINE(name, "combine", description)
#define WATTLE_REDUCE(name, description) WATTLE_DEFINE(name, "reduce", description)

#endif
