#!/usr/bin/env bash
# Talks to a node with grpcurl, which knows nothing of it but what reflection tells.
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .bin/grpcurl ] || make tools >/dev/null
# shellcheck source=scripts/node.sh
source scripts/node.sh

# want TEXT WHAT: fails unless the answer in $got contains the text.
want() {
  grep -qF -- "$1" <<<"$got" || { printf 'grpcurl %s: no %s in:\n%s\n' "$2" "$1" "$got" >&2; exit 1; }
}
grpcurl() { .bin/grpcurl -plaintext "$@" 2>&1; }

got=$(grpcurl "$addr" list)
for service in RegistryService InvokeService JobService NodeService; do
  want "wattle.v1.$service" list
done
want grpc.health.v1.Health list

got=$(grpcurl "$addr" describe wattle.v1.InvokeService.Invoke)
want 'rpc Invoke ( .wattle.v1.InvokeRequest ) returns ( .wattle.v1.InvokeResponse )' describe
got=$(grpcurl "$addr" describe wattle.v1.StageSpec)
want 'repeated string after = 3' describe

got=$(grpcurl "$addr" grpc.health.v1.Health/Check)
want '"status": "SERVING"' health

payload=$(printf 'hello grpcurl' | base64)
got=$(grpcurl -d "{\"service\":\"echo\",\"function\":\"echo\",\"payload\":\"$payload\"}" "$addr" wattle.v1.InvokeService/Invoke)
want "\"payload\": \"$payload\"" Invoke
want '"version": "1"' Invoke

# An error has its code, its text and its detail, and grpcurl's status is 64 plus the code: NOT_FOUND is 5.
status=0
got=$(grpcurl -d '{"service":"nobody","function":"echo"}' "$addr" wattle.v1.InvokeService/Invoke) || status=$?
[ "$status" = 69 ] || { echo "grpcurl: status $status for an unknown service, want 69: $got" >&2; exit 1; }
want 'Code: NotFound' Invoke
want '"reason": "unknown_service"' Invoke

# A job by a stream: submit, watch to the end, read.
got=$(grpcurl -d '{"idempotencyKey":"grpcurl","spec":{"name":"g","stages":[{"name":"a","function":"echo/echo","items":{"items":["one","two"]}}]}}' "$addr" wattle.v1.JobService/SubmitJob)
want '"created": true' SubmitJob
job=$(grep -oE '"id": "[0-9a-z]{26}"' <<<"$got" | cut -d'"' -f4)
got=$(grpcurl -d "{\"id\":\"$job\"}" "$addr" wattle.v1.JobService/WatchJob)
want JOB_STATE_COMPLETED WatchJob
got=$(grpcurl -d "{\"id\":\"$job\"}" "$addr" wattle.v1.JobService/ReadResult)
want "\"data\": \"$(printf one | base64)\"" ReadResult
want "\"data\": \"$(printf two | base64)\"" ReadResult
echo "grpcurl: ok"
