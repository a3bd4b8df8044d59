#!/usr/bin/env bash
# The main job on three nodes that share nothing: each in a network namespace with an address of its own, and with a file system
# mounted for it alone. Each of them is killed in the middle of a job, one is wiped; the counts must be exact every time.
# See scripts/machines.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/machines.sh
cat >"$tmp/job.yaml" <<YAML
name: wordcount
stages:
  - {name: count, function: wordcount/map, combiner: wordcount/sum, files: {dir: "$src", glob: "*.go"}}
  - {name: total, function: wordcount/reduce, reduce: {stage: count}}
YAML

submit() { w "$1" job run "$tmp/job.yaml" --detach --output json | grep -o '"id": *"[^"]*"' | head -1 | cut -d'"' -f4; }
result() { # node, job: its digest
  w "$1" job watch "$2" >/dev/null 2>&1
  w "$1" job get "$2" --result | LC_ALL=C sort | sha256sum | cut -c1-16
}
begun() { for _ in $(seq 600); do w "$1" job get "$2" --output json | grep -q '"completed": *[1-9]' && return; sleep 0.02; done; }

up 1
up 2 --join "$(at 1)"
up 3 --discover
whole 1
w 2 push "$tmp/wordcount.wasm" --service wordcount >/dev/null
want=$(result 3 "$(submit 3)")
echo "three nodes at $(at 1), $(at 2), $(at 3): the main job gives $want"
for n in 1 2 3; do
  other=$((n % 3 + 1))
  job=$(submit $other)
  begun $other "$job"
  down $n
  got=$(result $other "$job")
  [ "$got" = "$want" ] || { echo "node $n killed: $got instead of $want" >&2; exit 1; }
  up $n
  whole $n
  echo "node $n killed in the middle of job $job: the same counts; it is back and has caught up"
done
down 2
on 2 rm -rf "$tmp/own/data"
up 2 --join "$(at 1),$(at 3)"
whole 2
got=$(result 2 "$(submit 2)")
[ "$got" = "$want" ] || { echo "node 2 wiped: $got instead of $want" >&2; exit 1; }
echo "node 2 wiped: it is back as another, has its replicas, and the counts are the same"
