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
  awk -v n="$1" -v ms="$2" 'BEGIN {
    printf "{name: naps, stages: [{name: nap, function: nap/nap, items: ["
    for (i = 0; i < n; i++) printf "%s\"%d %d\"", i ? "," : "", ms, i
    print "]}]}" }'
}
naps "$tasks" $each >"$tmp/naps.yaml"
naps 200 20 >"$tmp/warm.yaml"
awk 'BEGIN {
  printf "{name: noops, stages: [{name: noop, function: noop/noop, items: ["
  for (i = 0; i < 20000; i++) printf "%sx", i ? "," : ""
  print "]}]}" }' >"$tmp/noops.yaml"

run() { # node, spec: prints the job
  local id
  id=$(w "$1" job run "$2" --detach --output json | grep -o '"id": *"[^"]*"' | head -1 | cut -d'"' -f4)
  w "$1" job watch "$id" >/dev/null 2>&1 || { w "$1" job get "$id" >&2; exit 1; }
  echo "$id"
}
seconds() { # node, job: how long it took
  w "$1" job get "$2" | sed -n 's/.* completed in //p' | awk '{
    s = 0
    while (match($0, /^[0-9.]+(h|ms|m|s)/)) {
      n = substr($0, 1, RLENGTH); $0 = substr($0, RLENGTH + 1); v = n + 0
      s += n ~ /ms$/ ? v / 1000 : n ~ /s$/ ? v : n ~ /m$/ ? v * 60 : v * 3600
    }
    print s }'
}
result() { w "$1" job get "$2" --result | LC_ALL=C sort | sha256sum | cut -c1-16; }
metric() { # name: the sum over the nodes
  for n in 1 2 3; do curl -s "http://$(at "$n")/metrics"; done | awk -v m="$1" '$1 == m { s += $2 } END { print s + 0 }'
}
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
rounds=${ROUNDS:-3}

up 1 --slots $slots
w 1 push "$tmp/wordcount.wasm" --service wordcount >/dev/null
for g in nap noop; do w 1 push "testdata/wat/$g.wasm" --service $g >/dev/null; done
first=$(run 1 "$tmp/job.yaml")
want=$(result 1 "$first")
alone=$(for _ in $(seq "$rounds"); do seconds 1 "$(run 1 "$tmp/job.yaml")"; done | median)
up 2 --slots $slots --join "$(at 1)"
up 3 --slots $slots --join "$(at 1)"
whole 1
run 1 "$tmp/job.yaml" >/dev/null # modules are compiled everywhere now
for _ in $(seq "$rounds"); do
  id=$(run 1 "$tmp/job.yaml")
  got=$(result 1 "$id")
  [ "$got" = "$want" ] || { echo "other counts on three nodes: $got instead of $want" >&2; exit 1; }
  seconds 1 "$id"
done >"$tmp/three"
three=$(median <"$tmp/three")
echo "main job, $QUOTA % of a core for each node: $alone s on one, $three s on three, speed-up $(awk -v a="$alone" -v b="$three" 'BEGIN { printf "%.2f", a / b }'), the same counts"

freely # they compute nothing
run 1 "$tmp/warm.yaml" >/dev/null
given=$(metric wattle_tasks_given_total) returned=$(metric wattle_tasks_returned_total)
for _ in $(seq "$rounds"); do seconds 1 "$(run 1 "$tmp/naps.yaml")"; done >"$tmp/naps"
t=$(median <"$tmp/naps")
given=$(($(metric wattle_tasks_given_total) - given)) returned=$(($(metric wattle_tasks_returned_total) - returned))
echo "$tasks tasks that wait $each ms, $slots slots on each of three nodes: $t s, $(awk -v t="$t" -v n="$tasks" -v e=$each -v s=$slots 'BEGIN { ideal = int((n + 3 * s - 1) / (3 * s)) * e / 1000; printf "%.2f times the ideal %.2f s", t / ideal, ideal }'); in $rounds rounds $given given away, of which $returned came back before they began"

given=$(metric wattle_tasks_given_total)
id=$(run 1 "$tmp/noops.yaml")
given=$(($(metric wattle_tasks_given_total) - given))
echo "20000 tasks that do nothing: $(seconds 1 "$id") s, $given given away"
[ "$given" -lt 100 ] || { echo "tasks shorter than two round trips were given away" >&2; exit 1; }
