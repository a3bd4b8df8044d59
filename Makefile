# The contract with contributors: every check is a target. `make help` lists them.
BIN := $(CURDIR)/.bin
export PATH := $(BIN):$(PATH)
GO ?= go

.PHONY: help
help: ## show this
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sort | awk -F':.*## ' '{printf "%-14s %s\n", $$1, $$2}'

.PHONY: build
build: ## build the binary into ./wattle
	$(GO) build -trimpath -o wattle ./cmd/wattle

.PHONY: test
test: ## the tests, as the README promises them
	$(GO) test ./...

SEEDS ?= 20000
START ?= 1

.PHONY: sim
sim: ## clusters in which everything goes wrong: SEEDS=20000 of them, from START=1
	$(GO) test ./internal/sim -run TestSeeds -timeout 0 -v -args -seeds $(SEEDS) -start $(START)

.PHONY: million
million: ## a million tasks that do nothing on three nodes, of which two are killed and replaced
	$(GO) test ./internal/e2e -run TestMillion -v -count=1 -timeout 60m -args -million 1000000

.PHONY: netns
netns: ## the main job on three machines that share nothing, as root
	bash scripts/netns.sh

.PHONY: spread
spread: ## what three machines bring over one, as root
	bash scripts/spread.sh

CHAOS ?= 5m
SEED ?= 0

.PHONY: chaos
chaos: ## break a cluster of real processes for CHAOS=5m while clients use it, as root; SEED=N repeats the faults of a run
	$(GO) test ./internal/chaos -run TestChaos -timeout 0 -count=1 -v -args -chaos $(CHAOS) -chaos.seed $(SEED)

.PHONY: bugs
bugs: ## whether the simulator finds the mistakes we know, each built in
	$(GO) test ./internal/sim -run TestBugs -timeout 0 -v -args -bugs 12000

.PHONY: race
race: ## the tests under the race detector
	$(GO) test -race -short ./...

.PHONY: check
check: lint generate-check test ## what to run before a commit

.PHONY: tools
tools: ## build the pinned tools into .bin
	@mkdir -p $(BIN)
	cd tools && $(GO) build -o $(BIN)/ tool

.PHONY: lint
lint: tools ## formatting, vet, staticcheck and the protos' style
	@test -z "$$(gofumpt -l $$(git ls-files '*.go' | grep -v '^gen/'))" || { gofumpt -l $$(git ls-files '*.go' | grep -v '^gen/'); echo "run make fmt"; exit 1; }
	$(GO) vet ./...
	staticcheck ./...
	GOOS=wasip1 GOARCH=wasm $(GO) vet ./sdk-guest/go/... ./plugins/...
	cd bench && $(GO) vet ./...
	buf lint

.PHONY: fmt
fmt: tools ## format everything
	gofumpt -w $$(git ls-files '*.go' | grep -v '^gen/')

.PHONY: generate
generate: tools ## generate code from the protos
	buf generate

.PHONY: generate-check
generate-check: generate ## fail if generated code is not what is committed
	@test -z "$$(git status --porcelain gen)" || { git status --porcelain gen; echo "generated code was stale"; exit 1; }

.PHONY: crash
crash: ## kill -9 a node 20 times during the main job
	$(GO) test ./internal/e2e -run 'TestCrash' -v -count=1 -timeout 30m -args -crash.kills=20 -crash.runs=4

.PHONY: powerloss
powerloss: ## crash a node at every one of its disk operations
	$(GO) test ./internal/e2e -run 'TestPowerLoss' -v -count=1 -timeout 60m -args -powerloss.all

.PHONY: fuzz
fuzz: ## every fuzzer for FUZZTIME each (default 20s)
	@bash scripts/fuzz.sh $${FUZZTIME:-20s}

.PHONY: mainjob
mainjob: ## the main job with tiny bounds: everything that only happens under pressure must happen
	$(GO) test ./internal/e2e -run 'TestMainJobUnderPressure' -v -count=1 -args -mainjob.full

.PHONY: grpcweb
grpcweb: ## call a node with the official gRPC-Web client (needs Node.js and npm)
	bash scripts/grpcweb.sh

.PHONY: grpcurl
grpcurl: tools ## call a node with grpcurl, by reflection
	bash scripts/grpcurl.sh

.PHONY: soak
soak: ## a million calls over a hundred modules: nothing may be left behind
	$(GO) test ./host -run TestSoak -count=1 -v -args -soak.calls=1000000

.PHONY: slotcheck
slotcheck: ## compare memory, globals, tables and files with the snapshot after every call
	$(GO) test -tags slotcheck -count=1 ./host
	cd bench && $(GO) test -tags slotcheck -count=1 ./...

.PHONY: sdks
sdks: ## every language from "wattle new" to a job (installs what is missing)
	bash scripts/sdks.sh

.PHONY: bench
bench: ## run all comparisons and write bench/RESULTS.md
	cd bench && $(GO) run . all
