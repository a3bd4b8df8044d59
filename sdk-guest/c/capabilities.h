/* ---- What the host is asked for: settings, secrets, HTTP, other functions, memory that calls share ---- */

/* Makes a request of the host by the number docs/abi.md of Wattle gives it. Where it is refused, w->refusal says why: a stable word, such
   as "capability_denied". */
WATTLE_API bool wattle_ask(wattle *w, int op, const void *request, size_t len, wattle_bytes *reply) {
  int64_t code = wattle_abi_host_call(op, (void *)(uintptr_t)request, len);
  size_t n = (size_t)(code >= 0 ? code : code == -1 ? 0 : -2 - code);
  char *p = wattle_alloc(w, n + 1);
  n = n > 0 ? (size_t)wattle_abi_host_call(0, p, n) : 0;
  p[n] = 0;
  *reply = (wattle_bytes){p, n};
  if (code >= 0) {
    w->refusal = NULL;
    return true;
  }
  wattle_bytes reason = wattle_json_text(w, wattle_json_get(w, *reply, "reason"));
  w->refusal = reason.data != NULL ? reason.data : "unknown_operation";
  *reply = wattle_json_text(w, wattle_json_get(w, *reply, "message"));
  return false;
}

/* Makes a request of JSON and bytes. */
WATTLE_API bool wattle_ask_headed(wattle *w, int op, wattle_bytes head, const void *body, size_t len, wattle_bytes *reply) {
  char *request = wattle_alloc(w, head.len + len + 10), *to = wattle_varint(request, head.len);
  memcpy(to, head.data, head.len);
  if (len > 0) {
    memcpy(to + head.len, body, len);
  }
  return wattle_ask(w, op, request, (size_t)(to - request) + head.len + len, reply);
}

/* Answers a setting of the version (wattle push --config); no data where there is none. */
WATTLE_API wattle_bytes wattle_config(wattle *w, const char *name) {
  wattle_bytes value;
  return wattle_ask(w, 5, name, strlen(name), &value) ? value : (wattle_bytes){NULL, 0};
}

/* Reads a secret. The version needs a grant for it: wattle push --allow-secret. Where it is refused, value is the message, and w->refusal is "capability_denied"
   where there is no grant, "unknown_secret" where there is no such secret. */
WATTLE_API bool wattle_secret(wattle *w, const char *name, wattle_bytes *value) { return wattle_ask(w, 6, name, strlen(name), value); }

/* Calls a function of a service, by its default version where version is "". The version needs a grant for it: wattle push --allow-call.
   Where it fails, answer is the message. */
WATTLE_API bool wattle_call_service(wattle *w, const char *service, const char *version, const char *function, const void *payload, size_t len,
                                    wattle_bytes *answer) {
  wattle_bytes head = wattle_format(w, "{\"service\":%s,\"version\":%s,\"function\":%s}", wattle_json_quote(w, service, strlen(service)).data,
                                    wattle_json_quote(w, version, strlen(version)).data, wattle_json_quote(w, function, strlen(function)).data);
  return wattle_ask_headed(w, 8, head, payload, len, answer);
}

/* Makes an HTTP request and answers its status, 0 where it is refused, with the message in answer. headers are a JSON object of texts, or
   NULL. The version needs a grant for the host and the method: wattle push --allow-http. */
WATTLE_API int wattle_http(wattle *w, const char *method, const char *url, const char *headers, const void *body, size_t len, wattle_bytes *answer) {
  wattle_bytes head = wattle_format(w, "{\"method\":%s,\"url\":%s,\"headers\":%s}", wattle_json_quote(w, method, strlen(method)).data,
                                    wattle_json_quote(w, url, strlen(url)).data, headers != NULL ? headers : "{}");
  wattle_bytes reply;
  if (!wattle_ask_headed(w, 7, head, body, len, &reply)) {
    *answer = reply;
    return 0;
  }
  size_t n = 0, at = 0;
  for (int shift = 0; at < reply.len && shift < 35; shift += 7) {
    uint8_t c = (uint8_t)reply.data[at++];
    n |= (size_t)(c & 0x7f) << shift;
    if (c < 0x80) {
      break;
    }
  }
  int64_t status = 0;
  if (n <= reply.len - at) {
    wattle_int(wattle_json_get(w, (wattle_bytes){reply.data + at, n}, "status"), &status);
    *answer = (wattle_bytes){reply.data + at + n, reply.len - at - n};
  }
  return (int)status;
}

/* Reads the memory that the functions of the service share on a node (wattle push --allow-cache). An entry that is not there has the
   version 0 and no data. */
WATTLE_API bool wattle_cache_get(wattle *w, const char *key, wattle_bytes *value, uint64_t *version) {
  wattle_bytes reply;
  *version = 0;
  *value = (wattle_bytes){NULL, 0};
  if (!wattle_ask(w, 9, key, strlen(key), &reply) || reply.len < 8) {
    return false;
  }
  *version = wattle_load(reply.data, 8);
  if (*version > 0) {
    *value = (wattle_bytes){reply.data + 8, reply.len - 8};
  }
  return true;
}

/* Sets an entry, for a time where ttl_ms is not 0, and removes it where that is negative. Where expect is not NULL it does so only if the
   entry's version is that still (0: there is none), and puts the version there is then into it. Answers whether it was done. */
WATTLE_API bool wattle_cache_put(wattle *w, const char *key, const void *value, size_t len, int64_t ttl_ms, uint64_t *expect) {
  wattle_bytes expected = expect != NULL ? wattle_format(w, ",\"expect\":%llu", (unsigned long long)*expect) : (wattle_bytes){"", 0};
  wattle_bytes head = wattle_format(w, "{\"key\":%s,\"ttl_ms\":%lld%s}", wattle_json_quote(w, key, strlen(key)).data, (long long)ttl_ms, expected.data);
  wattle_bytes reply;
  if (!wattle_ask_headed(w, 10, head, value, len, &reply) || reply.len < 9) {
    return false;
  }
  if (expect != NULL) {
    *expect = wattle_load(reply.data, 8);
  }
  return reply.data[8] == 1;
}
