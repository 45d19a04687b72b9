# Quorate. `make` shows what there is.
GO      ?= go
BIN     := bin
OUT     := .
PROTOS  := $(shell git ls-files '*.proto')
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X quorate/cluster.Version=$(VERSION)
# Packages whose tests raise labs, guests and targets, and so go one at a time. They
# build the programs that they run, which Go's cache of results does not know of.
HEAVY   := ./test/...
# How many fresh seeds `make test` simulates, besides the fixed ones, and from which
# on: each commit has seeds of its own, so that what fails can be run again.
SIM_FRESH ?= 30
SIM_FROM  ?= $(shell git rev-parse --short=12 HEAD 2>/dev/null || date +%s)
# The linter and the runner of tests are pinned here and not by a tool line of go.mod:
# there their modules would choose versions for the product's own.
LINT    := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
# At most three tests that failed are run once more, and what the first run said stays
# in what is printed: on a machine that others load, a lab can come to a halt.
TESTS   := $(GO) run gotest.tools/gotestsum@v1.13.0 --format standard-quiet --rerun-fails=1 --rerun-fails-max-failures=3

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: deps
deps:
	@.ci/packages

.PHONY: build
build: deps ## build the programs into bin/
	@mkdir -p $(BIN)
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/...

.PHONY: demo
demo: build ## the main job, for real, on this one machine: create, move, pull the plug
	@$(GO) build -o $(BIN)/demo ./test/demo
	@$(BIN)/demo

.PHONY: test
test: build ## all tests, end to end ones too
	$(TESTS) --packages "$$($(GO) list ./... | grep -v '^quorate/test' | tr '\n' ' ')" -- -timeout 10m
	SIM_FRESH=$(SIM_FRESH) SIM_FROM=$(SIM_FROM) $(TESTS) --packages $(HEAVY) -- -count=1 -p 1 -timeout 20m

.PHONY: scenarios
scenarios: build ## failures played on the lab and told as stories; RUN=name for some of them
	$(GO) test -v -count=1 -timeout 60m ./test/scenarios -all -run 'TestScenarios/$(RUN)'

.PHONY: race
race: deps ## all that is not end to end, under the race detector
	$(GO) test -race -timeout 20m $$($(GO) list ./... | grep -v '^quorate/test')

.PHONY: check
check: deps ## format, vet, lint, import directions, package docs, generated code
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "not formatted:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	$(GO) test -count=1 ./test
	@$(MAKE) --no-print-directory fresh
	$(GO) run $(LINT) run ./...

.PHONY: sim
sim: ## simulate clusters: the fixed seeds, or SEED=n with its story
	$(GO) run ./test/sim/run $(if $(SEED),-seed $(SEED))

.PHONY: sim-mutants
sim-mutants: ## break the product on purpose, one rule at a time: the simulator must notice
	$(GO) test -tags mutants ./test/sim -run TestMutantsAreCaught -v -timeout 60m

# What decides is pure, and is covered by its own tests and by the simulator's fixed seeds.
PURE  := ./cluster ./quorum ./migration ./csv ./csv/volume ./resources
empty :=
space := $(empty) $(empty)
comma := ,

.PHONY: cover
cover: ## how much of what decides its tests and the simulator run: 90 % at least; MISSING=1 names the rest
	@mkdir -p $(BIN)
	$(GO) test -coverprofile=$(BIN)/cover-own.out $(PURE)
	$(GO) test -run '^TestSeeds$$' -coverpkg=$(subst $(space),$(comma),$(PURE)) -coverprofile=$(BIN)/cover-sim.out ./test/sim
	$(GO) run ./test/cover $(if $(MISSING),-missing) $(BIN)/cover-own.out $(BIN)/cover-sim.out

.PHONY: sim-soak
sim-soak: ## simulate fresh seeds on all processors, for HOURS=h simulated hours
	@mkdir -p $(BIN)
	$(GO) build -o $(BIN)/sim ./test/sim/run
	$(BIN)/sim -hours $(or $(HOURS),100)

.PHONY: bench
bench: build ## figures beside what a user would pick instead
	@.ci/packages etcd-server fio glusterfs-server qemu-block-extra
	$(GO) build -o $(BIN)/bench-volume ./test/bench/volume
	$(BIN)/bench-volume
	$(GO) run ./test/bench/migration
	$(GO) build -o $(BIN)/ ./test/bench/consensus
	$(BIN)/consensus
	GOGC=400 $(GO) test -run '^$$' -bench Commit -benchtime 2s ./cluster/consensus

.PHONY: test-nfs
test-nfs: deps ## a witness and a directory on a real NFS server, in a machine of QEMU's: 5 minutes
	QUORATE_NFS=1 $(GO) test -count=1 -v -timeout 20m ./test/nfs

.PHONY: soak-load
soak-load: build ## ten minutes with every processor busy: nobody may be taken for dead
	$(GO) test -count=1 -v -timeout 20m ./test/scenarios -run TestSoakLoad -args -soak-load 10m

.PHONY: soak-moves
soak-moves: deps ## move a busy machine back and forth 200 times
	$(GO) test -count=1 -v -timeout 60m ./migration/agent -run TestManyMoves -moves 200

.PHONY: soak-volumes
soak-volumes: build ## two nodes write to one file of a volume, and its coordinator is lost 20 times under a machine: 7 minutes
	@.ci/packages fio || echo "without fio one part is skipped"
	$(GO) test -count=1 -v -timeout 40m ./test/scenarios -run TestSoakVolumes -args -soak-volumes $(or $(TIMES),20)

.PHONY: soak-power
soak-power: deps ## a volume's coordinator, a node, or all lose power between any two I/Os, in SEEDS=40 histories
	$(GO) test -count=1 -v -timeout 60m ./csv/mount -run TestPowerLoss -args -power-losses $(or $(SEEDS),40)

.PHONY: soak-fences
soak-fences: deps ## fence a node with 64 writes in flight: live, killed, stopped, the target restarted, RUNS=100 of each
	QUORATE_FENCE_RUNS=$(or $(RUNS),100) $(GO) test -count=1 -v -timeout 60m ./disk/iscsi -run TestLateWrites

.PHONY: lab
lab: build ## raise a cluster in a box and leave it up
	$(BIN)/clusterlab up

.PHONY: generate
generate: ## make the protobuf code anew
	@mkdir -p $(BIN)/tools $(OUT)
	$(GO) build -o $(BIN)/tools/ google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/cmd/protoc-gen-connect-go
	@for p in $(PROTOS); do \
	  c=; grep -q '^service' $$p && c="--connect-go_out=$(OUT) --connect-go_opt=module=quorate"; \
	  PATH=$(CURDIR)/$(BIN)/tools:$$PATH protoc -I . --go_out=$(OUT) --go_opt=module=quorate $$c $$p || exit 1; done

# The version of protoc is in a comment of what it writes, and does not count.
.PHONY: fresh
fresh:
	@command -v protoc >/dev/null || { echo "no protoc (Debian: protobuf-compiler): the protobuf code is not compared"; exit 0; }; \
	rm -rf $(BIN)/_fresh && $(MAKE) --no-print-directory generate OUT=$(BIN)/_fresh && \
	for f in $$( (git ls-files '*.pb.go' '*.connect.go'; cd $(BIN)/_fresh; find . -name '*.go' | sed 's,^\./,,') | sort -u); do \
	  diff -I '^//.*protoc  *v' $$f $(BIN)/_fresh/$$f || { echo "$$f is not what its .proto makes: run make generate"; exit 1; }; done

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN)
