/* What wattle.h promises, on the machine it is built on. */
#include "wattle.h"
#include "wattle_test.h"

WATTLE_CALL(upper, "a \"quoted\" text") {
  char c;
  while (wattle_read(w, &c, 1) > 0) {
    c = (char)(c >= 'a' && c <= 'z' ? c - 32 : c);
    wattle_write(w, &c, 1);
  }
  return 0;
}

WATTLE_CALL(fail, "") {
  wattle_bytes in = wattle_input(w);
  return in.len > 0 ? wattle_fail_for_good(w, "no luck: %s", in.data) : wattle_fail(w, "no luck");
}

WATTLE_CALL(both, "") {
  wattle_emit_int(w, "k", 1, -5);
  wattle_print(w, "%d", 5);
  return 0;
}

WATTLE_CALL(param, "") {
  wattle_bytes p = wattle_param(w, wattle_input(w).data);
  return p.data == NULL ? wattle_fail(w, "none") : (wattle_write_json(w, p.data, p.len), 0);
}

WATTLE_CALL(traceparent, "") {
  wattle_print(w, "<%s>", wattle_traceparent(w).data);
  return 0;
}

WATTLE_MAP(lines, "") {
  for (const wattle_part *part; (part = wattle_next_part(w)) != NULL;) {
    wattle_emit(w, part->name.data, part->name.len, part->header.data, part->header.len);
    for (wattle_bytes line; wattle_line(w, &line);) {
      wattle_emit_int(w, line.data, line.len > 30 ? 30 : line.len, (int64_t)line.len);
      if (line.len == 4 && memcmp(line.data, "stop", 4) == 0) {
        break; /* the rest is skipped */
      }
    }
  }
  return 0;
}

WATTLE_MAP(blocks, "") {
  size_t n = 0;
  while (wattle_next_part(w) != NULL) {
    for (wattle_bytes b; (b = wattle_block(w)).len > 0;) {
      n += b.len;
    }
  }
  wattle_emit_int(w, "n", 1, (int64_t)n);
  return 0;
}

WATTLE_MAP(letters, "") {
  while (wattle_next_part(w) != NULL) {
    for (wattle_bytes line; wattle_line(w, &line);) {
      wattle_add(w, line.data, line.len, 1);
    }
  }
  return 0;
}

WATTLE_REDUCE(first, "") {
  for (wattle_bytes key, value; wattle_next_group(w, &key);) {
    if (wattle_next_value(w, &value)) {
      wattle_print(w, "%.*s=%.*s;", (int)key.len, key.data, (int)value.len, value.data);
    }
  }
  return 0;
}

WATTLE_COMBINE(sum, "") {
  for (wattle_bytes key; wattle_next_group(w, &key);) {
    wattle_emit_int(w, key.data, key.len, wattle_sum_values(w));
  }
  return 0;
}

WATTLE_CALL(asks, "") {
  wattle_bytes value, answer;
  uint64_t version, expect = 7;
  wattle_print(w, "%s ", wattle_config(w, "currency").data);
  int status = wattle_http(w, "POST", "https://example.com/\"", NULL, "body", 4, &answer);
  wattle_print(w, "%d %.*s ", status, (int)answer.len, answer.data);
  wattle_print(w, "%d ", wattle_call_service(w, "prices", "", "get", NULL, 0, &answer));
  wattle_print(w, "%.*s ", (int)answer.len, answer.data);
  wattle_print(w, "%d ", wattle_cache_get(w, "k", &value, &version));
  wattle_print(w, "%d %.*s ", (int)version, (int)value.len, value.data);
  wattle_print(w, "%d ", wattle_cache_put(w, "k", "v", 1, 5, &expect));
  wattle_print(w, "%d", (int)expect);
  return 0;
}

WATTLE_CALL(denied, "") {
  wattle_bytes answer;
  bool none = wattle_config(w, "currency").data == NULL && wattle_http(w, "GET", "https://example.com", "{}", NULL, 0, &answer) == 0;
  wattle_print(w, "%d %s: %s", none, w->refusal, answer.data);
  return 0;
}

WATTLE_CALL(secret, "") {
  wattle_bytes value;
  bool ok = wattle_secret(w, wattle_input(w).data, &value);
  wattle_print(w, "%d %s: %.*s", ok, ok ? "" : w->refusal, (int)value.len, value.data);
  return 0;
}

static bool granted(int op, wattle_bytes request, wattle_bytes *reply) {
  static const char *const requests[] = {
      [5] = "currency", [9] = "k",
      [7] = "\x3d{\"method\":\"POST\",\"url\":\"https://example.com/\\\"\",\"headers\":{}}body",
      [8] = "\x32{\"service\":\"prices\",\"version\":\"\",\"function\":\"get\"}",
      [10] = "\x21{\"key\":\"k\",\"ttl_ms\":5,\"expect\":7}v"};
  WATTLE_EXPECT(op <= 10 && request.len == strlen(requests[op]) && memcmp(request.data, requests[op], request.len) == 0);
  static const wattle_bytes replies[] = {
      [5] = {"EUR", 3}, [7] = {"\x0e{\"status\":418}short", 20}, [8] = {"12", 2}, [9] = {"\3\0\0\0\0\0\0\0old", 11}, [10] = {"\4\0\0\0\0\0\0\0\1", 9}};
  *reply = replies[op];
  return true;
}

