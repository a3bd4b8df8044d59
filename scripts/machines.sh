#!/usr/bin/env bash
# Sourced by scripts that need machines: three of them that share nothing, each in a network namespace with an address of its own and
# with a file system mounted for it alone. $tmp is a folder for all, of which each sees its own $tmp/own; $src can be read by all.
# With QUOTA set, each node gets so many percent of a core. Needs root, ip and nsenter.
[ "$(id -u)" = 0 ] || { echo "$0: run it as root: it makes network namespaces" >&2; exit 1; }
for tool in ip nsenter unshare; do command -v $tool >/dev/null || { echo "$0: $tool is missing (Debian: iproute2, util-linux)" >&2; exit 1; }; done

tmp=$(mktemp -d)
net=10.$((RANDOM % 200 + 20)).$((RANDOM % 200 + 20))
readonly machines=wt$$ # not for other use: what it names is found by it
holders=()
cleanup() {
  for h in "${holders[@]}"; do
    pkill -9 -P "$h" 2>/dev/null || true
    kill -9 "$h" 2>/dev/null || true
  done
  pkill -9 -f "$tmp/wattle up" 2>/dev/null || true
  for n in 1 2 3; do rmdir "$cgroup/$machines-$n" 2>/dev/null || true; done
  for n in 1 2 3; do ip netns del "$machines-$n" 2>/dev/null || true; done
  ip link del "$machines" 2>/dev/null || true
  rm -rf "$tmp"
}
trap cleanup EXIT

go build -o "$tmp/wattle" ./cmd/wattle
GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o "$tmp/wordcount.wasm" ./plugins/wordcount
src=${INPUT:-$(go env GOROOT)/src}
cgroup=/sys/fs/cgroup
[ -d $cgroup/cpu ] && cgroup=$cgroup/cpu
ip link add "$machines" type bridge
ip addr add "$net.254/24" dev "$machines"
ip link set "$machines" up
mkdir "$tmp/own"
for n in 1 2 3; do
  ip netns add "$machines-$n"
  ip link add "$machines$n" type veth peer name "${machines}p" netns "$machines-$n"
  ip link set "$machines$n" master "$machines" up
  ip -n "$machines-$n" addr add "$net.$n/24" dev "${machines}p"
  ip -n "$machines-$n" link set "${machines}p" up
  ip -n "$machines-$n" link set lo up
  ip -n "$machines-$n" route add default via "$net.254" # multicast goes where everything else goes
  # Holds the mounts of a machine, whatever happens to the node on it.
  ip netns exec "$machines-$n" unshare -m --propagation private sh -c "mount -t tmpfs none $tmp/own && touch $tmp/own/of-$n && exec sleep 86400" &
  holders+=($!)
  disown
done
on() { local n=$1; shift; nsenter -t "${holders[$((n - 1))]}" -m -n "$@"; }
for n in 1 2 3; do
  for _ in $(seq 100); do on $n test -e "$tmp/own/of-$n" 2>/dev/null && break; sleep 0.1; done
  [ "$(on $n ls "$tmp/own")" = "of-$n" ] || { echo "machine $n sees files of others" >&2; exit 1; }
done

declare -A pid
# quota gives the process that calls it, and what it starts, its share of a core, if there is to be one.
quota() {
  [ -n "${QUOTA:-}" ] || return 0
  local g=$cgroup/$machines-$1
  mkdir -p "$g"
  if [ -e "$g/cpu.max" ]; then
    echo "$((QUOTA * 1000)) 100000" >"$g/cpu.max"
  else
    echo 100000 >"$g/cpu.cfs_period_us" && echo $((QUOTA * 1000)) >"$g/cpu.cfs_quota_us"
  fi
  echo "$BASHPID" >"$g/cgroup.procs"
}
# freely takes the shares away again.
freely() {
  [ -n "${QUOTA:-}" ] || return 0
  for n in 1 2 3; do
    local g=$cgroup/$machines-$n
    if [ -e "$g/cpu.max" ]; then echo "max 100000" >"$g/cpu.max"; else echo -1 >"$g/cpu.cfs_quota_us"; fi
  done
}
at() { echo "$net.$1:7070"; }
up() { # machine, further flags
  local n=$1; shift
  (quota "$n" && on "$n" "$tmp/wattle" up --data "$tmp/own/data" --addr "$(at "$n")" --insecure --allow-dir "$src" "$@") >>"$tmp/node$n.log" 2>&1 &
  pid[$n]=$!
  disown
  for _ in $(seq 300); do curl -fs -m 2 "http://$(at "$n")/readyz" >/dev/null && return; kill -0 "${pid[$n]}" 2>/dev/null || break; sleep 0.1; done
  echo "node $n is not ready:" >&2; tail -5 "$tmp/node$n.log" >&2; exit 1
}
down() {
  pkill -9 -f "$tmp/wattle up --data $tmp/own/data --addr $(at "$1")" || true
  while kill -0 "${pid[$1]}" 2>/dev/null; do sleep 0.05; done
}
w() { local n=$1; shift; "$tmp/wattle" --addr "$(at "$n")" "$@"; }
whole() {
  for _ in $(seq 600); do w "$1" cluster status 2>/dev/null | grep -q '64 with all of 3 replicas' && return; sleep 0.1; done
  echo "not whole:" >&2; w "$1" cluster status >&2; exit 1
}
