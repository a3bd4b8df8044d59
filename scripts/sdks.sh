#!/usr/bin/env bash
# Every language from "wattle new" to its first call, then its echo and word count beside those of the others: they have to agree to
# the byte. Installs the languages' tools from Debian and npm where they are missing, and skips nothing.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD

missing=()
command -v clang >/dev/null && [ -e /usr/include/wasm32-wasi/stdlib.h ] || missing+=(clang lld wasi-libc libclang-rt-dev-wasm32)
command -v cc >/dev/null || missing+=(gcc libc6-dev)
command -v make >/dev/null || missing+=(make)
{ [ -x /usr/bin/rustc ] && [ -x /usr/bin/cargo ] && [ -d /usr/lib/rustlib/wasm32-unknown-unknown/lib ]; } || missing+=(rustc cargo libstd-rust-dev-wasm32)
{ command -v node && command -v npm; } >/dev/null || missing+=(nodejs npm)
if [ "${#missing[@]}" -gt 0 ]; then
  apt-get update -q && apt-get install -yq --no-install-recommends "${missing[@]}"
fi

# The input: real text, and what is hard about splits, lines and words.
input=$(mktemp -d)
trap 'rm -rf "$input"' EXIT
cp -r "$(go env GOROOT)"/src/{fmt,net,strconv,unicode} "$input"
printf 'no end of line' >"$input/last.go"
printf 'a\r\nB\rc\n\n%s\n' "$(head -c 300000 /dev/zero | tr '\0' 'x')" >"$input/long.go"
: >"$input/empty.go"
head -c 3000000 /dev/urandom >"$input/random.go"

# shellcheck disable=SC2034
node_flags="--allow-dir $input"
# shellcheck source=scripts/node.sh
source scripts/node.sh
trap 'cleanup; rm -rf "$input"' EXIT
export WATTLE_ADDR=$addr PATH=$work:$PATH
fail() { echo "sdks: $*" >&2; exit 1; }
cd "$work"

# What a word is, said by other tools.
LC_ALL=C find "$input" -name '*.go' -exec sh -c 'for f; do tr A-Z a-z <"$f" | tr -cs a-z "\n"; echo; done' sh {} + |
  grep . | LC_ALL=C sort | uniq -c | awk '{printf "%s\t%s\n", $2, $1}' >want
cat >count.yaml <<'SPEC'
name: word count
stages:
  - name: count
    function: ${service}/map
    combiner: ${service}/sum
    files: {dir: "${dir}", glob: "*.go", split_bytes: 200000}
  - name: total
    function: ${service}/reduce
    reduce: count
SPEC

# npm talks a lot.
quiet='s/npm install/npm install --no-audit --no-fund --loglevel=error/'
for lang in go rust assemblyscript c javascript; do
  echo "--- $lang: a new project"
  wattle new "hello-$lang" --lang "$lang" >new.log
  cd "hello-$lang"
  # What "wattle new" says comes next is what is done.
  next=$(sed -n 's/^ *cd [^ ]* && //p' ../new.log | sed "$quiet")
  echo "$next"
  eval "$next"
  got=$(wattle call "hello-$lang/hello" --data '{"name":"Ada"}')
  [ "$got" = '{"message":"Hello, Ada!"}' ] || fail "$lang answers $got"
  got=$(wattle call "hello-$lang/hello" --data '{"name":7}' 2>&1) && fail "$lang takes a number for a name: $got"
  cd ..

  if [ "$lang" = go ]; then
    (cd "$root" && GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -o "$work/words.wasm" ./plugins/wordcount)
  else
    echo "--- $lang: echo and word count"
    wattle new "words-$lang" --lang "$lang" >new.log
    cp -r "$root/plugins/polyglot/$lang/." "words-$lang"
    cd "words-$lang"
    eval "$(sed -n 's/^ *cd [^ ]* && \(.*\) && wattle push.*/\1/p' ../new.log | sed "$quiet")"
    cd ..
    if [ -d "$root/sdk-guest/testdata/$lang" ]; then
      echo "--- $lang: the SDK's own tests"
      cp -r "words-$lang" "sdk-$lang"
      cp -r "$root/sdk-guest/testdata/$lang/." "sdk-$lang"
      cd "sdk-$lang"
      if [ "$lang" = javascript ]; then
        # The program is tested twice: as it is, and as the module that is made of it.
        wattle build -o sdk.wasm
        cp "$root/sdk-guest/assemblyscript/testing.mjs" wattle/module.mjs
        for file in broken/*.js; do
          got=$(wattle push "$file" --service broken 2>&1) && fail "$file can be pushed"
          while read -r want; do
            [[ $got == *"$want"* ]] || fail "$file: no \"$want\" in: $got"
          done < <(sed -n 's,^// wants: ,,p' "$file")
        done
      fi
      npm test
      cd ..
    fi
    cp "words-$lang/words-$lang.wasm" words.wasm
    if [ "$lang" = javascript ]; then
      wattle push "words-$lang/app.js" --service echo >/dev/null
    else
      wattle push words.wasm --service echo >/dev/null
    fi
  fi
  wattle push words.wasm --service "$lang" >/dev/null
  if [ "$lang" != go ]; then
    got=$(wattle call "$lang/visit" 2>&1) && fail "$lang uses a cache it was not granted: $got"
    [[ $got == *"capability_denied"* || $got == *"was not granted"* ]] || fail "$lang without a grant: $got"
    wattle push words.wasm --service "$lang" --config greeting=Hello --allow-cache >/dev/null
    got="$(wattle call "$lang/visit"), $(wattle call "$lang/visit")"
    [ "$got" = "Hello 1, Hello 2" ] || fail "$lang with grants answers $got"
  fi
  for file in random.go empty.go; do
    wattle call echo/echo --file "$input/$file" | cmp - "$input/$file" || fail "the echo of $lang is not what it was given"
  done
  start=$(date +%s%N)
  wattle job run count.yaml --set service="$lang" --set dir="$input" >job.log 2>&1 || { cat job.log; fail "the word count of $lang failed"; }
  took=$((($(date +%s%N) - start) / 1000000))
  job=$(grep -oE '\b[0-9a-z]{26}\b' job.log | head -1)
  wattle job get "$job" --result | LC_ALL=C sort >got
  cmp got want || fail "the word count of $lang differs"
  echo "$lang: $(stat -c %s words.wasm) bytes, $(wc -l <got) words counted in $took ms"
done
echo "SDKs: ok"
