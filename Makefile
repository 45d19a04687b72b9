# Quorate. `make` shows what there is.
GO      ?= go
BIN     := bin
PROTOS  := $(shell git ls-files '*.proto')
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
LDFLAGS := -X quorate/cluster.Version=$(VERSION)

.DEFAULT_GOAL := help

.PHONY: help
help: ## show this
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build the programs into bin/
	@mkdir -p $(BIN)
	$(GO) build -ldflags '$(LDFLAGS)' -o $(BIN)/ ./cmd/...

.PHONY: generate
generate: ## make the protobuf code anew
	@mkdir -p $(BIN)/tools
	$(GO) build -o $(BIN)/tools/ google.golang.org/protobuf/cmd/protoc-gen-go connectrpc.com/connect/cmd/protoc-gen-connect-go
	@for p in $(PROTOS); do \
	  c=; grep -q '^service' $$p && c="--connect-go_out=. --connect-go_opt=module=quorate"; \
	  PATH=$(CURDIR)/$(BIN)/tools:$$PATH protoc -I . --go_out=. --go_opt=module=quorate $$c $$p || exit 1; done

.PHONY: clean
clean: ## remove what was built
	rm -rf $(BIN)
