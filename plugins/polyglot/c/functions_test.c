#include "functions.c"
#include "wattle/wattle_test.h"

/* A cache of one entry, and one setting. */
static bool granted(int op, wattle_bytes request, wattle_bytes *reply) {
  static char entry[16];
  static size_t len = 8;
  if (op == 10) {
    entry[0]++;
    len = 8 + request.len - 1 - (size_t)request.data[0];
    memcpy(entry + 8, request.data + 1 + request.data[0], len - 8);
    *reply = (wattle_bytes){"\0\0\0\0\0\0\0\0\1", 9};
  } else {
    *reply = op == 9 ? (wattle_bytes){entry, len} : (wattle_bytes){"Hello", 5};
  }
  return true;
}

int main(void) {
  wattle_test_result r = wattle_test_call("echo", "hello");
  WATTLE_EXPECT(r.status == 0 && strcmp(r.output, "hello") == 0);

  r = wattle_test_call("visit", "");
  WATTLE_EXPECT(r.status == 2 && strcmp(r.error, "capability_denied") == 0);
  wattle_test_ask = granted;
  r = wattle_test_call("visit", "");
  WATTLE_EXPECT(r.status == 0 && strcmp(r.output, "Hello 1") == 0);
  r = wattle_test_call("visit", "");
  WATTLE_EXPECT(r.status == 0 && strcmp(r.output, "Hello 2") == 0);

  r = wattle_test_map("map", "The lake, the LAKE!\n\xc3\x84pfel2go");
  WATTLE_EXPECT(r.status == 0 && strlen(r.records) == strlen("the\t2\nlake\t2\npfel\t1\ngo\t1\n"));
  WATTLE_EXPECT(strstr(r.records, "lake\t2\n") && strstr(r.records, "pfel\t1\n"));

  r = wattle_test_reduce("reduce", "lake\t2\nthe\t2\nthe\t10\n");
  WATTLE_EXPECT(r.status == 0 && strcmp(r.records, "lake\t2\nthe\t12\n") == 0);

  r = wattle_test_reduce("sum", "the\tx\n");
  WATTLE_EXPECT(r.status == 2 && strstr(r.error, "whole number"));

  r = wattle_test_call("map", "hello");
  WATTLE_EXPECT(r.status == 2 && strstr(r.error, "not given a split"));
  return 0;
}
