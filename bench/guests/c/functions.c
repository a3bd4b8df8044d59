// What is called with a clean state: nothing, an echo, and the hash of as many made-up bytes as the input has.
#include "wattle/wattle.h"

int32_t sha(int32_t n);

WATTLE_CALL(noop, "does nothing") {
  (void)w;
  return 0;
}

WATTLE_CALL(echo, "answers the bytes it gets") {
  wattle_bytes in = wattle_input(w);
  wattle_write(w, in.data, in.len);
  return 0;
}

WATTLE_CALL(hash, "hashes as many bytes as it gets") {
  int32_t h = sha((int32_t)wattle_input(w).len);
  wattle_write(w, &h, sizeof h);
  return 0;
}
