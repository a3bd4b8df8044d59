#!/usr/bin/env bash
# Runs every fuzzer there is for a time each.
set -euo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# fuzz FUZZER FOLDER TIME. An input that covers something new is made smaller once only: engines are covered too, never
# twice the same, so that a fuzzer would do nothing else for a minute each. Go sometimes calls it a failure that the time is over; a real one leaves its input behind.
fuzz() {
  go test "./$2" -run '^$' -fuzz "^$1\$" -fuzztime "$3" -fuzzminimizetime 1x 2>&1 | tee "$log" && return
  grep -q 'context deadline exceeded' "$log" && ! grep -q 'Failing input written' "$log"
}

if [ $# -eq 3 ]; then # one fuzzer
  fuzz "$@"
  exit
fi
for file in $(git ls-files '*_test.go' | xargs grep -l '^func Fuzz'); do
  for name in $(grep -oE '^func Fuzz[A-Za-z0-9_]+' "$file" | cut -d' ' -f2); do
    echo "== $name in $(dirname "$file")"
    fuzz "$name" "$(dirname "$file")" "${1:-20s}"
  done
done
