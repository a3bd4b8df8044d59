#!/bin/sh
# Assembles every .wat beside it. wat2wasm is in Debian's package wabt.
set -e
cd "$(dirname "$0")"
for f in *.wat; do
	wat2wasm "$f" -o "${f%.wat}.wasm"
done
