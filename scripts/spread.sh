#!/usr/bin/env bash
# What three machines bring over one, each with the same share of a core (QUOTA, in percent): the main job, started on one of them, and
# tasks that only wait, all in one shard. Prints the speed-up, the makespan of the waiting tasks beside the ideal for the slots there
# are, and how often tasks moved. See scripts/machines.sh.
set -euo pipefail
cd "$(dirname "$0")/.."
export QUOTA=${QUOTA:-40}
. scripts/machines.sh
slots=8 tasks=${TASKS:-3000} each=10
cat >"$tmp/job.yaml" <<YAML
name: wordcount
stages:
  - {name: count, function: wordcount/map, combiner: wordcount/sum, files: {dir: "$src", glob: "*.go", split_bytes: 500000}}
  - {name: total, function: wordcount/reduce, reduce: {stage: count, partitions: 12}}
YAML
naps() { # tasks, milliseconds: a job of so many tasks that wait
  echo "{name: naps, stages: [{name: nap, function: nap/nap, items: [$(for i in $(seq "$1"); do printf '"%d %d",' "$2" "$i"; done | sed 's/,$//')]}]}"
}
naps "$tasks" $each >"$tmp/naps.yaml"
naps 200 20 >"$tmp/warm.yaml"
yes x | head -20000 | sed 's/.*/"x",/' | tr -d '\n' | sed 's/,$//' | { read -r items; echo "{name: noops, stages: [{name: noop, function: noop/noop, items: [$items]}]}"; } >"$tmp/noops.yaml"

job() { w "$1" job run "$2" --output json | tr -d ' \n' | grep -o '"id":"[^"]*"' | head -1 | cut -d'"' -f4; }
took() { # node, job, seconds
  w "$1" job get "$2" --output json | python3 -c '
import json, sys, datetime
j = json.load(sys.stdin); j = j.get("job", j)
t = lambda s: datetime.datetime.fromisoformat(s.replace("Z", "+00:00")[:26].rstrip("+") + ("+00:00" if "+00:00" not in s.replace("Z", "+00:00")[:26] else ""))
print((t(j["finalizedAt"]) - t(j["createdAt"])).total_seconds())'
}
digest() { w "$1" job get "$2" --result | LC_ALL=C sort | sha256sum | cut -c1-16; }
metric() { for n in $1; do curl -s "http://$(at "$n")/metrics"; done | awk -v m="$2" '$1 == m { s += $2 } END { print s + 0 }'; }
