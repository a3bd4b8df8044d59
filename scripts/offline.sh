#!/usr/bin/env bash
# A new project from "wattle new" to its first call with the network off and nothing cached: in a network namespace of its own, with
# an empty module and build cache.
set -euo pipefail
cd "$(dirname "$0")/.."
if ! unshare -rn true 2>/dev/null && ! unshare -n true 2>/dev/null; then
  echo "offline: skipped, this machine lets nobody make a network namespace"
  exit 0
fi
tmp=$(mktemp -d)
trap 'chmod -R u+w "$tmp"; rm -rf "$tmp"' EXIT
go build -o "$tmp/wattle" ./cmd/wattle
cat >"$tmp/inside.sh" <<'INSIDE'
set -euo pipefail
ip link set lo up
cd "$TMP"
wattle up >up.log 2>&1 &
node=$!
trap 'kill $node; wait $node' EXIT
for _ in $(seq 100); do grep -q 'is ready' up.log && break; sleep 0.1; done
wattle new hello --lang go && cd hello && go test ./... && wattle build && wattle push hello.wasm --service hello && wattle call hello/hello --data '{"name":"Ada"}' | tee ../answer
grep -q 'Hello, Ada!' ../answer
INSIDE
run="unshare -n"
[ "$(id -u)" = 0 ] || run="unshare -rn"
env -u WATTLE_ADDR TMP="$tmp" HOME="$tmp" GOPATH="$tmp/gopath" GOCACHE="$tmp/cache" GOFLAGS= PATH="$tmp:$PATH" $run bash "$tmp/inside.sh"
echo
echo "a new project works with the network off"