static void integers(void) {
  struct { const char *text; bool ok; int64_t n; } cases[] = {
      {"0", true, 0}, {"-7", true, -7}, {"9223372036854775807", true, INT64_MAX}, {"-9223372036854775808", true, INT64_MIN},
      {"9223372036854775808", false, 0}, {"-9223372036854775809", false, 0}, {"99999999999999999999", false, 0},
      {"", false, 0}, {"-", false, 0}, {"01", false, 0}, {"1.5", false, 0}, {"x", false, 0}, {" 1", false, 0},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    int64_t n = 0;
    WATTLE_EXPECT(wattle_int((wattle_bytes){cases[i].text, strlen(cases[i].text)}, &n) == cases[i].ok && n == cases[i].n);
  }
}

static void json(void) {
  wattle w = {0};
#define GET(object, member) wattle_json_get(&w, (wattle_bytes){object, strlen(object)}, member)
#define IS(bytes, text) ((bytes).data != NULL && (bytes).len == strlen(text) && memcmp((bytes).data, text, (bytes).len) == 0)
  WATTLE_EXPECT(IS(GET(" { \"a\" : [1,{\"b\":\"]\"}] , \"b\":2}", "b"), "2"));
  WATTLE_EXPECT(IS(GET("{\"a\":[1,{\"b\":\"]\"}],\"b\":2}", "a"), "[1,{\"b\":\"]\"}]"));
  WATTLE_EXPECT(IS(GET("{\"\\u0061\":\"x\\\"y\"}", "a"), "\"x\\\"y\""));
  const char *broken[] = {"", "{", "[1]", "{\"a", "{\"a\"", "{\"a\":", "{\"b\":1,", "{\"a\\", "null", "{\"b\":[", "{\"b\":]", "{]"};
  for (size_t i = 0; i < sizeof broken / sizeof *broken; i++) {
    WATTLE_EXPECT(GET(broken[i], "a").len == 0);
  }
#define TEXT(json) wattle_json_text(&w, (wattle_bytes){json, strlen(json)})
  WATTLE_EXPECT(IS(TEXT("\"a\\n\\\"\\/\\u00e9\\u20ac\\ud83d\\ude00\""), "a\n\"/\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80"));
  WATTLE_EXPECT(IS(TEXT("\"\\ud83d \\ude00 \\u00\""), "\xef\xbf\xbd \xef\xbf\xbd \xef\xbf\xbd""00"));
  WATTLE_EXPECT(IS(TEXT("\"\""), "") && TEXT("1").data == NULL && TEXT("\"").data == NULL && TEXT("").data == NULL);
  wattle_end(&w);
}

