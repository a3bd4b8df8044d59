#!/usr/bin/env bash
# Calls a node with the gRPC-Web clients that web pages use. Needs Node.js and npm, and the network for npm alone.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
command -v npm >/dev/null || { echo "npm is needed: install Node.js 20 or newer" >&2; exit 1; }
[ -x .bin/buf ] || make tools >/dev/null

# shellcheck source=scripts/node.sh
source scripts/node.sh
.bin/buf build proto -o "$work/wattle.binpb"
cd scripts/grpcweb
npm ci --no-audit --no-fund --loglevel=error
node check.js "http://$addr" "$root/proto" "$work/wattle.binpb"
echo "gRPC-Web: ok"
