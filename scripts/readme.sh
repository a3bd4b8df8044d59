#!/usr/bin/env bash
# Follows the README's tour word by word, in a home directory of its own, and fails where it would fail a reader.
set -euo pipefail
cd "$(dirname "$0")/.."
repo=$PWD
tmp=$(mktemp -d)
nodes=()
cleanup() { for n in "${nodes[@]}"; do kill "$n" 2>/dev/null || true; done; wait || true; chmod -R u+w "$tmp" 2>/dev/null || true; rm -rf "$tmp"; }
trap cleanup EXIT

# Writes every block that follows a "tour" comment into a file of its own: NNN-KIND[-PATH].
mkdir "$tmp/blocks"
awk -v out="$tmp/blocks" '
  /^<!-- tour: / { kind = $3; path = ($3 == "file") ? $4 : ""; gsub("/", "%", path); next }
  kind && /^```/ && !inside { inside = 1; n++; file = sprintf("%s/%03d-%s-%s", out, n, kind, path); printf "" > file; next }
  inside && /^```/ { inside = 0; kind = ""; close(file); next }
  inside { print > file }' README.md

GOCACHE=$(go env GOCACHE) GOMODCACHE=$(go env GOMODCACHE) GOPROXY=$(go env GOPROXY)
export GOCACHE GOMODCACHE GOPROXY HOME=$tmp/home GOBIN=$tmp/bin PATH=$tmp/bin:$PATH
mkdir -p "$HOME"
for block in "$tmp"/blocks/*; do
  name=$(basename "$block")
  case $name in
    *-install-*) (cd "$repo" && bash -euo pipefail "$block") ;;
    *-node-*)
      cd "$HOME/wattle-tour"
      log=$tmp/$name.log
      $(sed "s#~#$HOME#g" "$block") >"$log" 2>&1 &
      nodes+=($!)
      for _ in $(seq 100); do grep -q 'is ready' "$log" && break; kill -0 "${nodes[-1]}" 2>/dev/null || break; sleep 0.1; done
      grep -q 'is ready' "$log" || { cat "$log"; exit 1; }
      ;;
    *-file-*) path=${name#*-file-}; cp "$block" "$HOME/wattle-tour/${path//%//}" ;;
    *-run-*) echo "--- README:"; cat "$block"; echo "---"; bash -euo pipefail "$block" ;;
  esac
done
echo "the README's tour works"