int main(void) {
  integers();
  json();

  WATTLE_EXPECT(wattle_describe() == 0);
  WATTLE_EXPECT(strstr(wattle_test_host.out.data, "{\"name\":\"upper\",\"kind\":\"call\",\"description\":\"a \\\"quoted\\\" text\"}]}"));
  WATTLE_EXPECT(strstr(wattle_test_host.out.data, "{\"name\":\"sum\",\"kind\":\"combine\""));
  WATTLE_EXPECT(strncmp(wattle_test_host.out.data, "{\"abi\":1,\"functions\":[{\"name\":\"", 31) == 0);

  wattle_test_result r = wattle_test_call("upper", "hello");
  WATTLE_EXPECT(r.status == 0 && strcmp(r.output, "HELLO") == 0);
  r = wattle_test_call("fail", "");
  WATTLE_EXPECT(r.status == 1 && strcmp(r.error, "no luck") == 0);
  r = wattle_test_call("fail", "now");
  WATTLE_EXPECT(r.status == 2 && strcmp(r.error, "no luck: now") == 0);
  r = wattle_test_call("both", "");
  WATTLE_EXPECT(r.status == 2 && strcmp(r.records, "k\t-5\n") == 0 && strstr(r.error, "one of them only"));
  WATTLE_EXPECT(wattle_test_call("nobody", "").status == -1);

  r = wattle_test_call("param", "a");
  WATTLE_EXPECT(r.status == 1);
  wattle_test_params = "{\"a\":\"x\\ty\\u0001\"}";
  r = wattle_test_call("param", "a");
  WATTLE_EXPECT(r.status == 0 && strcmp(r.output, "\"x\\ty\\u0001\"") == 0);

  r = wattle_test_call("traceparent", "");
  WATTLE_EXPECT(r.status == 0 && strcmp(r.output, "<>") == 0);
  wattle_test_traceparent = "00-a-b-01";
  r = wattle_test_call("traceparent", "");
  WATTLE_EXPECT(r.status == 0 && strcmp(r.output, "<00-a-b-01>") == 0);

  r = wattle_test_map("lines", "one\r\n\ntwo\n\rlast");
  WATTLE_EXPECT(r.status == 0 && strcmp(r.records, "test.txt\t\none\t3\n\t0\ntwo\t3\n\rlast\t5\n") == 0);
  r = wattle_test_map("lines", "stop\nnot read");
  WATTLE_EXPECT(r.status == 0 && strcmp(r.records, "test.txt\t\nstop\t4\n") == 0);

  /* Lines and blocks that do not fit the buffer, of every length around it. */
  enum { LONG = 200000 };
  char *text = malloc(LONG + 20), want[128];
  for (int n = WATTLE_BLOCK - 20; n < WATTLE_BLOCK + 5; n++) {
    memset(text, 'x', LONG);
    text[n] = '\n';
    text[LONG] = 0;
    r = wattle_test_map("lines", text);
    snprintf(want, sizeof want, "test.txt\t\n%.30s\t%d\n%.30s\t%d\n", text, n, text, LONG - n - 1);
    WATTLE_EXPECT(r.status == 0 && strcmp(r.records, want) == 0);
  }
  r = wattle_test_map("blocks", text);
  WATTLE_EXPECT(r.status == 0 && strcmp(r.records, "n\t200000\n") == 0);
  free(text);

  /* More keys than the table of sums holds, short and long ones, each twice: none is lost. */
  enum { KEYS = 150000 };
  text = malloc(2 * KEYS * 20 + 1);
  char *to = text;
  for (int i = 0; i < 2 * KEYS; i++) {
    to += sprintf(to, i % 3 ? "%d\n" : "key-number-%d\n", i % KEYS);
  }
  r = wattle_test_map("letters", text);
  WATTLE_EXPECT(r.status == 0);
  long total = 0, records = 0;
  for (const char *p = r.records; *p != 0; p = strchr(p, '\n') + 1, records++) {
    total += atol(strchr(p, '\t'));
  }
  WATTLE_EXPECT(total == 2 * KEYS && records >= KEYS && records <= 2 * KEYS);
  free(text);
  r = wattle_test_map("letters", "a\nab\nabc\nabcd\nabcdefgh\nabcdefghi\nabcdefghij\n\na\nab\nabc\nabcd\nabcdefgh\nabcdefghi\nabcdefghij\n\n");
  WATTLE_EXPECT(r.status == 0 && strlen(r.records) == strlen("a2ab2abc2abcd2abcdefgh2abcdefghi2abcdefghij22") + 16);

  r = wattle_test_reduce("first", "a\t1\na\t2\nb\t3\n\t4\n");
  WATTLE_EXPECT(r.status == 0 && strcmp(r.output, "a=1;b=3;=4;") == 0);
  r = wattle_test_reduce("sum", "a\t1\na\t-2\nb\t3\n");
  WATTLE_EXPECT(r.status == 0 && strcmp(r.records, "a\t-1\nb\t3\n") == 0);
  r = wattle_test_reduce("sum", "a\t1\na\tx\nb\t3\n");
  WATTLE_EXPECT(r.status == 2 && strstr(r.error, "not the whole number"));
  r = wattle_test_reduce("sum", "");
  WATTLE_EXPECT(r.status == 0 && *r.records == 0);
  r = wattle_test_call("sum", "");
  WATTLE_EXPECT(r.status == 2 && strstr(r.error, "reads groups"));

  r = wattle_test_call("denied", "");
  WATTLE_EXPECT(r.status == 0 && strcmp(r.output, "1 capability_denied: the test does not grant it") == 0);
  r = wattle_test_call("secret", "key");
  WATTLE_EXPECT(r.status == 0 && strcmp(r.output, "0 capability_denied: the test does not grant it") == 0);
  wattle_test_secrets = "{\"key\":\"hush\",\"empty\":\"\"}";
  r = wattle_test_call("secret", "key");
  WATTLE_EXPECT(r.status == 0 && strcmp(r.output, "1 : hush") == 0);
  r = wattle_test_call("secret", "empty");
  WATTLE_EXPECT(r.status == 0 && strcmp(r.output, "1 : ") == 0);
  r = wattle_test_call("secret", "other");
  WATTLE_EXPECT(r.status == 0 && strcmp(r.output, "0 unknown_secret: the test has no such secret") == 0);
  wattle_test_ask = granted;
  r = wattle_test_call("asks", "");
  WATTLE_EXPECT(r.status == 0 && strcmp(r.output, "EUR 418 short 1 12 1 3 old 1 4") == 0);

  /* Input that the host cuts off is a fault, not an end. */
  const char cut[] = "\x01k\x05" "12";
  wattle_test_append(&wattle_test_host.in, cut, sizeof cut - 1);
  r = wattle_test_run("sum", "groups");
  WATTLE_EXPECT(r.status == 1 && strstr(r.error, "ends in the middle"));
  return 0;
}
