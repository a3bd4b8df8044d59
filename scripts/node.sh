# To be sourced by checks, from the root of the repository: builds wattle, starts a node with the echo plugin as service echo, and
# stops it when the script ends. $node_flags are further flags of "wattle up". Sets $work, a folder of its own, $wattle, the binary, and $addr, where the node listens.
work=$(mktemp -d)
pid=
cleanup() {
  status=$?
  if [ -n "$pid" ]; then
    kill "$pid" 2>/dev/null || true
    wait "$pid" 2>/dev/null || true
  fi
  # The log tells why, where something failed.
  [ "$status" = 0 ] || cat "$work/log" >&2 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT

wattle=$work/wattle
go build -o "$wattle" ./cmd/wattle
GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o "$work/echo.wasm" ./plugins/echo
mkfifo "$work/ready"
"$wattle" up --data "$work/data" --addr 127.0.0.1:0 ${node_flags:-} >"$work/ready" 2>"$work/log" &
pid=$!
# One line says where the node listens; if it ends instead, the pipe does.
read -r line <"$work/ready" || { echo "the node did not start" >&2; exit 1; }
addr=${line#*http://}
addr=${addr%% *}
"$wattle" --addr "$addr" push "$work/echo.wasm" --service echo >/dev/null
